"""What `run`, `sweep` and `push` have in common when a job's folder is named."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from merging.jobs.job import Kind
    from merging.jobs.worker import Worker


@contextmanager
def working(
    ctx: click.Context, folder: Path, kind: Kind, recipe: str, out: Path | None = None, to: str = ""
) -> Iterator[Worker]:
    """The worker of the job in `folder`, when its turn has come; the job is made when it is started by hand.

    A push has no recipe; `out` is what it publishes and `to` the repository.
    """
    from merging.jobs.files import without_tokens
    from merging.jobs.jobs import Jobs
    from merging.jobs.worker import Worker

    folder = folder.absolute()
    _hide_tokens_in_log(folder, without_tokens)
    target = None if out is None else out.absolute()
    given = [str(folder / "recipe.yaml")] if recipe else []
    given += [str(word) for word in (target, to) if word]
    words = ["merging", str(ctx.info_name), *given, "--job", str(folder)]
    Jobs(folder.parent).adopt(folder.name, kind, recipe, target, [*words, *_given_options(ctx)])
    with Worker(folder) as worker, _warnings_told(worker):
        worker.wait_for_turn()
        yield worker


def told_to(worker: Worker, watch: Callable[[Any], None]) -> Callable[[Any], None]:
    """The watch of a push, that also has the worker count what it sees."""

    def told(event: Any) -> None:
        if hasattr(event, "manifest"):
            worker.expect_files(len(event.manifest.entries), event.manifest.nbytes)
        else:
            worker.sent(event.path, event.done, event.size, event.held)
        watch(event)

    return told


@contextmanager
def _warnings_told(worker: Worker) -> Iterator[None]:
    """Have warnings about the Hub stand among the job's events, too."""
    from merging.errors import HubWarning

    shown = warnings.showwarning

    def tell(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, HubWarning):
            worker.tell({"event": "Warned", "text": str(message)})
        shown(message, category, *place, **more)

    warnings.showwarning = tell
    try:
        yield
    finally:
        warnings.showwarning = shown


def _given_options(ctx: click.Context) -> list[str]:
    """The options of this call as one would type them, in the order of the command's help; without --job."""
    words: list[str] = []
    for option in ctx.command.params:
        name = option.name or ""
        source = ctx.get_parameter_source(name)
        if name == "job" or not isinstance(option, click.Option) or source != ParameterSource.COMMANDLINE:
            continue
        value: Any = ctx.params[name]
        for each in value if option.multiple else [value]:
            text = str(each.absolute() if isinstance(each, Path) else each)
            words += [option.opts[0]] if option.is_flag else [option.opts[0], text]
    return words


def _hide_tokens_in_log(folder: Path, hide: Any) -> None:
    """Where our errors go into the job's log, they go there without tokens, a traceback's included."""
    with suppress(OSError, ValueError, io.UnsupportedOperation):
        if os.path.samestat(os.fstat(2), (folder / "log.txt").stat()) and sys.stderr.fileno() == 2:
            sys.stderr = _Hiding(sys.stderr, hide)
            sys.stdout = _Hiding(sys.stdout, hide)


class _Hiding(io.TextIOBase):
    """Text passed on without tokens."""

    def __init__(self, target: Any, hide: Any):
        self._target = target
        self._hide = hide

    def write(self, text: str) -> int:
        self._target.write(self._hide(text))
        self._target.flush()
        return len(text)

    def flush(self) -> None:
        self._target.flush()

    def fileno(self) -> int:
        return int(self._target.fileno())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(self._target.encoding)
