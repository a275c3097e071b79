"""The search over settings, what is kept of it, and the table made of it; no model is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import merging
from benchmarks.quality import table
from benchmarks.quality.grids import Grid, Settings, read_table, settings_of, unknown_entries
from benchmarks.quality.merges import inputs_of, recipe, sources
from benchmarks.quality.records import Records
from benchmarks.quality.search import Search, Trial


def search(
    mean: Callable[..., float | None], grids: Mapping[str, Grid], scale: str | None = None, **options: Any
) -> Search:
    """A search run to its end over a score that is a function of the settings."""

    def attempt(values: Mapping[str, Any]) -> Trial | None:
        score = mean(**{**defaults, **values})
        return None if score is None else Trial(score, str(score), 1.0)

    defaults = dict.fromkeys(grids, 1.0)
    found = Search(attempt, Settings(grids=grids, scale=scale), defaults, **options)
    found.run()
    return found


SCALE = Grid((0.5, 1.0, 1.5), further=(0.1, 0.2, 2.0, 3.0, 4.0))


def test_the_grid_goes_on_outwards_while_the_best_is_the_outermost() -> None:
    found = search(lambda scale: -abs(scale - 3), {"scale": SCALE})
    assert found.best == {"scale": 3.0}
    assert sorted(key[0][1] for key in found.seen) == [0.5, 1.0, 1.5, 2.0, 3.0, 4.0]
    assert found.at_edge() == []


def test_a_best_value_inside_the_grid_is_not_looked_beyond() -> None:
    found = search(lambda scale: -abs(scale - 1), {"scale": SCALE})
    assert found.best == {}
    assert len(found.seen) == 3


def test_a_best_value_at_the_end_of_the_whole_grid_is_told() -> None:
    assert search(lambda scale: scale, {"scale": SCALE}).at_edge() == ["scale"]
    assert search(lambda scale: -scale, {"scale": SCALE}).at_edge() == ["scale"]


def test_the_end_of_a_grid_at_a_bound_of_the_parameter_is_no_edge() -> None:
    share = Grid((0.2, 0.5), further=(1.0,), bounds=(0.0, 1.0))
    found = search(lambda density: density, {"density": share})
    assert found.at_edge() == []


def test_an_earlier_parameter_is_tried_again_beside_the_choice_of_a_later_one() -> None:
    grids = {"scale": SCALE, "density": Grid((0.5, 1.0))}
    found = search(lambda scale, density: -abs(scale * density - 1.5) / 2 - density, grids)
    assert found.best == {"scale": 3.0, "density": 0.5}


def test_a_second_round_looks_only_beside_the_best() -> None:
    grids = {"scale": Grid((0.2, 0.5, 1.0, 1.5, 2.0)), "density": Grid((0.5, 1.0))}
    once, twice = (search(lambda scale, density: -abs(scale - 1) - density, grids, rounds=n) for n in (1, 2))
    added = [dict(key) for key in twice.seen if key not in once.seen]
    assert added == [{"density": 0.5, "scale": 0.5}, {"density": 0.5, "scale": 1.5}]


def test_the_scale_moves_along_with_another_parameter() -> None:
    """On a ridge that runs across both, where neither parameter alone leads upwards."""
    grids = {"scale": SCALE, "density": Grid((0.5, 1.0), further=(2.0,))}

    def ridge(scale: float, density: float) -> float:
        return -10 * abs(scale * density - 1) - density

    assert search(ridge, grids).best == {}
    assert search(ridge, grids, scale="scale").best == {"scale": 2.0, "density": 0.5}


def test_equal_weights_for_another_value_end_the_trials_of_a_parameter() -> None:
    found = search(lambda scale, unused: -abs(scale - 1), {"scale": SCALE, "unused": Grid((2.0, 3.0, 4.0))})  # noqa: ARG005
    assert [dict(key)["unused"] for key in found.seen].count(1.0) == 3
    assert {dict(key)["unused"] for key in found.seen} == {1.0, 2.0}


def test_refused_settings_are_passed_over() -> None:
    found = search(lambda scale: None if scale > 1 else scale, {"scale": SCALE})
    assert found.found is not None and found.found.mean == 1.0
    assert search(lambda scale: None, {"scale": SCALE}).found is None  # noqa: ARG005


def test_a_search_ends_when_its_time_is_spent() -> None:
    found = search(lambda scale: scale, {"scale": SCALE}, budget_seconds=2.5)
    assert len(found.seen) == 3
    assert found.is_spent


def test_the_table_of_grids_speaks_of_declared_methods_and_their_parameters() -> None:
    assert unknown_entries(read_table()) == []
    wrong = {"grids": {}, "methods": {"magic": {}, "ties": {"paper": {"wand": 1}, "read_off": "task"}}}
    assert unknown_entries(wrong) == ["magic", "ties.task", "ties.wand"]


@pytest.mark.parametrize("name", list(merging.all_methods()))
def test_the_papers_settings_are_values_that_the_parameters_take(name: str) -> None:
    method = merging.all_methods()[name]
    for key, value in settings_of(method, read_table()).start.items():
        method.parameters[key].check(value)


def test_values_that_a_parameter_does_not_take_are_left_out_of_its_grid() -> None:
    told = {"grids": {"density": {"start": [0.5, 1.5], "further": [-1.0, 1.0]}}, "methods": {}}
    grid = settings_of(merging.all_methods()["ties"], told).grids["density"]
    assert (grid.start, grid.further, grid.bounds) == ((0.5,), (1.0,), (0.0, 1.0))


def test_a_method_without_a_default_has_none_in_the_table() -> None:
    settings = settings_of(merging.all_methods()["slerp"], {"grids": {}, "methods": {}})
    assert not settings.complete
    assert settings.start == {"t": 0.25}


def declared(**needs: Any) -> Any:
    facts = {"sees": "task_vectors", "base": "required", "inputs": (1, None), "companions": ()}
    return SimpleNamespace(needs=SimpleNamespace(**{**facts, **needs}))


def test_models_are_given_to_a_method_as_it_declares() -> None:
    given = {
        "task_vectors": inputs_of(declared(), ["a", "b"]),
        "models": inputs_of(declared(sees="models"), ["a", "b"]),
        "unused": inputs_of(declared(sees="models", base="unused"), ["a", "b"]),
        "optional": inputs_of(declared(sees="models", base="optional"), ["a", "b"]),
    }
    assert {name: (inputs.models, inputs.base) for name, inputs in given.items() if not isinstance(inputs, str)} == {
        "task_vectors": (("a", "b"), "base"),
        "models": (("base", "a", "b"), "base"),
        "unused": (("a", "b"), None),
        "optional": (("a", "b"), "base"),
    }


def test_a_method_that_cannot_merge_the_models_says_why() -> None:
    assert inputs_of(declared(companions=("fisher", "moon")), ["a"]) == "needs moon of every model"
    assert inputs_of(declared(inputs=(1, 1)), ["a", "b"]) == "takes 1 model"
    assert inputs_of(declared(inputs=(3, None)), ["a", "b"]) == "takes at least 3 models"


def test_a_method_is_made_of_its_own_file_of_stand_ins_and_of_the_mathematics_they_use() -> None:
    methods = merging.all_methods()
    assert {"ties.py", "signs.py", "sparsify.py"} <= {file.name for file in sources(methods["ties"])}
    assert {"model_stock.py", "model_stock_rows.py"} <= {file.name for file in sources(methods["model_stock"])}


def test_a_recipe_reads_back_as_it_was_asked_for() -> None:
    inputs = inputs_of(merging.all_methods()["ties"], ["a", "b"])
    assert not isinstance(inputs, str)
    read = merging.read_recipe(recipe("ties", inputs, {"density": 0.2}))
    assert (read.method, read.base_model, [entry.source for entry in read.models]) == ("ties", "base", ["a", "b"])
    assert read.parameters["density"][0].value == 0.2


def test_records_outlive_a_run_that_was_ended_in_the_middle_of_a_line(tmp_path: Path) -> None:
    records = Records(tmp_path / "records.jsonl")
    records.add({"a": 1, "b": [2]}, {"x": 1.5})
    with records.file.open("a") as file:
        file.write('{"key": {"a": 2')
    again = Records(records.file)
    again.add({"a": 3}, {"x": 2.5})
    last = Records(records.file)
    assert last.get({"b": [2], "a": 1}) == {"x": 1.5}
    assert last.get({"a": 2}) is None
    assert last.get({"a": 3}) == {"x": 2.5}


def result() -> dict[str, Any]:
    def scores(first: float, second: float) -> dict[str, float]:
        return {"one": first, "two": second}

    def measured(settings: dict[str, Any], first: float, second: float) -> dict[str, Any]:
        cost = {"seconds": 1.234, "peak_bytes": 50 << 20, "non_finite": 0}
        return {"settings": settings, "validation": scores(0, 0), "test": scores(first, second), **cost}

    facts = {"tried": 9, "at_edge": ["lambda"], "cut_short": False, "read_off": False, "companions": []}
    rows: list[dict[str, Any]] = [
        {
            "method": "worse",
            "default": None,
            "best": measured({}, 0.5, 0.4),
            **facts,
            "at_edge": [],
            "read_off": True,
            "companions": ["fisher"],
        },
        {
            "method": "better",
            "default": measured({"lambda": 1.0, "variant": "a"}, 0.4, 0.4),
            "best": measured({"lambda": 0.5}, 0.8, 0.45),
            **facts,
        },
        {"method": "pair", "reason": "takes 2 models"},
        {"method": "broken", "failed": "RuntimeError: no luck"},
    ]
    parts = {"pretrained": (0.25, 0.3), "fine_tuned": (1.0, 0.5)}
    references = {name: {"val": scores(0, 0), "test": scores(*pair)} for name, pair in parts.items()}
    machine = {"processor": "a processor", "cores": 2, "memory_gib": 23.5}
    facts = {"date": "2026-01-02T03:04:05+00:00", "commit": "0123456789abcdef", "changed_files": 0, "torch": "2.13.0"}
    facts |= {"examples": {"val": {"one": 250, "two": 250}, "test": {"one": 500, "two": 1000}}, "longest": 48}
    facts |= {"training": {"rate": 1e-4, "epochs": 3, "batch": 32}, "merged_entries": 10_600_000, "encoder": "a model"}
    facts |= {"effort": {"bfloat16": False}}
    facts |= {"statistics_examples": 256}
    return {"benchmark": "quality", "machine": machine, "references": references, "rows": rows, **facts}


def lines(start: str) -> list[list[str]]:
    found = [line for line in table.tables(result()).splitlines() if line.startswith(start)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found]


def test_the_table_has_the_best_method_first_and_norms_by_the_fine_tunes() -> None:
    better, worse = lines("| better")[0], lines("| worse, given fisher, one model a task")[0]
    assert better[1:] == [
        "lambda 1, variant a",
        "40.0",
        "60.0",
        "lambda 0.5 (edge: lambda)",
        "62.5",
        "85.0",
        "1.23",
        "50",
    ]
    assert worse[1:4] == ["–", "–", "–"]
    text = table.tables(result())
    assert text.index("| better") < text.index("| worse")
    assert lines("| individual")[0][5:7] == ["75.0", "100.0"]


def test_the_second_table_has_accuracy_at_every_task() -> None:
    assert lines("| better")[1] == ["better", "80.0", "45.0", "62.5"]


def test_what_is_not_in_the_table_is_listed_with_the_reason() -> None:
    text = table.tables(result())
    assert "- pair: takes 2 models\n- broken: RuntimeError: no luck" in text
    assert "250 validation examples a task" in text and "500 to 1000 test examples" in text


def test_only_what_stands_between_the_markers_of_the_page_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "quality-old.json").write_text(json.dumps({**result(), "date": "2025", "rows": []}))
    (tmp_path / "quality-new.json").write_text(json.dumps(result()))
    page = tmp_path / "quality.md"
    page.write_text("before\n<!-- quality:begin -->\nold\n<!-- quality:end -->\nafter\n")
    table.write_tables(page, tmp_path)
    between = table.tables(result())
    assert page.read_text() == f"before\n<!-- quality:begin -->\n{between}\n<!-- quality:end -->\nafter\n"
    page.write_text("no markers")
    with pytest.raises(SystemExit, match="needs the lines"):
        table.write_tables(page, tmp_path)
