"""What stands before a job: the wish is read and judged, then its folder is there at once, with a place in the line."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from merging.errors import MergingError, OutputError, RecipeError, raise_all
from merging.jobs.anchor import anchored
from merging.jobs.files import replace_json, without_tokens
from merging.jobs.job import Job, Kind, job_data, read_job
from merging.jobs.queue import Queue
from merging.jobs.state import JOB_FILE, POINTS_FILE, RECIPE_FILE, State
from merging.methods.declare import find_method
from merging.planning.check import check
from merging.recipe.checks import check_parameters
from merging.recipe.recipe import Recipe, Scalar
from merging.recipe.text import read_recipe
from merging.recipe.variants import grid, vary

# The command line of a job, once its folder is known.
Command = Callable[[Path], tuple[str, ...]]

_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
_LONGEST_NAME = 200


def read_wish(recipe: str, folder: Path | None, *, lenient: bool) -> tuple[str, Recipe]:
    """A recipe as text that holds anywhere, and as a value whose places are those of the given text or file."""
    text, file = (recipe, None) if "\n" in recipe else (None, Path(recipe))
    wish = read_recipe(recipe if text is not None else Path(recipe), lenient=lenient)
    if file is not None:
        text = file.read_text(encoding="utf-8-sig")
    home = folder or (file.parent if file is not None else Path())
    if folder is not None and file is None:
        wish = replace(wish, file=str(folder / "recipe.yaml"))
    assert text is not None
    return anchored(text, wish, home.expanduser().absolute()), wish


def refuse_tokens(token: str | None = None, /, **texts: str) -> None:
    """Raise RecipeError for each text that would write an access token, or this one, down where anybody can read it."""
    raise_all(
        [
            RecipeError(
                f"the {what} holds an access token",
                must_be="free of secrets: jobs are written to disk, and command lines are seen by all users",
                fix="leave it in the environment, as HF_TOKEN",
            )
            for what, text in texts.items()
            if without_tokens(text) != text or (token and token in text)
        ]
    )


def check_variants(recipe: Recipe, axes: Mapping[str, Sequence[Scalar]]) -> None:
    """Raise what is wrong with a grid: with its first merge by all that headers tell, with others by their values."""
    first = next(grid(axes))
    problems: list[MergingError] = []
    for axis, values in axes.items():
        for value in values[1:]:
            try:
                varied = vary(recipe, {**first, axis: value})
                problems += check_parameters(varied, find_method(recipe.method))
            except MergingError as problem:
                problems.append(problem)
    problems += check(vary(recipe, first), allow_unused=True).problems
    raise_all(list({str(problem): problem for problem in problems}.values()))


def taken(root: Path, out: Path) -> list[MergingError]:
    """Another job that waits or runs and writes to the same folder."""
    queue = Queue(root)
    for _, id in queue.line():
        job = read_job(root / id)
        if job.kind == "merge" and job.command and job.out == out and queue.is_alive(id):
            what = f"the job {id} writes to {out} already"
            return [OutputError(what, must_be="a new or empty folder", fix="name another folder, or cancel that job")]
    return []


def make_job(root: Path, kind: Kind, text: str, name: str, out: Path | None, command: Command, id: str = "") -> Job:
    """A job's folder with all that belongs in it. Raises OutputError, and then leaves nothing behind."""
    queue = Queue(root)
    with queue.changing():
        raise_all(taken(root, out) if out is not None else [])
        now = datetime.now(UTC)
        id = id or _new_id(root, now)
        folder, fresh = root / id, root / f".new-{id}"
        try:
            ticket = queue.next_ticket()
            target = out or folder / POINTS_FILE
            job = Job(id, kind, name[:_LONGEST_NAME], folder, target, command(folder), now, ticket)
            fresh.mkdir()
            if text:
                (fresh / RECIPE_FILE).write_text(text, encoding="utf-8")
            replace_json(fresh / JOB_FILE, job_data(job))
            State(ticket=ticket).write(fresh)
            fresh.replace(folder)
            queue.enter(ticket, id)
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            raise OutputError(
                f"cannot write the folder of a job in {root}: {error.strerror}",
                fix="free space there, or set MERGING_HOME to a folder on another disk",
            ) from None
    return job


def _new_id(root: Path, now: datetime) -> str:
    """Sorted by time, and short enough to be typed."""
    while True:
        id = f"{now:%Y%m%d-%H%M%S}-{''.join(secrets.choice(_LETTERS) for _ in range(3))}"
        if not (root / id).exists():
            return id
