"""The program as a person calls it, in this process."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import click
import pytest

from merging.cli import main
from merging.cli.program import COMMANDS, program


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Call: TypeAlias = Callable[..., Outcome]


def heed_interrupts() -> None:
    """For a child about to begin: what a shell starts in the background ignores interrupts, and hands that down."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def commands() -> dict[str, click.Command]:
    """All commands of the program, by name."""
    found = {name: program.get_command(click.Context(program), name) for name in COMMANDS}
    return {name: command for name, command in found.items() if command is not None}


def caller(capsys: pytest.CaptureFixture[str], *command: str) -> Call:
    """Calls the program with these first words, and gives what it printed and returned."""

    def invoke(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as left:
            main([*command, *map(str, arguments)])
        text = capsys.readouterr()
        return Outcome(int(left.value.code or 0), text.out, text.err)

    return invoke
