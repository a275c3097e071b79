"""The options of `merging run` that a job may be given, read before the job exists."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, get_args

from merging.errors import MergingError, RecipeError, nearest, raise_all
from merging.hub.fetching import Fetch
from merging.hub.names import parse_hub_name
from merging.recipe.axes import Axis, read_axis
from merging.recipe.sizes import read_size

# How each is spelled, and the keyword of `merging.check` that it decides; None: it decides nothing that can be checked.
_WITH_VALUE = {
    "--memory": "memory",
    "--shard-size": "shard_bytes",
    "--device": "device",
    "--fetch": "fetch",
    "--workers": None,
    "--push": None,
    "--push-branch": None,
}
_FLAGS: dict[str, str | None] = {
    "--lenient": "lenient",
    "--allow-pickle": "allow_pickle",
    "--allow-unused": "allow_unused",
    "--overwrite": "overwrite",
    "--no-resume": "resume",
    "--push-pr": None,
    "--push-public": None,
    "--keep-weights": None,
}


def checked_options(options: Sequence[str]) -> dict[str, Any]:
    """What command-line options mean, as keywords of `merging.check`. Raises every option that is none.

    >>> checked_options(["--memory", "2GiB", "--allow-unused"])
    {'memory': 2147483648, 'allow_unused': True}
    """
    is_pushed = any(word.partition("=")[0] == "--push" for word in options)
    given: dict[str, Any] = {"keeps_weights": False} if is_pushed and "--keep-weights" not in options else {}
    problems: list[MergingError] = []
    words = iter(options)
    for word in words:
        name, equals, value = word.partition("=")
        if name in _FLAGS and not equals:
            if (flag := _FLAGS[name]) is not None:
                given[flag] = name != "--no-resume"
        elif name in _WITH_VALUE:
            meant = _value(name, value if equals else next(words, ""))
            if isinstance(meant, MergingError):
                problems.append(meant)
            elif (keyword := _WITH_VALUE[name]) is not None:
                given[keyword] = meant
        else:
            problems.append(_unknown(word))
    raise_all(problems)
    return given


def repeated(command: Sequence[str]) -> list[str]:
    """The options of a job's command that hold for another job too: not where it lives, nor where it writes a table.

    >>> repeated(["merging", "sweep", "r.yaml", "--job", "a/b", "--vary", "lambda=1", "--table", "t.csv", "--lenient"])
    ['--vary', 'lambda=1', '--lenient']
    """
    found: list[str] = []
    words = iter(command[3:])
    for word in words:
        if word in ("--job", "--table"):
            next(words, None)
        else:
            found.append(word)
    return found


def axes_of(options: Sequence[str]) -> list[Axis]:
    """The axes that a sweep varies, by its options. Raises RecipeError for one that cannot be read."""
    return [read_axis(value) for word, value in pairwise(options) if word == "--vary"]


def value_of(command: Sequence[str], option: str) -> str:
    """What a command line gives for an option, the last time it does; empty where it does not.

    >>> value_of(["run", "--push", "ada/x"], "--push"), value_of(["run", "--push=ada/x"], "--push")
    ('ada/x', 'ada/x')
    """
    given = ""
    for word, after in pairwise([*command, ""]):
        given = after if word == option else word.removeprefix(f"{option}=") if word.startswith(f"{option}=") else given
    return given


def _value(name: str, text: str) -> Any:
    if name == "--device":
        return text or RecipeError("--device has no value", must_be="cpu, cuda, or cuda: and a number")
    if name == "--fetch":
        ways = get_args(Fetch)
        return text if text in ways else RecipeError(f"--fetch cannot be {text!r}", must_be=" or ".join(ways))
    if name == "--push":
        must_be = "owner/name, or owner/name@branch"
        return text if parse_hub_name(text) else RecipeError(f"--push cannot be {text!r}", must_be=must_be)
    if name == "--push-branch":
        return text or RecipeError("--push-branch has no value", must_be="the name of a branch")
    if name == "--workers":
        whole = text.isascii() and text.isdigit() and int(text) > 0
        return int(text) if whole else RecipeError(f"--workers cannot be {text!r}", must_be="a whole number from 1")
    try:
        return read_size(text)
    except MergingError as error:
        return RecipeError(f"{name} cannot be {text!r}", must_be=error.must_be)


def _unknown(word: str) -> MergingError:
    known = [*_WITH_VALUE, *_FLAGS]
    close = nearest(word, known, 1)
    return RecipeError(
        f"{word!r} is no option of a job", must_be=", ".join(known), fix=f"write {close[0]}" if close else None
    )
