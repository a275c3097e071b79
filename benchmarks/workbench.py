"""How fast the Explore page follows a slider: what the library does in a move, and the script of the page.

    python -m benchmarks.workbench --keep

Models are the bundled ones. Milliseconds of wall clock, the least and the median of several; each move is to values
that no run before had, so that nothing is remembered. The page's script runs in Streamlit's own test harness, which
parses all that the script sends; `fragment` is the part of it that a browser waits for after a slider has moved.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import ROOT, circumstances
from benchmarks.streaming import save
from merging import Checkpoint, LiveScorer, Map, Positions, diagnose, find_zoo

REPEATS = 7
METHODS = ("task_arithmetic", "ties", "dare_linear", "tsv_merge")
DIGITS = (25, 50, 100, 200)
LIVE_DIGITS = 100


@dataclass(frozen=True)
class Latency:
    """Milliseconds that something took."""

    what: str
    least: float
    median: float
    repeats: int


def timed(what: str, call: Callable[[int], Any], repeats: int = REPEATS) -> Latency:
    """The call, which is told which repeat it is, once to warm up and then several times."""
    call(repeats)
    spent = []
    for repeat in range(repeats):
        began = time.perf_counter()
        call(repeat)
        spent.append(1000 * (time.perf_counter() - began))
    return Latency(what, min(spent), median(spent), repeats)


def geometry() -> Iterator[Latency]:
    """What a move costs where a formula tells everything."""
    zoo = find_zoo()
    models, base = [str(path) for path in zoo.fine_tunes.values()], str(zoo.base)
    yield timed("inner products, read from the weights", lambda _: diagnose(models, base, cache=False), 3)
    diagnosis = diagnose(models, base, cache=False)
    positions = Positions(diagnosis)
    plane = Map(positions)
    rows = [[[0.3 + repeat / 50] * len(models)] * len(diagnosis.tensors) for repeat in range(REPEATS + 1)]
    yield timed("position with layers, weights by tensor", lambda i: positions.at(rows[i]).layers)
    yield timed("place on the map", lambda i: plane.project(rows[i]))


def scores() -> Iterator[Latency]:
    """What a move costs where a merge is made and scored."""
    scorer = LiveScorer()
    for method in METHODS:
        yield timed(f"merge by {method}", partial(_merged, scorer, method))
    for digits in DIGITS:
        merged = scorer.merge(_recipe(METHODS[0], 0))
        yield timed(f"score {digits} digits of every task", partial(_read, scorer, merged, digits))
    live = timed(f"live score, {LIVE_DIGITS} digits", lambda i: scorer.score_recipe(_recipe(METHODS[0], i), digits=100))
    yield live
    scorer.close()


def _merged(scorer: LiveScorer, method: str, repeat: int) -> None:
    scorer.merge(_recipe(method, repeat))


def _read(scorer: LiveScorer, merged: Checkpoint, digits: int, _: int) -> None:
    scorer.score(merged, digits=digits)


def _recipe(method: str, repeat: int) -> str:
    zoo = find_zoo()
    weight = 0.3 + repeat / 50
    listed = "".join(f"- model: {path}\n  parameters: {{weight: {weight}}}\n" for path in zoo.fine_tunes.values())
    return f"merge_method: {method}\nbase_model: {zoo.base}\nmodels:\n{listed}"


def page() -> Iterator[Latency]:
    """The page's script: first opening, a move that is scored, a move whose score is known."""
    from streamlit.testing.v1 import AppTest

    from ui.explore import workspace

    inside: list[float] = []
    draw = workspace.draw

    def watched(base: str, models: tuple[str, ...]) -> None:
        began = time.perf_counter()
        draw(base, models)
        inside.append(1000 * (time.perf_counter() - began))

    workspace.draw = watched
    test = AppTest.from_file(str(ROOT / "ui" / "views" / "explore.py"), default_timeout=300)
    began = time.perf_counter()
    test.run()
    first = 1000 * (time.perf_counter() - began)
    yield Latency("first page, nothing known", first, first, 1)
    # The first move imports what later ones have.
    values = [round(0.45 + 0.05 * k, 2) for k in range(REPEATS + 1)]
    for what in ("move that is merged and scored: script", "geometry redraw, score known: script"):
        whole = timed(what, lambda i: _moved(test, values[i]))
        yield whole
        spent = inside[-REPEATS:]
        yield Latency(what.replace("script", "fragment"), min(spent), median(spent), REPEATS)
    workspace.draw = draw


def _moved(test: Any, value: float) -> None:
    test.slider(key="explore_weight_task_arithmetic_rotated").set_value(value).run()
    assert not test.exception, test.exception


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="write a result file")
    parser.add_argument(
        "--library", dest="without_page", action="store_true", help="leave the page out, for which Streamlit is needed"
    )
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"XDG_CACHE_HOME": folder, "MERGING_HOME": folder}
        os.environ["MERGING_UI_ROOTS"] = str(Path(find_zoo().folder))
        for part in (geometry, scores) if options.without_page else (geometry, scores, page):
            for row in part():
                rows.append(asdict(row))
                print(f"{row.what:48} {row.least:9.1f} ms   median {row.median:9.1f} ms", flush=True)
    if options.keep:
        save({"benchmark": "workbench", **circumstances(), "rows": rows}, "workbench")


if __name__ == "__main__":
    main()
