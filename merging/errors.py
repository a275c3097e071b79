"""The exception tree. Every error says what is wrong, where, what it must be and how to fix it.

MergingError
├── RecipeError           the recipe's text or structure
│   └── ParameterError    a method parameter: unknown, out of bounds, of the wrong kind
├── CheckpointError       a file, header or index that cannot be trusted
│   └── MatchError        checkpoints that do not fit together
├── HubError              the Hub: its files, a connection, a right
│   └── NoRepositoryError  there is none of that name, or it is private
├── OutputError           the target folder, disk space, a plan that does not fit the memory
│   └── ResumeError       a journal that belongs to another merge
├── SilentMergeError      a merge that would silently have done nothing
├── VerificationError     an output that does not hold what its record says
├── MissingExtraError     an optional dependency, with its install command
└── Problems              several of the above, reported at once
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class MergingError(Exception):
    """Base of all errors a user can cause; `what` is a sentence, the rest may be absent."""

    def __init__(self, what: str, *, where: str | None = None, must_be: str | None = None, fix: str | None = None):
        super().__init__(what)
        self.what = what
        self.where = where
        self.must_be = must_be
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.what]
        lines += [f"  where:   {self.where}"] if self.where else []
        lines += [f"  must be: {self.must_be}"] if self.must_be else []
        lines += [f"  fix:     {self.fix}"] if self.fix else []
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.must_be, self.fix)


def _rebuild(
    kind: type[MergingError], what: str, where: str | None, must_be: str | None, fix: str | None
) -> MergingError:
    return kind(what, where=where, must_be=must_be, fix=fix)


class RecipeError(MergingError):
    """The recipe's text or structure."""


class ParameterError(RecipeError):
    """A method parameter: unknown, out of bounds, of the wrong kind."""


class CheckpointError(MergingError):
    """A file, header or index that cannot be trusted."""


class MatchError(CheckpointError):
    """Checkpoints that do not fit together."""


class HubError(MergingError):
    """The Hub: a repository or file that is not there or not as told, a connection, a right."""


class NoRepositoryError(HubError):
    """There is no repository of that name, or it is private."""


class HubWarning(UserWarning):
    """Something about the Hub that a person should know and that stops nothing."""


class OutputError(MergingError):
    """The target folder, disk space, or a plan that does not fit the memory."""


class ResumeError(OutputError):
    """A journal that belongs to another merge."""


class SilentMergeError(MergingError):
    """A merge that would silently have done nothing."""


class VerificationError(MergingError):
    """An output that does not hold what its record says."""


class MissingExtraError(MergingError):
    """An optional dependency is not installed; `fix` is the install command."""


class Problems(MergingError):
    """Several errors of one kind of question, reported at once; never empty."""

    def __init__(self, problems: Sequence[MergingError]):
        self.problems = tuple(problems)
        super().__init__(f"{len(self.problems)} problems" if len(self.problems) > 1 else self.problems[0].what)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)

    def __reduce__(self) -> tuple[object, ...]:
        return Problems, (self.problems,)


def raise_all(problems: Sequence[MergingError]) -> None:
    """Raise nothing, the one problem, or all of them together."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise Problems(problems)


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The `count` known names that begin with this one or are closest in spelling; none if nothing is close.

    >>> nearest("tsv", ["svc", "tsv_merge", "ties"])
    ['tsv_merge', 'svc']
    """
    names = list(known)
    begun = [each for each in names if len(name) > 1 and each.startswith(name)]
    return list(dict.fromkeys([*begun, *get_close_matches(name, names, n=count, cutoff=0.6)]))[:count]
