"""The recipes that are timed, as both tools read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path


def _models(places: Sequence[Path], *settings: str) -> str:
    inside = f"\n    parameters: {{{', '.join(settings)}}}" if settings else ""
    return "models:\n" + "".join(f"  - model: {place}{inside}\n" for place in places)


def _tasks(method: str, *settings: str) -> Callable[[Sequence[Path]], str]:
    def write(places: Sequence[Path]) -> str:
        models = _models(places[1:], "weight: 0.4", *settings)
        return f"merge_method: {method}\nbase_model: {places[0]}\n{models}dtype: bfloat16\n"

    return write


def _linear(places: Sequence[Path]) -> str:
    return f"merge_method: linear\n{_models(places[1:], 'weight: 0.4')}dtype: bfloat16\n"


def _slerp(places: Sequence[Path]) -> str:
    parameters = "parameters: {t: 0.4}\n"
    return f"merge_method: slerp\nbase_model: {places[0]}\n{_models(places[:2])}{parameters}dtype: bfloat16\n"


def _based(method: str, setting: str = "") -> Callable[[Sequence[Path]], str]:
    def write(places: Sequence[Path]) -> str:
        models = _models(places[1:])
        return f"merge_method: {method}\nbase_model: {places[0]}\n{models}{setting}dtype: bfloat16\n"

    return write


def _karcher(places: Sequence[Path]) -> str:
    return f"merge_method: karcher\n{_models(places[1:])}dtype: bfloat16\n"


def _passthrough(places: Sequence[Path]) -> str:
    return f"merge_method: passthrough\n{_models(places[1:2])}dtype: bfloat16\n"


RECIPES: dict[str, Callable[[Sequence[Path]], str]] = {
    "passthrough": _passthrough,
    "linear": _linear,
    "task_arithmetic": _tasks("task_arithmetic"),
    "slerp": _slerp,
    "ties": _tasks("ties", "density: 0.2"),
    "ties_global": _tasks("ties_global", "density: 0.2"),
    "breadcrumbs": _tasks("breadcrumbs", "density: 0.9", "gamma: 0.01"),
    "breadcrumbs_ties": _tasks("breadcrumbs_ties", "density: 0.9", "gamma: 0.01"),
    "karcher": _karcher,
    "model_stock": _based("model_stock"),
    "dare_ties": _tasks("dare_ties", "density: 0.5"),
    "della": _tasks("della", "density: 0.5", "epsilon: 0.1"),
    "sce": _based("sce", "parameters: {select_topk: 0.5}\n"),
    "opcm": _based("opcm"),
    "tsv_merge": _based("tsv_merge"),
}
# Recipes that the peer has no method for, and those whose time is that of decomposing matrices.
SPECTRAL = ("opcm", "tsv_merge")
OURS_ALONE = ("ties_global", *SPECTRAL)


def inputs_of(text: str, places: Sequence[Path]) -> list[Path]:
    """The weight files of every model that a recipe names."""
    named = [place for place in places if f"{place}\n" in text]
    return [file for place in named for file in sorted(place.glob("*.safetensors"))]
