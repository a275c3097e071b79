"""Text for people and from them: sizes, names of unknown origin, errors."""

from __future__ import annotations

import click

from merging.errors import MergingError, Problems
from merging.recipe.sizes import read_size


def size(text: str | int) -> int:
    """The number of bytes that 512MiB, 4GiB, 5GB, 500M or 1000000 stands for; a usage error for anything else."""
    try:
        return read_size(text)
    except MergingError as error:
        raise click.BadParameter(f"{error.what}; write it like 512MiB, 4GiB or 500M") from None


def printable(text: str) -> str:
    """The text with control characters escaped, so that a tensor's name cannot write on the terminal.

    >>> printable("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return "".join(
        letter
        if letter.isprintable() or letter == "\n"
        else letter.encode("unicode_escape", "backslashreplace").decode()
        for letter in text
    )


def show_error(error: MergingError) -> None:
    """Print what is wrong, where, what it must be and how to fix it; several problems one after the other."""
    problems = error.problems if isinstance(error, Problems) else (error,)
    if len(problems) > 1:
        click.secho(f"{len(problems)} problems", err=True, bold=True)
    for problem in problems:
        what, _, rest = printable(str(problem)).partition("\n")
        click.echo(click.style("error: ", fg="red", bold=True) + what, err=True)
        if rest:
            click.echo(rest, err=True)


def show_warning(text: str) -> None:
    """Print something the user should know."""
    click.echo(click.style("warning: ", fg="yellow", bold=True) + printable(text), err=True)
