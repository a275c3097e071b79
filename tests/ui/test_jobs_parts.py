"""What the page of jobs makes of ledgers, points, events and numbers, without the page."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from tests.ui.job_pages import RECIPE, points
from ui.jobs.comparing import setting_rows, tensor_rows
from ui.jobs.listing import short_path
from ui.jobs.points import cells, point_rows
from ui.jobs.result import event_rows
from ui.jobs.status import LOOKS, lasted, of_bytes
from ui.jobs.tensors import csv_text, flat, in_layers


def test_points_that_failed_are_last_and_out_of_the_heat_map() -> None:
    rows = point_rows(points())
    assert [row["unbeaten"] for row in rows] == [True, False, False, False]
    assert rows[-1]["error"] == "it broke" and rows[-1]["mean"] is None
    assert [row["score"] for row in cells(points(), ("lambda", "density"), "x")] == [0.0, 0.2, 0.4]


def test_a_ledger_is_laid_out_with_shares_and_remarks() -> None:
    operands = [{"model": 1, "norm": 3.0, "share": -3.0, "same": False}, {"model": 2, "norm": 4.0, "share": 1.0}]
    row = {"tensor": "a.3.w", "layer": 3, "rule": "merge", "operands": operands, "merged_norm": 5.0, "non_finite": 2}
    copied = {
        "tensor": "b",
        "layer": None,
        "rule": "copy",
        "operands": [{"model": 7, "same": True}],
        "note": "a buffer",
    }
    first, second = flat([row, copied], ["base", "one", "two"])
    assert (first["share · one"], first["share · two"], first["norm · two"]) == (-0.75, 0.25, 4.0)
    assert first["remarks"] == "2 entries are not finite"
    assert second["remarks"] == "same as in model 7; a buffer" and second["merged norm"] is None
    curves, order = in_layers([first, second])
    assert {each["name"]: each["value"] for each in curves} == {"merge": 5.0, "one": 3.0, "two": 4.0} and order == ["3"]
    read = list(csv.DictReader(io.StringIO(csv_text([first, second]))))
    assert [each["tensor"] for each in read] == ["a.3.w", "b"] and read[1]["share · one"] == ""


def test_layers_of_two_stacks_are_told_apart() -> None:
    rows = [
        {"tensor": f"{stack}.block.{i}.w", "layer": i, "rule": "merge", "merged norm": 1.0}
        for stack in ("encoder", "decoder")
        for i in (10, 2)
    ]
    _, order = in_layers(rows)
    assert order == ["decoder.block 2", "decoder.block 10", "encoder.block 2", "encoder.block 10"]


def test_the_most_different_tensors_come_first() -> None:
    class Compared:
        def __init__(self, tensor: str, same: bool, distance: float, left: float, right: float):
            self.tensor, self.same, self.distance = tensor, same, distance
            self.left_norm, self.right_norm, self.note = left, right, ""

    nan = float("nan")
    found = [
        Compared("same", True, 0.0, 1, 1),
        Compared("near", False, 0.1, 1, 1),
        Compared("far", False, 0.9, 1, 1),
        Compared("alone", False, nan, 1, nan),
    ]
    assert [row["tensor"] for row in tensor_rows(found, "norm")] == ["alone", "far", "near", "same"]
    ledgers = [Compared("near", False, nan, 1.0, 1.1), Compared("far", False, nan, 1.0, 3.0)]
    assert [row["tensor"] for row in tensor_rows(ledgers, "norm")] == ["far", "near"]


def test_models_that_differ_are_named_in_short() -> None:
    other = RECIPE.replace("two", "a/very/long/path")
    rows = {row["setting"]: (row["this job"], row["the other"]) for row in setting_rows(RECIPE, other)}
    assert rows["models"] == ("one, two", "one, path")


def test_progress_stands_only_between_other_events() -> None:
    kinds = ["Started", "Progress", "Progress", "Sealed", "Strange"]
    rows = event_rows([{"event": kind, "time": float(i), "n": i} for i, kind in enumerate(kinds)])
    assert [row["event"] for row in rows] == ["Strange", "Sealed", "Progress", "Started"]
    assert rows[0]["says"] == '{"n": 4}'


def test_every_state_has_a_word_an_icon_and_a_sign_of_its_own() -> None:
    assert set(LOOKS) == {"queued", "running", "done", "failed", "cancelled", "lost"}
    for name in ("sign", "icon", "paint"):
        assert len({getattr(look, name) for look in LOOKS.values()}) == len(LOOKS)


def test_numbers_are_told_as_people_read_them() -> None:
    assert [lasted(seconds) for seconds in (0.42, 59.6, 61, 7_500)] == ["0.4 s", "1 min 0 s", "1 min 1 s", "2 h 5 min"]
    assert of_bytes(8_400_000, 2_203_000_000) == "8.4 MB of 2.2 GB" and of_bytes(0, 2_000) == "0 of 2 KB"
    assert short_path(Path("/data/ada/models/merged")) == "…/ada/models/merged"
