"""What `run` and `sweep` have in common when a job's folder is named."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from merging.jobs.worker import Worker


@contextmanager
def working(
    ctx: click.Context, folder: Path, kind: Literal["merge", "sweep"], recipe: str, out: Path | None = None
) -> Iterator[Worker]:
    """The worker of the job in `folder`, when its turn has come; the job is made when it is started by hand."""
    from merging.jobs.files import without_tokens
    from merging.jobs.jobs import Jobs
    from merging.jobs.worker import Worker

    folder = folder.absolute()
    _hide_tokens_in_log(folder, without_tokens)
    target = None if out is None else out.absolute()
    given = [word for word in (target,) if word is not None]
    words = ["merging", str(ctx.info_name), str(folder / "recipe.yaml"), *map(str, given), "--job", str(folder)]
    Jobs(folder.parent).adopt(folder.name, kind, recipe, target, [*words, *_given_options(ctx)])
    with Worker(folder) as worker:
        worker.wait_for_turn()
        yield worker


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
