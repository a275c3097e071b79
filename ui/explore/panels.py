"""The right side of the page: numbers, map, scores, layers, agreement, the recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from ui import boxes, draft
from ui.explore import figures, geometry, trail
from ui.explore.geometry import Plane
from ui.explore.iso_lines import iso_lines, levels
from ui.explore.scene import Part, Reference, Scene
from ui.explore.standing import Standing
from ui.explore.wish import Wish

PARTS: dict[Part, str] = {"validation": "Validation", "test": "Test"}
DIGITS: dict[Part, tuple[int, ...]] = {"validation": (25, 50, 100, 200), "test": (100, 200, 400)}
USUAL_DIGITS = 100
WHOLE = "all"
PRINCIPAL = "principal plane of all models"


def show_numbers(merge: Standing | None, cells: Sequence[Any]) -> None:
    """What inner products alone tell of the merge."""
    norm, relative, pull = "–", "–", "–"
    if merge is not None:
        norm, relative = f"{merge.norm:.3g}", f"{merge.relative_norm:.2%}"
        pull = "–" if merge.interference is None else f"{merge.interference:.2f}"
    tells = (
        ("Norm", norm, "Length of the merge's task vector: how far it is from the base."),
        ("Of the base", relative, "Norm over the base model's."),
        (
            "Interference",
            pull,
            "Norm over what it would be if the task vectors were orthogonal: above 1 they pull together, below 1 they "
            "cancel. Only weighted sums have one.",
        ),
    )
    for cell, (label, value, says) in zip(cells, tells, strict=True):
        cell.metric(label, value, help=says)


def ask_digits() -> tuple[Part, int]:
    """Which digits a merge is scored on, and how many of every task."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        part = st.segmented_control(
            "Digits",
            list(PARTS),
            default="validation",
            required=True,
            format_func=PARTS.__getitem__,
            key="explore_part",
            help="Choose by validation digits, and report test digits, which had no say in the choice.",
            persist_state="session",
        )
        count = st.select_slider(
            "of every task",
            DIGITS[part],
            USUAL_DIGITS,
            key=f"explore_digits_{part}",
            help="Fewer are faster, more are surer.",
            persist_state="session",
        )
    return part, int(count)


def show_means(scores: Mapping[str, Any], compared: Reference, cells: Sequence[Any]) -> None:
    """The scores of all tasks in one number, by itself and against the own fine-tunes."""
    cells[0].metric("Mean score", f"{scores['mean']:.1%}", help="Mean over the tasks of the digits read right.")
    says = "Mean over the tasks of the score over that of the task's own fine-tune."
    cells[1].metric("Of own", f"{compared.of_own(scores['tasks']):.1%}", help=says)


def show_scores(scores: Mapping[str, Any], compared: Reference) -> None:
    """A merge's score on every task beside the base and the task's own fine-tune."""
    tasks = scores["tasks"]
    rows = []
    for task, value in tasks.items():
        error = scores["errors"][task]
        rows.append(
            {
                "task": task,
                "name": "merge",
                "value": value,
                "error": error,
                "low": max(0.0, value - error),
                "high": min(1.0, value + error),
            }
        )
        rows.append({"task": task, "name": "base", "value": compared.base[task]})
        rows.append({"task": task, "name": figures.OWN, "value": compared.own[task]})
    st.vega_lite_chart(
        figures.scores_figure(rows, list(tasks)),
        key="explore_scores_chart",
        alt="Bars: share of digits that the merge reads right, by task, with marks for the base and the own fine-tune",
    )
    st.caption(
        f"{scores['digits']} {scores['part']} digits of every task, beside the base and the task's own fine-tune; mean "
        f"{scores['mean']:.1%} ± {scores['error']:.1%} (standard error, lines on the bars). Merged in "
        f"{1000 * scores['seconds_merge']:.0f} ms and read in {1000 * scores['seconds_score']:.0f} ms, nothing written."
    )
    if scores["part"] == "test":
        st.caption(":material/info: For the report only: sliders that are set by test digits flatter the merge.")


def ask_plane(scene: Scene) -> Plane:
    """The plane that is drawn."""
    n = len(scene.names)
    pairs = {f"base, {scene.names[i]}, {scene.names[j]}": (i, j) for i in range(n) for j in range(i + 1, n)}
    chosen = st.selectbox(
        "Plane", [PRINCIPAL, *pairs], key="explore_plane", persist_state="session", label_visibility="collapsed"
    )
    return Plane(scene, pairs.get(str(chosen)))


def show_map(scene: Scene, wish: Wish, merge: Standing | None, plane: Plane, mesh: Sequence[Sequence[Any]]) -> None:
    """Base, models and the merge as points, the last moves, and scores where they were measured."""
    models = geometry.model_points(scene, plane, merge)
    measured, line = trail.points(trail.moves(wish), plane)
    vertices = [vertex for row in mesh for vertex in row if vertex is not None]
    lines = iso_lines(mesh, levels([vertex.mean for vertex in vertices])) if vertices else []
    points = {"models": models, "measured": measured, "trail": line, "lines": lines}
    st.vega_lite_chart(
        figures.map_figure(points, geometry.frame([*models, *measured, *lines])),
        key="explore_map_chart",
        alt="Map: base model, fine-tunes and the merge in a plane, with scores of the merges that were measured",
    )
    st.caption(map_says(plane, models, merge, bool(measured or vertices)))


def map_says(plane: Plane, models: Sequence[Mapping[str, Any]], merge: Standing | None, scored: bool) -> str:
    """What a person must know to read the map."""
    says = ["Exact for two models." if plane.shown is None else f"Shows {plane.shown:.0%} of the models' variance."]
    if merge is not None and models[-1]["name"] == geometry.MERGE:
        off = models[-1]["off"]
        if merge.kind == "sum":
            says.append(f"The merge is {off:.2g} off the plane.")
        elif merge.kind == "measured":
            says.append(f"The merge is measured, {off:.2g} off the plane, {merge.beyond:.2g} off every weighted sum.")
        else:
            says.append("This method is no weighted sum; the diamond is the sum with these weights in its place.")
    if scored:
        says.append("Colours and lines: mean validation score of merges that were measured.")
    return " ".join(says)


def show_layers(scene: Scene, merge: Standing) -> None:
    """The merge layer by layer."""
    norms, cosines, order = geometry.layer_rows(scene, merge)
    for rows, names, title, height in (
        (norms, [geometry.MERGE], "norm", 170),
        (cosines, list(scene.names), "cosine", 230),
    ):
        st.vega_lite_chart(
            figures.layer_figure(rows, names, order, title, height),
            key=f"explore_{title}_chart",
            alt=f"Curves over the layers: {title} of the merge",
        )


def show_agreement(scene: Scene, merge: Standing | None) -> None:
    """Cosines of the task vectors, of the whole models or of a layer or a part."""
    with st.container(horizontal=True):
        layer = st.selectbox("Layer", [WHOLE, *geometry.layers_of(scene)], key="explore_layer", persist_state="session")
        role = st.selectbox("Part", [WHOLE, *geometry.roles_of(scene)], key="explore_role", persist_state="session")
    chosen = geometry.chosen_tensors(scene, "" if layer == WHOLE else layer, "" if role == WHOLE else role)
    if not chosen:
        boxes.empty("This layer has no such part.")
        return
    st.vega_lite_chart(
        figures.square_figure(geometry.agreement(scene, merge, chosen), [*scene.names, geometry.MERGE]),
        key="explore_agreement_chart",
        alt="Heat map: cosines between the task vectors, and of the merge to each",
    )


def show_recipe(text: str, idle: bool) -> None:
    """The recipe, the command that carries it out, and the way to the Compose page."""
    if st.button("To Compose", key="explore_compose", icon=":material/tune:", help="Go on with this recipe there."):
        draft.put(text)
        st.switch_page("views/compose.py")
    with st.expander("Recipe", icon=":material/description:"):
        st.code(text, language="yaml")
    boxes.command("run", "recipe.yaml", "merged/", *(["--allow-unused"] if idle else []))
