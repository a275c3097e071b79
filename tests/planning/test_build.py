from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from merging.errors import OutputError, ParameterError, RecipeError, SilentMergeError
from merging.methods.declare import find_method, is_matrix, merge_method, only_if
from merging.methods.parameters import Flag, PerModelShare
from merging.planning.build import plan
from merging.planning.choose import choose
from merging.planning.jobs import measuring_parameters
from tests import tiny
from tests.engine.plans import temporary_methods
from tests.planning.models import LINEAR, TIES, changed, jobs, models, problems

SLERP = "merge_method: slerp\nbase_model: base\nmodels: [{model: a}, {model: base}]\nparameters: {t: [0, 0.5, 1]}\n"
NORM = "model.norm.weight"


@pytest.fixture
def declared() -> Iterator[None]:
    """Methods declared in the test are gone after it."""
    with temporary_methods():
        yield


def test_gradients_follow_the_layers_and_filters_the_names() -> None:
    recipe = SLERP.replace("[0, 0.5, 1]", "[{filter: mlp, value: [0, 1]}, {value: 0.3}]")
    found = jobs(plan(recipe, checkpoints=models(layers=5)))
    values = [found[f"model.layers.{i}.mlp.up_proj.weight"].parameters["t"] for i in range(5)]
    assert values == [0, 0.25, 0.5, 0.75, 1]
    assert found[NORM].parameters["t"] == 0.3


def test_tensors_outside_the_layers_take_the_start_of_a_gradient() -> None:
    found = jobs(plan(SLERP, checkpoints=models()))
    assert found[NORM].parameters["t"] == found["model.embed_tokens.weight"].parameters["t"] == 0


def test_per_model_values_are_aligned_with_the_operands() -> None:
    recipe = TIES.replace("{model: b}", "{model: b, parameters: {weight: 0.9}}")
    assert jobs(plan(recipe, checkpoints=models()))[NORM].parameters["weight"] == (0.5, 0.9)


@pytest.mark.parametrize(
    ("asked", "stored"),
    [("", "BF16"), ("dtype: float16\n", "F16"), ("dtype: float16\nout_dtype: float32\n", "F32")],
)
def test_the_output_dtype_is_what_is_asked_for_else_the_inputs(asked: str, stored: str) -> None:
    found = {
        key: changed(model, lambda held: tiny.cast(held, torch.bfloat16), dtype="bfloat16")
        for key, model in models().items()
    }
    made = plan(TIES + asked, checkpoints=found)
    assert {job.spec.dtype for job in made.jobs} == {stored}
    assert made.config["dtype"] == {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[stored]


def test_inputs_of_several_dtypes_are_promoted_the_base_model_included() -> None:
    found = {key: changed(model, lambda held: tiny.cast(held, torch.bfloat16)) for key, model in models().items()}
    found["base"] = changed(models()["base"], dtype="bfloat16")
    made = plan(TIES, checkpoints=found)
    assert {job.spec.dtype for job in made.jobs} == {"F32"} and made.config["dtype"] == "float32"
    found["base"] = changed(found["base"], lambda held: tiny.cast(held, torch.float16))
    assert {job.spec.dtype for job in plan(TIES, checkpoints=found).jobs} == {"F32"}


def test_problems_of_recipe_models_and_tensors_come_together() -> None:
    recipe = TIES.replace("density: 0.4", "density: 4, wieght: 1") + "extra_tensors: refuse\n"
    found = models()
    found["a"] = changed(found["a"], lambda held: {n: x for n, x in held.items() if n != NORM})
    text = "\n".join(str(each) for each in problems(recipe, found))
    assert "density" in text and "wieght" in text and "a lacks 1" in text


def test_a_recipe_that_cannot_be_read_is_the_only_problem() -> None:
    (unknown,) = problems("merge_method: tise\nmodels: [{model: a}]\n", {})
    assert isinstance(unknown, RecipeError) and "did you mean 'ties'" in str(unknown)
    assert problems("merge_method: linear\nmodles: [{model: a}]\n", {})


def test_lenient_plans_list_what_they_passed_over() -> None:
    made = plan(TIES + "made_up: 3\n", checkpoints=models(), lenient=True)
    assert any("made_up" in warning for warning in made.warnings)


def test_a_filter_that_matches_nothing_fails_unless_allowed() -> None:
    recipe = TIES.replace("density: 0.4", "density: [{filter: mpl, value: 0.1}, {value: 0.4}]")
    (found,) = problems(recipe, models())
    assert isinstance(found, SilentMergeError) and "'mpl' matches no tensor" in str(found)
    assert any("'mpl'" in warning for warning in plan(recipe, checkpoints=models(), allow_unused=True).warnings)


def test_models_that_share_their_names_but_not_their_meaning_are_warned_about() -> None:
    found = models()
    found["a"] = changed(found["a"], rope_theta=500000.0, architectures=["MistralForCausalLM"])
    (warning,) = plan(TIES, checkpoints=found).warnings
    assert "rope_theta 500000.0 and 10000.0" in warning and "MistralForCausalLM" in warning


def test_a_task_vector_that_must_be_zero_is_warned_about(tmp_path: Path) -> None:
    tiny.family(tmp_path, "llama", models=1)
    recipe = TIES.replace("[{model: a}, {model: b}]", "[{model: tuned-1}, {model: base/}]")
    (tmp_path / "recipe.yaml").write_text(recipe)
    assert plan(tmp_path / "recipe.yaml").warnings == (
        "base/ is the base model base itself, so its task vector is zero",
    )


def test_a_config_that_miscounts_its_layers_is_warned_about() -> None:
    found = models()
    found["base"] = changed(found["base"], num_hidden_layers=7)
    assert plan(TIES, checkpoints=found).warnings == ("config.json of base says 7 layers; its tensors are of 2",)


def test_sidecars_come_from_the_tokenizer_source_else_the_base_else_the_first() -> None:
    def sidecars(recipe: str) -> str:
        made = plan(recipe, checkpoints=models())
        assert made.sidecars is not None
        return made.models[made.sidecars].location

    assert sidecars(TIES) == sidecars(TIES + "tokenizer_source: base\n") == "base"
    assert sidecars(TIES + "tokenizer_source: b\n") == "b"
    assert sidecars(LINEAR.replace("{model: base}, {model: a}", "{model: a}, {model: base}")) == "a"


@pytest.mark.parametrize("density", ["[0.1, 0.9]", "[{filter: mlp, value: 0.2}, {value: 0.5}]"])
def test_statistics_over_the_whole_model_need_one_value_for_all_tensors(density: str) -> None:
    recipe = TIES.replace("merge_method: ties", "merge_method: ties_global").replace(
        "density: 0.4", f"density: {density}"
    )
    (found,) = problems(recipe, models())
    assert isinstance(found, ParameterError)
    assert "ties_global measures the whole model at once, so 'density' cannot differ" in str(found)
    assert "gradient" in str(found.fix)


def test_what_is_not_measured_may_differ_between_tensors() -> None:
    recipe = TIES.replace("merge_method: ties", "merge_method: ties_global").replace(
        "density: 0.4", "density: 0.4, lambda: [0, 1]"
    )
    assert len(plan(recipe, checkpoints=models()).jobs) == 21
    apart = recipe.replace("{model: b}", "{model: b, parameters: {density: 0.7}}")
    assert jobs(plan(apart, checkpoints=models()))[NORM].parameters["density"] == (0.4, 0.7)


@pytest.mark.usefixtures("declared")
def test_measuring_parameters_are_those_of_the_rounds_and_their_flags() -> None:
    def totals(x: Tensor, *, density: PerModelShare) -> Tensor:
        return x.sum(1) * density

    @merge_method(
        "test_measured",
        paper="none",
        sees="task_vectors",
        reach="element",
        measure=(only_if("rescale", totals),),
        scope="model",
    )
    def measured_method(x: Tensor, *, weight: PerModelShare = 1.0, rescale: Flag = False) -> Tensor:
        """A method."""
        return x[0] * weight[0] if rescale else x[0]

    assert measuring_parameters(find_method("test_measured")) == ["rescale", "density"]


@pytest.mark.usefixtures("declared")
def test_tensors_that_are_not_matrices_are_a_linear_pass_of_a_method_of_matrices() -> None:
    def sums(*, weight: PerModelShare = 1.0) -> Tensor:
        return weight

    @merge_method("test_matrices", paper="none", sees="task_vectors", reach="matrix", elsewhere=sums)
    def matrices(x: Tensor, *, weight: PerModelShare = 1.0) -> Tensor:
        """Sum.

        weight: of each
        """
        return (weight * x).sum(0)

    made = plan(TIES.replace("ties", "test_matrices").replace(", density: 0.4", ""), checkpoints=models("vit"))
    kinds = {name: choose(job, made.models).kind for name, job in jobs(made).items()}
    assert kinds["vit.encoder.layer.0.intermediate.dense.weight"] == "whole matrix"
    assert kinds["vit.layernorm.weight"] == kinds["vit.embeddings.position_embeddings"] == "linear"
    assert jobs(made)["vit.layernorm.weight"].parameters["weight"] == (0.5, 0.5)


@pytest.mark.parametrize("family", ["bert", "t5", "vit", "llama", "gpt2"])
def test_of_all_tensors_with_two_axes_only_tables_are_no_matrices(family: str) -> None:
    tables = ("embed", "wte", "wpe", "shared", "lm_head", "classifier", "decoder.weight", "relationship", "bias.weight")
    made = plan(TIES, checkpoints=models(family))
    wide = {name: job for name, job in jobs(made).items() if len(job.spec.shape) > 1 and min(job.spec.shape) > 1}
    found = {name for name, job in wide.items() if not is_matrix(job.spec.shape, job.role)}
    assert found == {name for name in wide if any(word in name for word in tables)}
    assert found and found < set(wide)


@pytest.mark.usefixtures("declared")
def test_a_value_of_a_parameter_can_call_another_method() -> None:
    instead = (("by_rows", True, "test_rows"),)

    @merge_method("test_rows", paper="none", sees="task_vectors", reach="row")
    @merge_method("test_flat", paper="none", sees="task_vectors", reach="element", instead=instead)
    def either(x: Tensor, *, weight: PerModelShare = 1.0, by_rows: Flag = False) -> Tensor:
        """Sum.

        weight: of each
        by_rows: whole rows
        """
        return (weight * x).sum(0) * (2 if by_rows else 1)

    text = TIES.replace("ties", "test_flat").replace(", density: 0.4", "")
    assert {job.method for job in jobs(plan(text, checkpoints=models())).values() if job.method} == {"test_flat"}
    filtered = text.replace("weight: 0.5", "weight: 0.5, by_rows: [{filter: mlp, value: true}, {value: false}]")
    assert filtered != text
    made = jobs(plan(filtered, checkpoints=models()))
    assert made["model.layers.0.mlp.down_proj.weight"].method == "test_rows"
    assert made["model.layers.0.self_attn.q_proj.weight"].method == "test_flat"


@pytest.mark.usefixtures("declared")
def test_a_whole_tensor_that_exceeds_the_memory_is_a_problem_with_its_size() -> None:
    @merge_method("test_whole", paper="none", sees="task_vectors", reach="tensor")
    def whole(x: Tensor, *, weight: PerModelShare = 1.0) -> Tensor:
        """Sum.

        weight: of each
        """
        return (weight * x).sum(0)

    recipe = TIES.replace("ties", "test_whole").replace(", density: 0.4", "")
    found = models(intermediate=2048)
    (refused,) = problems(recipe, found, memory=2 << 20)
    assert isinstance(refused, OutputError)
    assert "test_whole needs the whole tensor in memory: 10,485,760 bytes for model.layers." in refused.what
    assert refused.fix == "pass --memory 10MiB"
    assert plan(recipe, checkpoints=found, memory=10 << 20)


def test_the_plan_of_equal_wishes_has_equal_hashes() -> None:
    first, second = (plan(TIES, checkpoints=models()) for _ in range(2))
    assert first.hash == second.hash
    assert first.hash != plan(TIES.replace("0.4", "0.5"), checkpoints=models()).hash
    assert first.hash == plan(TIES, checkpoints=models(), memory=1 << 30, shard_bytes=10**6).hash
