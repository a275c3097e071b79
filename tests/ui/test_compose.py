"""The page that writes recipes: form and text say the same, nothing written by hand is lost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merging import (
    BlockWeights,
    MergingError,
    all_methods,
    contents,
    find_zoo,
    open_source,
    plan,
    read_recipe,
    write_yaml,
)
from ui.compose import form as forms
from ui.compose.beginnings import examples, first_text
from ui.compose.blocks import Mark, Target, edited, from_line, marked, scaled, selected, table, weights_of, with_weights
from ui.compose.fit import fit
from ui.compose.form import Entry, Form, kept, show, with_value, written
from ui.compose.pace import about
from ui.compose.preflight import Wishes, outside
from ui.compose.reading import absolute, loses_comments, read, rewritten

ROOT = Path(__file__).parent.parent.parent
RECIPES = sorted((ROOT / "data" / "recipes").glob("*.yaml"))
METHODS = all_methods()
ZOO = find_zoo()
TENSORS = contents(open_source(str(ZOO.base))).tensors


def text_of(name: str) -> str:
    """A bundled recipe with its paths written out."""
    path = ROOT / "data" / "recipes" / f"{name}.yaml"
    return absolute(path.read_text(), path.parent)


def values(method: Any, own: bool) -> st.SearchStrategy[dict[str, Any]]:
    """Values within bounds for some of a method's parameters."""
    knobs = {name: knob for name, knob in method.parameters.items() if knob.kind.per_model or not own}
    return st.fixed_dictionaries({}, optional={name: _value(knob.kind) for name, knob in knobs.items()})


def _value(kind: Any) -> st.SearchStrategy[Any]:
    if kind.type == "flag":
        return st.booleans()
    if kind.type == "choice":
        return st.sampled_from(kind.choices)
    if kind.type == "count":
        return st.integers(int(kind.minimum or 0), 1000)
    return st.floats(kind.minimum, kind.maximum, allow_nan=False, allow_infinity=False)


@st.composite
def filled(draw: st.DrawFn) -> Form:
    """A form as a person could fill it in."""
    method = METHODS[draw(st.sampled_from(sorted(METHODS)))]
    entries = st.builds(
        Entry,
        st.sampled_from(["/models/math", "/models/a b+/lora", "/models/7", "/ünï: #1"]),
        values(method, own=True),
        st.fixed_dictionaries({}, optional={name: st.just("/statistics") for name in method.needs.companions}),
    )
    return Form(
        method.name,
        draw(st.sampled_from([None, "/models/base"])),
        tuple(draw(st.lists(entries, min_size=1, max_size=4))),
        draw(values(method, own=False)),
        draw(st.sampled_from([None, *forms.DTYPES])),
        seed=draw(st.integers(0, 2**53)),
        extra_tensors=draw(st.sampled_from(["refuse", "drop", "copy"])),
    )


@settings(max_examples=80, deadline=None)
@given(filled())
def test_a_form_written_as_text_and_read_again_is_the_same_form(form: Form) -> None:
    reading = read(write_yaml(written(form)))
    assert reading.recipe is not None and reading.data is not None
    assert show(reading.data) == form
    assert kept(reading.data) == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_form_that_changes_nothing_leaves_the_text_as_it_is(path: Path) -> None:
    reading = read(path.read_text())
    assert reading.data is not None and reading.recipe is not None
    form = show(reading.data)
    data = forms.with_key(reading.data, "base_model", form.base)
    for i, entry in enumerate(form.models):
        for name, value in entry.values.items():
            data = with_value(data, name, value, i)
    assert rewritten(reading, data) == path.read_text()
    again = read_recipe(write_yaml(reading.data))
    assert again == reading.recipe


@pytest.mark.parametrize("path", [path for path in RECIPES if "slices" not in path.read_text()], ids=lambda p: p.stem)
def test_single_changes_are_made_in_the_text_and_keep_its_comments(path: Path) -> None:
    reading = read(path.read_text())
    assert reading.data is not None
    last = len(reading.data["models"]) - 1
    for data in (
        forms.with_dtype(reading.data, "float16"),
        forms.with_key(reading.data, "seed", 11),
        forms.with_key(reading.data, "merge_method", "linear"),
        forms.with_model(reading.data, "/another"),
        forms.with_model(reading.data, "/another", last),
    ):
        text = rewritten(reading, data)
        assert read(text).data == data
        assert not loses_comments(reading.text, text)


def test_a_value_is_changed_put_in_and_taken_out_where_it_stands() -> None:
    reading = read(text_of("ties"))
    assert reading.data is not None
    changed = rewritten(reading, with_value(reading.data, "weight", 0.75, 1))
    assert "    weight: 0.75            # counts in the vote" in changed
    put_in = rewritten(reading, with_value(reading.data, "rescale", True))
    assert put_in == reading.text.replace("  lambda: 1.0\n", "  lambda: 1.0\n  rescale: true\n")
    taken_out = rewritten(reading, with_value(reading.data, "lambda", None))
    assert taken_out == reading.text.replace("  lambda: 1.0\n", "")


def test_what_the_form_cannot_show_is_told_and_stays() -> None:
    data = read(text_of("ties")).data
    assert data is not None
    assert kept(data) == ["density of model 3 (a gradient)"]
    assert "density" not in show(data).models[2].values
    assert with_value(data, "density", None, 2) == data
    assert forms.moved(data, 2, 0)["models"][0]["parameters"]["density"] == [0.3, 0.7]
    assert with_value(data, "density", 0.5, 2)["models"][2]["parameters"]["density"] == 0.5
    sliced = read(text_of("stack_blends")).data
    assert sliced is not None and kept(sliced) == ["slices"]


def test_another_method_leaves_out_what_it_has_no_parameter_for_and_says_so() -> None:
    data = read(text_of("ties")).data
    assert data is not None
    changed, lost = forms.with_method(data, "linear")
    assert lost == ["lambda 1", "density 0.5 of model 2", "density a gradient of model 3"]
    assert show(changed) == Form(
        "linear",
        data["base_model"],
        tuple(Entry(each["model"], weight) for each, weight in zip(data["models"], WEIGHTS, strict=True)),
        {"normalize": True},
    )


WEIGHTS: tuple[dict[str, float], ...] = ({}, {"weight": 0.6}, {"weight": 0.4})


def test_a_value_beyond_its_bounds_is_kept_as_written() -> None:
    data = read("merge_method: ties\nbase_model: b\nmodels:\n- model: a\n  parameters: {density: 1.5}\n").data
    assert data is not None
    assert show(data).models[0].values == {}
    assert kept(data) == ["density of model 1 (1.5)"]


def test_an_unfinished_recipe_can_be_worked_on() -> None:
    assert read("merge_method: ties").data == {"merge_method": "ties"}
    data = read("merge_method: ties\nmodels:\n- model: a\ntokenizer_source: base\n").data
    assert data is not None and data["tokenizer_source"] == "base"
    assert read("merge_method: tees\nmodels:\n- model: a\n").data is None
    assert read("merge_method: ties\nmodels: [\n").data is None
    assert [problem.where for problem in read("merge_method: ties\nmodel: a\n").problems][-1] is not None


def test_relative_models_are_named_by_whole_paths_and_comments_stay() -> None:
    path = ROOT / "data" / "recipes" / "adapter.yaml"
    text = absolute(path.read_text(), path.parent)
    assert f"- model: {ZOO.base}+{ZOO.adapters['rotated']}\n" in text
    assert text.startswith(path.read_text().splitlines()[0])
    assert ".." not in text.replace("...", "")


def test_the_first_text_and_the_examples_can_be_planned() -> None:
    for name, text in {"first": first_text(), **examples()}.items():
        assert plan(read_recipe(text)).jobs, name


def test_models_that_do_not_fit_are_told_with_their_reasons() -> None:
    base = _listed({"layer.0.w": (4, 4), "layer.1.w": (4, 4)})
    other = _listed({"layer.0.w": (4, 8), "layer.1.wide": (4, 4)}, dtype="F32")
    assert fit(base, base).against == ()
    found = fit(other, base)
    assert "lacks 1 of 2 tensors: layer.1.w (nearest: layer.1.wide)" in found.against
    assert "has another shape in 1 tensor: layer.0.w 4 × 8, not 4 × 4" in found.against
    assert found.notes == ("stores 1 tensor as F32, not BF16",)


def _listed(shapes: dict[str, tuple[int, ...]], dtype: str = "BF16") -> dict[str, Any]:
    tensors = [{"name": n, "shape": s, "dtype": dtype, "entries": math.prod(s)} for n, s in shapes.items()]
    return {"family": "toy", "layers": {"": 2}, "tensors": tensors}


LINES = (
    *("0.5", "0,1", "0; attention=1", "bell(0,1)", "0.3; 1-2 mlp=0,2; head=plain", "1; /query|value/=0.25,0.75"),
    *("step(0.2,0.8); norm*=0.5", "cosine(0,1); embedding+=0.125", "0.1,0.7,0.2; 3 attention=4"),
)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("model", [None, 1])
def test_block_weights_are_what_planning_gives_every_tensor_and_read_back(line: str, model: int | None) -> None:
    data = read(first_text()).data
    assert data is not None
    target = Target("weight", model)
    weights = from_line(line, BlockWeights.of(TENSORS))
    text = write_yaml(with_weights(data, target, weights))
    expected = dict(zip((each.name for each in TENSORS), weights.per_tensor(), strict=True))
    planned = {job.spec.name: job.parameters["weight"][1] for job in plan(read_recipe(text)).jobs}
    assert planned == expected
    again = weights_of(read_recipe(text), METHODS["task_arithmetic"], target, TENSORS)
    assert again is not None and again.per_tensor() == weights.per_tensor()


def test_a_selection_counts_its_tensors_and_takes_blocks_apart_where_it_must() -> None:
    weights = BlockWeights.of(TENSORS)
    _, _, tensors, entries = selected(weights, Mark((1, 2), ("attention",), "", "set", "1"))
    inside = [each for each in TENSORS if each.layer in (1, 2) and ".attention." in each.name]
    assert (tensors, entries) == (len(inside), sum(each.entries for each in inside))
    fine, _, tensors, _ = selected(weights, Mark(None, (), r"query\.weight", "set", "1"))
    assert (fine.by, tensors) == ("tensor", 4)
    with pytest.raises(MergingError, match="nothing is selected"):
        marked(weights, Mark(None, (), "no such name", "set", "1"))


def test_operations_set_multiply_and_add() -> None:
    weights = from_line("0.5", BlockWeights.of(TENSORS))
    for operation, expected in (("set", 2.0), ("multiply", 1.0), ("add", 2.5)):
        after = marked(weights, Mark((3, 3), ("mlp",), "", operation, "2"))  # type: ignore[arg-type]
        row = next(row for row in table(after) if row["layer"] == "3")
        assert (row["mlp"], row["attention"]) == (expected, 0.5)


def test_cells_of_the_table_are_values_of_blocks() -> None:
    weights = edited(BlockWeights.of(TENSORS), {2: {"mlp": 0.25}, 4: {"head": 3.0}})
    rows = table(weights)
    assert [row["mlp"] for row in rows] == [1.0, 1.0, 0.25, 1.0, None]
    assert rows[4]["layer"] == "outside" and rows[4]["head"] == 3.0
    assert edited(weights, {2: {"mlp": None}, 4: {"head": None}}) == BlockWeights.of(TENSORS)


def test_values_that_the_method_refuses_are_not_written() -> None:
    data = read(text_of("ties")).data
    assert data is not None
    with pytest.raises(MergingError, match=r"density cannot be 1\.5"):
        with_weights(data, Target("density", 1), from_line("0.5,1.5", BlockWeights.of(TENSORS)))
    assert scaled("0,1,1,0; outer head norm?=1", 0.3) == "0,0.3,0.3,0; outer head norm?=0.3"


def test_wishes_become_options_of_the_command_line() -> None:
    assert Wishes("out").options() == []
    wishes = Wishes("out", True, 0.5, 2.0, 3)
    assert wishes.options() == ["--memory", "0.5GiB", "--shard-size", "2GB", "--workers", "3", "--overwrite"]


def test_models_outside_the_roots_are_refused_before_they_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERGING_UI_ROOTS", str(ZOO.folder))
    assert outside([str(ZOO.base)]) == []
    (problem,) = outside(["/etc/passwd"])
    assert "lies outside" in problem.what


def test_durations_are_said_as_a_person_would() -> None:
    assert [about(seconds) for seconds in (0.01, 42, 600, 7200, 400_000)] == [
        *("about 1 s", "about 42 s", "about 10 min", "about 2 h", "about 4.6 days")
    ]
