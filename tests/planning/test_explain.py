from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
from rich.console import Console
from torch import Tensor

from merging.methods.declare import merge_method
from merging.methods.parameters import PerModel
from merging.planning.build import plan
from merging.planning.explain import Explanation, Row, explain, readable, render, text
from tests.engine.plans import temporary_methods
from tests.planning.models import TIES, changed, models

GRADED = TIES.replace("density: 0.4", "density: [{filter: mlp, value: [0.8, 0.2]}, {value: 0.4}]")


@pytest.fixture
def declared() -> Iterator[None]:
    """Methods declared in the test are gone after it."""
    with temporary_methods():
        yield


def _explain(recipe: str = TIES, kind: str = "llama", **sizes: int) -> Explanation:
    return explain(plan(recipe, checkpoints=models(kind, **sizes)), workers=2)


def _rows(explanation: Explanation) -> dict[str, Row]:
    return {row.name: row for row in explanation.rows}


def _printed(explanation: Explanation) -> str:
    screen = io.StringIO()
    Console(file=screen, width=200).print(render(explanation))
    return screen.getvalue()


def test_layers_are_collapsed_into_one_row() -> None:
    rows = _rows(_explain(layers=6))
    assert len(rows) == 12
    row = rows["model.layers.#.mlp.up_proj.weight"]
    assert (row.tensors, row.layers, row.role, row.treatment) == (6, (0, 5), "mlp.up", "ties")
    assert row.nbytes == 6 * 112 * 64 * 4


def test_every_tensor_is_in_exactly_one_row() -> None:
    for kind in ("llama", "gpt2", "bert", "t5", "vit", "mixed"):
        made = plan(TIES, checkpoints=models(kind))
        explanation = explain(made)
        assert sum(row.tensors for row in explanation.rows) == len(made.jobs)
        assert sum(row.nbytes for row in explanation.rows) == explanation.written_bytes


def test_a_number_that_stays_is_shown() -> None:
    names = _rows(_explain(kind="t5"))
    assert "decoder.block.#.layer.1.EncDecAttention.q.weight" in names
    assert "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight" in names


def test_a_gradient_is_shown_from_first_to_last() -> None:
    rows = _rows(_explain(GRADED, layers=5))
    assert rows["model.layers.#.mlp.up_proj.weight"].parameters["density"] == "0.8 … 0.2"
    assert rows["model.layers.#.self_attn.q_proj.weight"].parameters["density"] == "0.4"


def test_a_gradient_follows_the_layers_not_the_order_of_the_file() -> None:
    found = {
        key: changed(model, lambda held: dict(sorted(held.items())))
        for key, model in models(layers=11, hidden=16).items()
    }
    rows = _rows(explain(plan(GRADED, checkpoints=found)))
    assert rows["model.layers.#.mlp.up_proj.weight"].parameters["density"] == "0.8 … 0.2"


def test_a_gradient_that_turns_is_shown_by_its_bounds() -> None:
    recipe = "merge_method: slerp\nbase_model: base\nmodels: [{model: a}]\nparameters: {t: [0.25, 0.75, 0]}\n"
    assert (
        _rows(_explain(recipe, layers=5))["model.layers.#.mlp.up_proj.weight"].parameters["t"] == "between 0 and 0.75"
    )


def test_only_parameters_that_were_set_are_told() -> None:
    row = _rows(_explain())["model.norm.weight"]
    assert row.told == ("weight", "density")
    assert set(row.parameters) > set(row.told)


def test_slices_and_copies_are_groups_of_their_own() -> None:
    recipe = (
        "merge_method: passthrough\nslices:\n- sources: [{model: base, layer_range: [0, 2]}]\n"
        "- sources: [{model: a, layer_range: [0, 2]}]\n"
    )
    shown = text(_explain(recipe))
    assert "copy of base; one model, unchanged" in shown and "copy of a; one model, unchanged" in shown
    assert "(2 tensors, layers 2-3)" in shown


def test_bytes_of_rounds_over_a_tensor_belong_to_the_merging_pass() -> None:
    explanation = _explain()
    (merging_pass,) = explanation.passes
    assert (merging_pass.what, merging_pass.tensors) == ("merge", 21)
    assert merging_pass.read_bytes == explanation.read_bytes


def test_rounds_over_the_whole_model_are_passes() -> None:
    explanation = _explain(TIES.replace("merge_method: ties", "merge_method: ties_global"))
    assert [each.what for each in explanation.passes][-1] == "merge"
    assert len(explanation.passes) > 1 and explanation.passes[0].what.startswith("measure ")
    assert sum(each.read_bytes for each in explanation.passes) == explanation.read_bytes


def test_tied_duplicates_are_not_measured_twice() -> None:
    found = {
        key: changed(model, lambda held: held | {"lm_head.weight": held["model.embed_tokens.weight"]})
        for key, model in models(tied=True).items()
    }
    made = plan(TIES.replace("merge_method: ties", "merge_method: ties_global"), checkpoints=found)
    explanation = explain(made)
    assert explanation.passes[0].tensors == 20 and explanation.passes[-1].tensors == 21
    assert "tied to model.embed_tokens.weight" in text(explanation)


@pytest.mark.usefixtures("declared")
def test_whole_tensors_stand_out_with_their_memory() -> None:
    @merge_method("test_whole", paper="none", sees="task_vectors", reach="tensor")
    def whole(x: Tensor, *, weight: PerModel = 1.0) -> Tensor:
        """Sum.

        weight: of each
        """
        return (weight * x).sum(0)

    shown = text(_explain(TIES.replace("ties", "test_whole").replace(", density: 0.4", "")))
    assert "by whole tensor, up to " in shown and "in memory" in shown


def test_the_explanation_is_json_data() -> None:
    data = json.loads(json.dumps(_explain().data()))
    assert data["method"] == "ties" and len(data["rows"]) == 12 and data["models"] == ["a", "b", "base"]


def test_text_and_table_show_the_same_tensors() -> None:
    explanation = _explain(GRADED)
    table = _printed(explanation)
    for row in explanation.rows:
        assert row.name in table and row.name in text(explanation)
    assert "0.8 … 0.2" in table


def test_names_that_look_like_markup_are_shown_as_they_are() -> None:
    found = {
        key: changed(model, lambda held: held | {"[red]x[/red]": held["a.f32"]})
        for key, model in models("mixed").items()
    }
    assert "[red]x[/red]" in _printed(explain(plan(TIES, checkpoints=found)))


def test_warnings_are_shown() -> None:
    found = models()
    found["a"] = changed(found["a"], rope_theta=1.0)
    assert "warning: config.json of a and base differ: rope_theta" in text(explain(plan(TIES, checkpoints=found)))


@pytest.mark.parametrize(
    ("nbytes", "shown"), [(0, "0 B"), (999, "999 B"), (1000, "1 KB"), (1_234_567, "1.23 MB"), (10**16, "1e+04 TB")]
)
def test_sizes_are_readable(nbytes: int, shown: str) -> None:
    assert readable(nbytes) == shown
