"""Text for people and from them: sizes, names of unknown origin, errors."""

from __future__ import annotations

import re

import click

from merging.errors import MergingError, Problems


def size(text: str | int) -> int:
    """The number of bytes that 512MiB, 4GiB, 5GB, 500M or 1000000 stands for; a usage error for anything else.

    >>> size("4GiB"), size("500M"), size("1.5 kb")
    (4294967296, 500000000, 1500)
    """
    match = re.fullmatch(r"(\d+\.?\d*)\s*([kmgt]?)(i?)(b?)", str(text).strip(), re.IGNORECASE)
    letter, binary, _ = [part.lower() for part in match.groups()[1:]] if match else ("", "", "")
    if not match or (binary and not letter):
        raise click.BadParameter(f"{text!r} is not a size; write it like 512MiB, 4GiB or 500M")
    nbytes = round(float(match[1]) * float(1024 if binary else 1000) ** " kmgt".index(letter or " "))
    if nbytes < 1:
        raise click.BadParameter(f"{text!r} is less than one byte")
    return nbytes


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
