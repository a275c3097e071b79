"""What is read once for some models and then kept: their inner products, the digits they read right."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import sqrt
from typing import Any, Literal

import streamlit as st

from merging import Diagnosis, LiveScorer, Map, MergingError, Positions, diagnose, recall_diagnosis
from ui import remote
from ui.places import stamp

# Pairs of a name in charts and a source are few; a scene is some kB, its models' headers are the most of it.
MOST_SCENES = 8
OUTSIDE = "outside"
Stamps = tuple[Any, ...]
Part = Literal["validation", "test"]
# Base, models and the tensors of which inner products are taken.
Among = tuple[str, tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Scene:
    """A base model and its fine-tunes: their names in charts, their tensors, all positions and the map of them.

    `sources` are what the models were chosen by, in the order of the names; `lengths` squared norms of the task
    vectors, tensor by tensor; `places` the layers of the tensors.
    """

    sources: tuple[str, ...]
    names: tuple[str, ...]
    tensors: tuple[Any, ...]
    positions: Positions
    map: Map
    warnings: tuple[str, ...]
    base_norm: float
    lengths: list[list[float]]
    places: tuple[str, ...]
    outside: str = OUTSIDE


def made(diagnosis: Diagnosis, sources: tuple[str, ...]) -> Scene:
    """What a diagnosis shows."""
    positions = Positions(diagnosis)
    return Scene(
        sources,
        diagnosis.names,
        diagnosis.tensors,
        positions,
        Map(positions),
        diagnosis.warnings,
        sqrt(float(diagnosis.gram[:, 0, 0].sum())) or 1.0,
        positions.tasks.diagonal(dim1=1, dim2=2).tolist(),
        tuple(OUTSIDE if each.layer is None else f"{each.stack} {each.layer}".strip() for each in diagnosis.tensors),
    )


def stamps(*sources: str) -> Stamps:
    """What changes when one of the checkpoints does."""
    return tuple(map(stamp, sources))


@st.cache_resource(show_spinner=False)
def _scenes() -> dict[Any, Scene]:
    return {}


def scene(base: str, models: tuple[str, ...], watch: Callable[[int, int], None] | None = None) -> Scene:
    """The inner products of these models, from one pass over their weights; `watch` is told of bytes read.

    Raises what is wrong with the models, all at once.
    """
    key = (base, models, stamps(base, *models))
    known = _scenes()
    if key not in known:
        opened = [remote.opened(model) for model in models]
        found = made(diagnose(opened, remote.opened(base), watch=watch), models)
        for old in list(known)[: max(0, len(known) + 1 - MOST_SCENES)]:
            known.pop(old, None)
        known[key] = found
    return known[key]


def is_known(base: str, models: tuple[str, ...]) -> bool:
    """Whether these models' inner products are remembered, so that no weight has to be read. Raises like `scene`."""
    if (base, models, stamps(base, *models)) in _scenes():
        return True
    return recall_diagnosis([remote.opened(model) for model in models], remote.opened(base)) is not None


@st.cache_resource(max_entries=2, show_spinner=False, on_release=lambda scorer: scorer.close())
def _scorer(stamped: Stamps) -> LiveScorer:  # noqa: ARG001
    return LiveScorer()


@st.cache_data(max_entries=5000, show_spinner=False)
def merge_scores(text: str, part: Part, digits: int, stamped: Stamps, among: Among | None = None) -> dict[str, Any]:
    """The scores of a recipe's merge, made in memory, by the names of their fields. Raises MergingError.

    `among` asks for `products` as well, where the merge stands among models.
    """
    scorer = _scorer(stamped)
    began = time.perf_counter()
    merged = scorer.merge(text)
    seconds = time.perf_counter() - began
    found = asdict(replace(scorer.score(merged, part, digits), seconds_merge=seconds))
    return {**found, "products": scorer.products(merged, *among).tolist() if among else None}


@st.cache_data(max_entries=500, show_spinner=False)
def _model_scores(source: str, part: Part, digits: int, tasks: tuple[str, ...], stamped: Stamps) -> dict[str, Any]:
    held = _scorer(stamped)
    return asdict(held.score(held.open(source), part, digits, tasks))


@dataclass(frozen=True)
class Reference:
    """What a merge is compared with: shares of digits that the base and each task's own fine-tune read right."""

    tasks: dict[str, str]
    base: dict[str, float]
    own: dict[str, float]

    @property
    def own_mean(self) -> float:
        """Mean over the tasks of their own fine-tunes' accuracy."""
        return sum(self.own.values()) / len(self.own)

    def of_own(self, scores: dict[str, float]) -> float:
        """Mean over the tasks of an accuracy divided by that of the task's own fine-tune."""
        return sum(scores[task] / max(self.own[task], 1e-9) for task in scores) / len(scores)


def reference(base: str, part: Part, digits: int, stamped: Stamps) -> Reference:
    """The bundled fine-tunes on their own tasks, and this base on all. Raises MergingError for another architecture."""
    zoo = _scorer(stamped).zoo
    own = {
        task: _model_scores(str(path), part, digits, (task,), stamped)["mean"] for task, path in zoo.fine_tunes.items()
    }
    return Reference(dict(zoo.tasks), _model_scores(base, part, digits, tuple(zoo.tasks), stamped)["tasks"], own)


@st.cache_data(max_entries=64, show_spinner=False)
def _refusal(base: str, stamped: Stamps) -> str | None:
    try:
        held = _scorer(stamped)
        held.require(held.open(base))
    except MergingError as error:
        return str(error.what)
    return None


def why_unscored(base: str, stamped: Stamps) -> str | None:
    """Why merges with this base cannot be scored on the bundled digits; None where they can."""
    return _refusal(base, stamped)
