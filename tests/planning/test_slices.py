from __future__ import annotations

import pytest

from merging.errors import RecipeError
from merging.planning.build import plan
from merging.recipe.recipe import Recipe, Slice, SliceSource
from tests.planning.models import Models, changed, jobs, models, problem, problems, without

STACKED = """
merge_method: passthrough
slices:
- sources: [{model: base, layer_range: [0, 3]}]
- sources: [{model: a, layer_range: [1, 4]}]
"""
MERGED = """
merge_method: slerp
base_model: base
slices:
- sources: [{model: base, layer_range: [0, 2]}, {model: a, layer_range: [0, 2]}]
- sources: [{model: b, layer_range: [2, 4]}, {model: base, layer_range: [1, 3]}]
  parameters: {t: 0.25}
parameters: {t: [0, 0.5]}
"""
Q = "model.layers.{}.self_attn.q_proj.weight"


def _deep(kind: str = "llama", **sizes: int) -> Models:
    return models(kind, layers=4, **sizes)


def test_output_layers_are_numbered_consecutively() -> None:
    made = plan(STACKED, checkpoints=_deep())
    found = jobs(made)
    sources = [(found[Q.format(i)].operands[0].model, found[Q.format(i)].operands[0].name) for i in range(6)]
    assert sources == [(0, Q.format(0)), (0, Q.format(1)), (0, Q.format(2))] + [(1, Q.format(i)) for i in (1, 2, 3)]
    assert [found[Q.format(i)].layer for i in range(6)] == list(range(6))
    assert Q.format(6) not in found


def test_embeddings_come_from_the_first_slice_and_the_head_from_the_last() -> None:
    made = plan(STACKED, checkpoints=_deep())
    ends = {name: job.operands[0].model for name, job in jobs(made).items() if job.layer is None}
    assert ends == {"model.embed_tokens.weight": 0, "model.norm.weight": 1, "lm_head.weight": 1}
    assert [job.layer for job in made.jobs] == [None, *(i for i in range(6) for _ in range(9)), None, None]


def test_one_model_unchanged_is_copied_bit_for_bit() -> None:
    assert {job.rule for job in plan(STACKED, checkpoints=_deep()).jobs} == {"copy"}


def test_a_scaled_tensor_is_merged_and_the_others_copied() -> None:
    scaled = STACKED.replace("[1, 4]}", "[1, 4], parameters: {scale: [{filter: o_proj, value: 0}, {value: 1}]}}")
    rules = {name: job.rule for name, job in jobs(plan(scaled, checkpoints=_deep())).items()}
    merged = {name for name, rule in rules.items() if rule == "merge"}
    assert merged == {f"model.layers.{i}.self_attn.o_proj.weight" for i in (3, 4, 5)}


def test_slices_of_several_models_merge_the_layers_that_they_name() -> None:
    made = plan(MERGED, checkpoints=_deep())
    found = jobs(made)
    keys = [model.location for model in made.models]

    def inputs(name: str) -> list[tuple[str, str]]:
        return [(keys[each.model], each.name) for each in found[name].operands]

    assert inputs(Q.format(0)) == [("base", Q.format(0)), ("a", Q.format(0))]
    assert inputs(Q.format(3)) == [("base", Q.format(2)), ("b", Q.format(3))]
    assert inputs("model.embed_tokens.weight") == [(key, "model.embed_tokens.weight") for key in ("base", "a")]
    assert inputs("lm_head.weight") == [(key, "lm_head.weight") for key in ("base", "b")]


def test_gradients_run_within_the_slice_and_a_slice_has_its_own_values() -> None:
    found = jobs(plan(MERGED, checkpoints=_deep()))
    assert [found[Q.format(i)].parameters["t"] for i in range(4)] == [0, 0.5, 0.25, 0.25]
    assert found["model.embed_tokens.weight"].parameters["t"] == 0
    assert found["lm_head.weight"].parameters["t"] == 0.25


def test_a_slice_of_one_layer_takes_the_end_of_a_gradient() -> None:
    single = MERGED.replace("[0, 2]", "[0, 1]")
    assert jobs(plan(single, checkpoints=_deep()))[Q.format(0)].parameters["t"] == 0.5


def test_the_config_tells_the_new_depth_and_repeats_lists_over_the_layers() -> None:
    found = _deep()
    types = ["full", "sliding", "full", "sliding"]
    found["base"] = changed(found["base"], layer_types=types, eos_token_id=[1, 2, 3, 4])
    found["a"] = changed(found["a"], layer_types=[f"a {each}" for each in types])
    config = plan(STACKED, checkpoints=found).config
    assert config["num_hidden_layers"] == 6
    assert config["layer_types"] == ["full", "sliding", "full", "a sliding", "a full", "a sliding"]
    assert config["eos_token_id"] == [1, 2, 3, 4]
    assert found["base"].config["num_hidden_layers"] == 4


def test_the_depth_of_a_nested_config_is_set_where_it_stands() -> None:
    found = {
        key: changed(model, num_hidden_layers=None, model_type="unheard_of", text_config={"num_hidden_layers": 4})
        for key, model in _deep().items()
    }
    assert plan(STACKED, checkpoints=found).config["text_config"] == {"num_hidden_layers": 6}


def test_a_config_without_depth_is_warned_about() -> None:
    found = {key: changed(model, num_hidden_layers=None) for key, model in _deep().items()}
    assert any("does not say how many layers" in each for each in plan(STACKED, checkpoints=found).warnings)


def test_layers_that_do_not_exist_are_found_before_the_merge() -> None:
    listed = problems(STACKED.replace("[1, 4]", "[2, 9]"), _deep())
    assert [each.what for each in listed] == ["a has 4 layers, not layers 2 to 8"]
    assert "line 5" in str(listed[0].where) and "slices[1].sources[0].layer_range" in str(listed[0].where)


def test_sources_of_a_slice_span_equally_many_layers() -> None:
    sources = (SliceSource("base", (0, 2)), SliceSource("a", (0, 3)))
    recipe = Recipe("linear", slices=(Slice(sources),))
    with pytest.raises(RecipeError, match="different numbers of layers"):
        plan(recipe, checkpoints=_deep())


@pytest.mark.parametrize(("kind", "said"), [("t5", "encoder (2), decoder (2)"), ("mixed", "mixed has no layers")])
def test_models_without_one_stack_of_layers_refuse_slices(kind: str, said: str) -> None:
    found = {key.replace("base", kind) if kind == "mixed" else key: model for key, model in models(kind).items()}
    recipe = "merge_method: passthrough\nslices: [{sources: [{model: KEY, layer_range: [0, 1]}]}]\n"
    text = problem(recipe.replace("KEY", kind if kind == "mixed" else "base"), found)
    assert said in text and "models:" in text


def test_the_base_model_may_stand_outside_a_slice_whose_layers_agree() -> None:
    recipe = MERGED.replace("slerp", "ties").replace("t: [0, 0.5]", "weight: 1").replace("t: 0.25", "weight: 2")
    aligned = recipe.replace("{model: base, layer_range: [0, 2]}, ", "")
    found = jobs(plan(aligned, checkpoints=_deep()))
    base = found[Q.format(1)].base
    assert base is not None and base.name == Q.format(1)
    apart = recipe.replace("{model: base, layer_range: [1, 3]}", "{model: a, layer_range: [0, 2]}")
    text = problem(apart, _deep())
    assert "the base model base is not among the sources of the slice" in text


def test_a_slice_may_have_a_base_model_of_its_own() -> None:
    recipe = """
merge_method: task_arithmetic
slices:
- sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [0, 2]}]
  base_model: b
- sources: [{model: a, layer_range: [2, 4]}, {model: base, layer_range: [2, 4]}]
  base_model: base
parameters: {weight: 1}
"""
    made = plan(recipe, checkpoints=_deep())
    keys = [model.location for model in made.models]
    bases = [base and keys[base.model] for base in (jobs(made)[Q.format(i)].base for i in range(4))]
    assert bases == ["b", "b", "base", "base"]


def test_tensors_that_only_one_source_has_are_reported_within_its_layers() -> None:
    found = _deep()
    extra = {f"model.layers.{i}.self_attn.gate": found["a"].read("model.norm.weight") for i in (1, 3)}
    found["a"] = changed(found["a"], lambda held: held | extra)
    text = problem(MERGED, found)
    assert "a has 1 tensor that base lacks" in text and "model.layers.1.self_attn.gate" in text


def test_a_missing_layer_tensor_is_named_as_the_model_should_have_it() -> None:
    found = _deep()
    found["b"] = without(found["b"], Q.format(3))
    text = problem(MERGED, found)
    assert "b lacks 1 of" in text and Q.format(3) in text


def test_models_of_different_depth_are_stacked() -> None:
    found = _deep()
    found["a"] = models(layers=6)["a"]
    assert plan(STACKED, checkpoints=found).config["num_hidden_layers"] == 6
    found["a"] = without(found["a"], "model.norm.weight")
    assert "a lacks 1 of" in problem(STACKED, found)


def test_a_tied_last_model_lends_its_embedding_as_head() -> None:
    found = _deep()
    found["a"] = changed(without(found["a"], "lm_head.weight"), tie_word_embeddings=True)
    head = jobs(plan(STACKED, checkpoints=found))["lm_head.weight"]
    assert (head.operands[0].model, head.operands[0].name) == (1, "model.embed_tokens.weight")


def test_whole_model_statistics_need_the_same_models_in_every_slice() -> None:
    recipe = MERGED.replace("slerp", "ties_global").replace("t: [0, 0.5]", "weight: 1").replace("t: 0.25", "weight: 1")
    assert "every slice must be made from the same models" in problem(recipe, _deep())
