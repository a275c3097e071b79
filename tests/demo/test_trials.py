"""Which bundled models a method merges, and which settings are tried, from its declaration alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from merging.checkpoint.shards import open_checkpoint
from merging.demo.trials import Bench, tried
from merging.demo.zoo import find_zoo
from merging.methods.declare import Method, Needs, all_methods
from merging.methods.parameters import REQUIRED, Kind, Parameter

ZOO = find_zoo()


@pytest.fixture(scope="module")
def bench() -> Bench:
    models = {"base": ZOO.base, **ZOO.fine_tunes}
    return Bench(ZOO, {name: open_checkpoint(path) for name, path in models.items()}, "base")


def declared(**changes: Any) -> Method:
    method = next(iter(all_methods().values()))
    needs = Needs(sees="task_vectors", reach="element", **changes)
    return Method("given", "", needs, method.function)


def knob(name: str, kind: Kind, default: Any = REQUIRED) -> Parameter:
    return Parameter(name, name, kind, default, "")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"inputs": (1, 1)}, "takes one model"),
        ({"inputs": (7, None)}, "takes at least 7 models"),
        ({"companions": ("fisher",)}, "needs fisher of every model"),
    ],
)
def test_a_method_that_the_zoo_cannot_feed_is_left_out_with_the_reason(
    bench: Bench, changes: dict[str, Any], reason: str
) -> None:
    found = bench.best(declared(**changes))
    assert isinstance(found, str) and reason in found


def test_a_method_that_fails_at_every_setting_is_left_out_with_its_error(bench: Bench) -> None:
    found = bench.best(replace(declared(), name="no_such_method"))
    assert isinstance(found, str) and "no_such_method" in found


def test_a_method_of_pairs_merges_two_fine_tunes(bench: Bench) -> None:
    pairs = [method for method in all_methods().values() if method.needs.inputs == (2, 2)]
    for method in pairs:
        found = bench.best(method)
        assert not isinstance(found, str)
        assert [entry.source for entry in found.recipe.models] == list(ZOO.tasks)[:2]


def test_known_parameters_are_searched_and_others_stay_at_their_defaults() -> None:
    number = Kind("number")
    parameters = {"lambda": knob("lambda", number, 1.0), "gamma": knob("gamma", number, 0.01)}
    values = tried(replace(declared(), parameters=parameters))
    assert set(values) == {"lambda"}
    assert len(values["lambda"]) > 3 and 1.0 in values["lambda"]


def test_a_parameter_without_default_is_given_every_sensible_value_before_the_others() -> None:
    parameters = {
        "lambda": knob("lambda", Kind("number"), 1.0),
        "fraction": knob("fraction", Kind("number")),
        "way": knob("way", Kind("choice", choices=("left", "right"))),
        "fast": knob("fast", Kind("flag")),
    }
    values = tried(replace(declared(), parameters=parameters))
    assert list(values) == ["fraction", "way", "fast", "lambda"]
    assert len(values["fraction"]) == 3 and values["way"] == ("left", "right") and values["fast"] == (False, True)


def test_a_parameter_that_no_value_is_known_for_leaves_nothing_to_try(bench: Bench) -> None:
    method = replace(declared(), parameters={"rank": knob("rank", Kind("count", minimum=1))})
    assert bench.best(method) == "no value of rank could be tried"
