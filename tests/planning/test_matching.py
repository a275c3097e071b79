from __future__ import annotations

import pytest
import torch

from merging.checkpoint.tensors import MemoryCheckpoint
from merging.errors import MatchError
from merging.planning.build import plan
from tests.planning.models import LINEAR, TIES, changed, having, jobs, models, problem, problems, without

Q = "model.layers.1.self_attn.q_proj.weight"
UP = "model.layers.0.mlp.up_proj.weight"


def test_every_tensor_is_matched_by_name_in_the_order_of_the_base_model() -> None:
    found = models()
    found["a"] = changed(found["a"], lambda held: dict(reversed(held.items())))
    made = plan(TIES, checkpoints=found)
    assert [job.spec.name for job in made.jobs] == list(found["base"].specs)
    index = {model.location: i for i, model in enumerate(made.models)}
    for job in made.jobs:
        assert [(each.model, each.name) for each in job.operands] == [(index[key], job.spec.name) for key in "ab"]


def test_the_first_model_leads_where_there_is_no_base_model() -> None:
    found = models()
    found["base"] = changed(found["base"], lambda held: dict(reversed(held.items())))
    assert [job.spec.name for job in plan(LINEAR, checkpoints=found).jobs] == list(found["base"].specs)


def test_missing_tensors_are_counted_and_named_with_the_nearest() -> None:
    found = models()
    found["a"] = changed(found["a"], lambda held: {n.replace("up_proj", "upproj"): x for n, x in held.items()})
    missing, extra = problems(TIES, found)
    assert "a lacks 2 of the 21 tensors of base" in str(missing)
    assert UP in str(missing) and "model.layers.0.mlp.upproj.weight" in str(missing)
    assert "missing_tensors: base" in str(missing)
    assert "a has 2 tensors that base lacks" in str(extra)
    assert "extra_tensors: drop" in str(extra)


def test_disagreements_of_all_models_are_reported_at_once() -> None:
    found = models()
    found["a"] = without(found["a"], Q)
    found["b"] = changed(found["b"], lambda held: held | {UP: torch.ones(3, 4)})
    listed = problems(TIES, found)
    assert [type(each) for each in listed] == [MatchError, MatchError]
    assert "a lacks 1" in str(listed[0]) and "[3, 4] and [112, 64]" in str(listed[1])


@pytest.mark.parametrize(("there", "said"), [("", "have the prefix"), ("model.", "lack the prefix")])
def test_a_prefix_on_all_names_is_one_problem(there: str, said: str) -> None:
    found = models()

    def renamed(held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {f"model.{name}" if not there else name.removeprefix("model."): x for name, x in held.items()}

    found["a"] = changed(found["a"], renamed)
    assert f"its names {said} 'model.'" in problem(TIES, found)


def test_many_missing_tensors_are_summed_up() -> None:
    found = models(layers=8)
    found["a"] = changed(found["a"], lambda held: {n: x for n, x in held.items() if "mlp" not in n})
    text = problem(TIES, found)
    assert "a lacks 24 of the 75" in text and "and 21 more" in text


def test_models_of_different_architectures_are_one_problem() -> None:
    found = models() | {"a": models("gpt2")["a"]}
    text = problem(TIES, found)
    assert "a and base have no tensor in common" in text
    assert "GPT2LMHeadModel and LlamaForCausalLM" in text


def test_different_depth_is_said_as_such() -> None:
    found = models() | {"a": models(layers=3)["a"]}
    text = problem(TIES, found)
    assert "the models differ in depth: a has 3 layers, base has 2 layers" in text
    assert "slices" in text


def test_different_depth_in_one_of_two_stacks_names_the_stack() -> None:
    found = models("t5")
    found["a"] = changed(found["a"], lambda held: {n: x for n, x in held.items() if "decoder.block.1" not in n})
    assert "a has 1 decoder layer, base has 2 decoder layers" in problem(TIES, found)


def test_different_vocabularies_are_one_problem_with_a_way_out() -> None:
    found = models() | {"a": models(vocabulary=105)["a"]}
    text = problem(TIES, found)
    assert "the vocabularies differ: a has 105 rows, base has 97" in text
    assert "model.embed_tokens.weight, lm_head.weight" in text
    assert "resize a to 97 rows" in text


def test_other_shapes_are_shown_both() -> None:
    found = models() | {"a": models(intermediate=96)["a"]}
    text = problem(TIES, found)
    assert "a and base have different shapes of 6 tensors" in text
    assert "model.layers.0.mlp.gate_proj.weight: [96, 64] and [112, 64]" in text


def test_numbers_in_one_model_and_codes_in_another_are_refused() -> None:
    found = models()
    found["a"] = changed(found["a"], lambda held: held | {UP: torch.ones(112, 64, dtype=torch.int8)})
    text = problem(TIES, found)
    assert "1 tensor of float entries in base, of integer entries in a" in text and "I8 and F32" in text


def test_missing_tensors_of_the_base_stand_in_when_asked() -> None:
    found = models()
    found["a"] = without(found["a"], Q)
    made = plan(TIES + "missing_tensors: base\n", checkpoints=found)
    index = {model.location: i for i, model in enumerate(made.models)}
    assert [each.model for each in jobs(made)[Q].operands] == [index["base"], index["b"]]
    assert any("a lacks " + Q in warning for warning in made.warnings)


def test_the_base_cannot_stand_in_where_there_is_none() -> None:
    assert "no base model whose tensors could stand in" in problem(LINEAR + "missing_tensors: base\n", models())


def test_extra_tensors_are_dropped_when_asked() -> None:
    found = models()
    found["b"] = having(found["b"], score__weight=(3, 64))
    made = plan(TIES + "extra_tensors: drop\n", checkpoints=found)
    assert "score.weight" not in jobs(made)
    assert any("dropped: score.weight of b" in warning for warning in made.warnings)


def test_extra_tensors_are_copied_from_the_first_that_has_them() -> None:
    found = models()
    found["a"] = having(found["a"], score__weight=(3, 64), other__weight=(2,))
    found["b"] = having(found["b"], score__weight=(3, 64))
    made = plan(TIES + "extra_tensors: copy\ndtype: bfloat16\n", checkpoints=found)
    job = jobs(made)["score.weight"]
    assert (job.rule, job.operands[0].model, job.spec.dtype) == ("copy", 0, "BF16")
    assert [made_job.spec.name for made_job in made.jobs][-2:] == ["score.weight", "other.weight"]


def test_non_float_tensors_are_copied_from_the_base_and_compared() -> None:
    made = plan(TIES + "dtype: bfloat16\n", checkpoints=models("mixed"))
    index = {model.location: i for i, model in enumerate(made.models)}
    for job in made.jobs:
        if job.spec.name.startswith(("counts", "mask", "phase")):
            assert job.rule == "copy" and "not averaged" in job.note
            assert [each.model for each in job.operands] == [index["base"], index["a"], index["b"]]
            assert job.spec.dtype == made.models[index["base"]].specs[job.spec.name].dtype
        else:
            assert job.rule == "merge" and job.spec.dtype == "BF16"


def test_non_float_tensors_of_other_shapes_elsewhere_are_not_compared() -> None:
    found = models("bert", buffers=True)
    found["a"] = changed(found["a"], lambda held: held | {"bert.embeddings.position_ids": torch.arange(9)[None]})
    job = jobs(plan(TIES, checkpoints=found))["bert.embeddings.position_ids"]
    assert len(job.operands) == 2


@pytest.mark.parametrize("holder", ["base", "a"])
def test_buffers_may_be_missing_anywhere(holder: str) -> None:
    found = models("gpt2")
    found[holder] = models("gpt2", buffers=True)[holder]
    copied = {name: job for name, job in jobs(plan(TIES, checkpoints=found)).items() if job.rule == "copy"}
    assert set(copied) == ({f"transformer.h.{i}.attn.bias" for i in range(2)} if holder == "base" else set())
    assert all("buffer" in job.note for job in copied.values())


def test_float_buffers_are_copied_in_their_own_dtype() -> None:
    found = models()
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    for key in ("base", "b"):
        found[key] = changed(found[key], lambda held: held | {name: torch.ones(8)})
    job = jobs(plan(TIES + "dtype: bfloat16\n", checkpoints=found))[name]
    assert (job.rule, job.spec.dtype, len(job.operands)) == ("copy", "F32", 2)


def test_no_tensor_is_read() -> None:
    class Sealed(MemoryCheckpoint):
        def read(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
            raise AssertionError(f"{name} was read from {start} to {stop}")

        @property
        def fingerprint(self) -> str:
            raise AssertionError("the fingerprint was taken")

    sealed = {
        key: Sealed({n: model.read(n).reshape(s.shape) for n, s in model.specs.items()}, model.config, key)
        for key, model in models().items()
    }
    assert len(plan(TIES, checkpoints=dict(sealed)).jobs) == 21
