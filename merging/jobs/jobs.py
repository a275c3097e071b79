"""All jobs under one root: handing in, finding, removing.

    ROOT/20261125-134502-x7k/  recipe.yaml  job.json  state.json  events.jsonl  log.txt  cancel

There is no server: whoever hands in a job starts its worker, and the workers agree among themselves who is next.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from merging.checkpoint.tensors import Checkpoint
from merging.engine.folder import read_record
from merging.errors import OutputError, RecipeError, nearest, raise_all
from merging.jobs.files import without_tokens
from merging.jobs.job import Job, Kind, read_job
from merging.jobs.making import Command, check_variants, make_job, read_wish, refuse_tokens, taken
from merging.jobs.options import axes_of, checked_options, repeated
from merging.jobs.queue import Queue
from merging.jobs.state import JOB_FILE, RECIPE_FILE
from merging.planning.check import check
from merging.recipe.recipe import Scalar

ZOO_SCORES = ("zoo", "zoo-test")


def default_root() -> Path:
    """Where jobs live: $MERGING_HOME/jobs, else $XDG_STATE_HOME/merging/jobs, else ~/.local/state/merging/jobs."""
    if home := os.environ.get("MERGING_HOME"):
        return Path(home).expanduser() / "jobs"
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state and Path(state).is_absolute() else Path.home() / ".local/state") / "merging" / "jobs"


class Jobs:
    """The jobs under one root, `default_root()` where none is named. Nothing is made before the first submission."""

    def __init__(self, root: Path | str | None = None):
        self.root = Path(root).expanduser().absolute() if root is not None else default_root().absolute()

    def submit(
        self,
        recipe: str,
        out: Path | str,
        *,
        folder: Path | None = None,
        name: str = "",
        options: Sequence[str] = (),
        checkpoints: Mapping[str, Checkpoint] | None = None,
        token: str | None = None,
    ) -> Job:
        """Start a merge in a process of its own, or put it in the line behind others.

        `recipe` is YAML text or the path of a file; relative models are looked for in `folder` (default: the file's),
        then in the current one. `options` are those of `merging run`. `checkpoints` stands in for sources when the
        merge is judged: what is open already is not asked for again. `token` is for the Hub, by default that of the
        environment; it reaches the worker by its environment and is written nowhere. Raises everything that is wrong,
        all at once, before anything is written: what `merging check` finds, a folder that another job writes to, a
        token in sight.
        """
        target = Path(out).expanduser().absolute()
        planning = checked_options(options)
        text, wish = read_wish(recipe, folder, lenient=bool(planning.get("lenient")))
        refuse_tokens(token, recipe=text, name=name, out=str(out), options=" ".join(options))
        report = check(wish, out=target, checkpoints=checkpoints, **planning)
        raise_all([*report.problems, *taken(self.root, target)])

        def command(job: Path) -> tuple[str, ...]:
            return ("merging", "run", str(job / RECIPE_FILE), str(target), "--job", str(job), *options)

        return self._begin("merge", text, name, target, command, token)

    def submit_sweep(
        self,
        recipe: str,
        axes: Mapping[str, Sequence[Scalar]],
        *,
        score: str = "zoo",
        folder: Path | None = None,
        name: str = "",
    ) -> Job:
        """Start a sweep: `recipe` merged at every point of the grid of `axes`, each merge scored.

        `score` is "zoo" (the bundled models' validation digits), "zoo-test", or a command line that holds {folder} and
        prints a number or a JSON object of them. Axes are named as in `merging.vary`. Raises like `submit`.
        """
        text, wish = read_wish(recipe, folder, lenient=False)
        refuse_tokens(recipe=text, name=name, axes=" ".join(axes), score=score)
        check_variants(wish, axes)
        scored = ("--score", score) if score in ZOO_SCORES else ("--score-command", score)
        if score not in ZOO_SCORES and "{folder}" not in score:
            raise RecipeError(
                f"the score command {score!r} does not say where the merge goes",
                must_be="a command line that holds {folder}, or one of " + ", ".join(ZOO_SCORES),
            )
        varied = [word for axis, values in axes.items() for word in ("--vary", f"{axis}={','.join(map(str, values))}")]

        def command(job: Path) -> tuple[str, ...]:
            return ("merging", "sweep", str(job / RECIPE_FILE), *varied, *scored, "--job", str(job))

        return self._begin("sweep", text, name, None, command)

    def sweep_again(self, id: str, *, name: str | None = None) -> Job:
        """Start the sweep of a job once more, as a new one: its recipe, its grid and its options as they were.

        Raises OutputError where the job is no sweep, and whatever is wrong with the sweep now, as `submit_sweep` does.
        """
        job = self.find(id)
        # A text of one line would be taken for a path.
        if job.kind != "sweep" or "\n" not in job.recipe or not job.command:
            raise OutputError(
                f"{job.id} holds no sweep that could be run again",
                where=str(job.folder),
                must_be="a sweep with its recipe",
                fix="submit its recipe" if job.kind == "merge" else None,
            )
        words = repeated(job.command)
        text, wish = read_wish(
            job.recipe if "\n" in job.recipe else f"{job.recipe}\n", job.folder, lenient="--lenient" in words
        )
        check_variants(wish, dict(axes_of(words)))

        def command(folder: Path) -> tuple[str, ...]:
            return ("merging", "sweep", str(folder / RECIPE_FILE), *words, "--job", str(folder))

        return self._begin("sweep", text, job.name if name is None else name, None, command)

    def submit_push(
        self,
        folder: Path | str,
        repository: str,
        *,
        branch: str | None = None,
        pull_request: bool = False,
        private: bool = True,
        parent: str | None = None,
        replace: bool = False,
        message: str = "",
        name: str = "",
        token: str | None = None,
    ) -> Job:
        """Start putting a finished merge on the Hub, in a process of its own: `merging push`, whose options these are.

        `token` is by default that of the environment; it reaches the worker by its environment and is written nowhere.
        Raises OutputError for a folder without the record of a merge, RecipeError for a token in sight. What else may
        be wrong `merging.push` with `dry_run` tells beforehand, and the job's error afterwards.
        """
        source = Path(folder).expanduser().absolute()
        refuse_tokens(token, repository=repository, branch=branch or "", message=message, name=name, out=str(source))
        if read_record(source) is None:
            must_be = "the output of a finished merge"
            raise OutputError(f"{source} holds no record of a merge", must_be=must_be, fix="wait until it is sealed")
        words = [*(("--branch", branch) if branch else ()), *(("--pr",) if pull_request else ())]
        words += [*(() if private else ("--public",)), *(("--parent", parent) if parent else ())]
        words += [*(("--replace",) if replace else ()), *(("--message", message) if message else ())]

        def command(job: Path) -> tuple[str, ...]:
            return ("merging", "push", str(source), repository, "--job", str(job), *words)

        return self._begin("push", "", name, source, command, token)

    def all(self) -> list[Job]:
        """Every job, the newest first."""
        try:
            folders = [path for path in self.root.iterdir() if path.name[:1] != "." and path.is_dir()]
        except OSError:
            return []
        return sorted(map(read_job, folders), key=lambda job: (job.number, job.id), reverse=True)

    def search(self, text: str) -> list[Job]:
        """The jobs in which every word of `text` occurs: in id, name, state, command, paths or recipe."""
        words = text.casefold().split()
        return [job for job in self.all() if all(word in _searched(job) for word in words)]

    def find(self, id: str) -> Job:
        """The job of this id, or of an id that alone begins or ends so. Raises OutputError with the nearest."""
        jobs = {job.id: job for job in self.all()}
        if id in jobs:
            return jobs[id]
        alike = [job for name, job in jobs.items() if id and (name.startswith(id) or name.endswith(f"-{id}"))]
        if len(alike) == 1:
            return alike[0]
        if alike:
            must_be = "more of the id: " + ", ".join(job.id for job in alike[:5])
            raise OutputError(f"{len(alike)} jobs are called {id}…", where=str(self.root), must_be=must_be)
        close = nearest(id, jobs) or list(jobs)[:3]
        raise OutputError(
            f"there is no job {id!r}",
            where=str(self.root),
            fix="nearest: " + ", ".join(close) if close else "`merging jobs submit` starts one",
        )

    def remove(self, id: str) -> None:
        """Forget a job that is over: its folder goes, what it has merged stays. Raises OutputError for others."""
        job = self.find(id)
        with Queue(self.root).changing():
            state = job.state
            if state in ("queued", "running"):
                raise OutputError(f"{job.id} is {state}", must_be="a job that is over", fix="cancel it first")
            Queue(self.root).leave(job.id)
            # Renamed first, so that nobody sees half a job.
            gone = self.root / f".removed-{job.id}"
            try:
                job.folder.replace(gone)
                shutil.rmtree(gone)
            except OSError as error:
                raise OutputError(f"cannot remove {job.folder}: {error.strerror}") from None

    def adopt(self, id: str, kind: Kind, recipe: str, out: Path | None, command: Sequence[str]) -> Job:
        """The job in the folder `id`, for a worker that was started by hand: it is made where there is none.

        `recipe` is "" for a push, which has none.

        Raises OutputError when the folder holds something else, or a job with another recipe or command.
        """
        folder = self.root / id
        own = bool(recipe) and Path(recipe).absolute() == folder / RECIPE_FILE
        text = "" if own or not recipe else read_wish(str(Path(recipe)), None, lenient="--lenient" in command)[0]
        if (folder / JOB_FILE).is_file():
            job = read_job(folder)
            other = (not own and job.recipe != text) or job.kind != kind or (out is not None and job.out != out)
            if other or _asked(job.command) != _asked(command):
                raise OutputError(
                    f"{folder} is the folder of another job",
                    where=shlex.join(job.command),
                    must_be="a new folder, or the one in which this job began",
                    fix="name another folder",
                )
            return job
        if folder.exists() and any(folder.iterdir()):
            raise OutputError(
                f"{folder} is not empty", must_be="a new folder, or that of a job", fix="name another one"
            )
        return make_job(self.root, kind, text, "", out, lambda _: tuple(map(without_tokens, command)), id)

    def _begin(
        self, kind: Kind, text: str, name: str, out: Path | None, command: Command, token: str | None = None
    ) -> Job:
        job = make_job(self.root, kind, text, name, out, command)
        job.start(token)
        return job


def _asked(command: Sequence[str]) -> list[str]:
    """What decides the results of a sweep and where a push goes; the other options may change when it goes on."""
    decide = ("--vary", "--score", "--score-command", "--branch")
    place = [command[3], *(word for word in command if word == "--pr")] if list(command[1:2]) == ["push"] else []
    return place + [value for word, value in pairwise(command) if word in decide]


def _searched(job: Job) -> str:
    return "\n".join((job.id, job.name, job.state, str(job.out), *job.command, job.recipe)).casefold()
