from __future__ import annotations

from merging.checkpoint.tensors import MemoryCheckpoint
from merging.planning.build import plan
from tests.planning.models import LINEAR, TIES, jobs, models, problem

SLERP = "merge_method: slerp\nbase_model: base\nmodels: [{model: a}, {model: base}]\nparameters: {t: [0, 0.5, 1]}\n"
NORM = "model.norm.weight"


def _inputs(recipe: str, **found: MemoryCheckpoint) -> tuple[list[str], str | None]:
    made = plan(recipe, checkpoints=found or models())
    job = jobs(made)[NORM]
    keys = [model.location for model in made.models]
    return [keys[each.model] for each in job.operands], job.base and keys[job.base.model]


def test_a_method_of_task_vectors_has_the_base_model_apart() -> None:
    assert _inputs(TIES) == (["a", "b"], "base")
    assert _inputs(TIES.replace("[{model: a}", "[{model: a}, {model: base}")) == (["a", "b"], "base")


def test_a_method_that_needs_a_base_among_its_models_sees_it_first() -> None:
    assert _inputs(SLERP) == (["base", "a"], None)
    assert _inputs(SLERP.replace(", {model: base}", "")) == (["base", "a"], None)


def test_a_method_without_base_merges_what_is_listed_in_order() -> None:
    assert _inputs(LINEAR) == (["base", "a"], None)
    assert _inputs(LINEAR + "base_model: a\n") == (["base", "a"], None)


def test_a_missing_base_model_is_a_problem() -> None:
    assert "ties needs a base model" in problem(TIES.replace("base_model: base\n", ""), models())


def test_the_number_of_models_is_checked() -> None:
    crowded = SLERP.replace("{model: a}", "{model: a}, {model: b}")
    told = problem(crowded, models())
    assert "slerp merges 2 models, the base model included, not 3: base, a, b" in told
    assert "fix:     leave some out, or see `merging methods`" in told
    lonely = "merge_method: passthrough\nmodels: [{model: a}, {model: b}]\n"
    assert "passthrough merges 1 model, not 2: a, b" in problem(lonely, models())


def test_only_a_base_model_is_nothing_to_merge() -> None:
    alone = TIES.replace("[{model: a}, {model: b}]", "[{model: base}]")
    told = problem(alone, models())
    assert "ties merges 1 or more models, not 0 beside the base model base" in told
    assert "fix:     list 1 more" in told
