"""The program `merging`: its commands, and what it says and returns when one of them fails.

Exit codes: 0 done; 1 a problem in the recipe, the checkpoints or the output; 2 wrong usage of the command line;
70 a fault of the program itself; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import click

from merging.cli.check import check
from merging.cli.continuing import continue_
from merging.cli.demo import demo
from merging.cli.diagnose import diagnose
from merging.cli.explain import explain
from merging.cli.inspect import inspect
from merging.cli.jobs import jobs
from merging.cli.methods import methods
from merging.cli.pull import pull
from merging.cli.run import run
from merging.cli.schema import schema
from merging.cli.sweep import sweep
from merging.cli.text import show_error, show_warning
from merging.cli.ui import ui
from merging.cli.verify import verify
from merging.errors import HubWarning, MergingError

FAULT, INTERRUPTED = 70, 130


class _InOrder(click.Group):
    """A group whose commands are listed as they were added: in the order in which one needs them."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(self.commands)


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"merging {version('merging')}")
        except PackageNotFoundError:
            click.echo("merging, run from a folder where it is not installed")
        ctx.exit()


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@click.option("--debug", is_flag=True, help="Show where in the program an error comes from.")
def program(debug: bool) -> None:
    """Merge neural-network checkpoints without holding them in memory.

    A recipe names models and a method; the output is a folder of safetensors files, ready to load.

    \b
      merging check recipe.yaml merged/     would it work? every problem at once, no tensor is read
      merging run recipe.yaml merged/       merge; run it again after an interruption and it goes on
      merging verify merged/                recompute a sample and compare
    """
    # `main` looks for --debug itself: it must know it when the arguments cannot be parsed.


for _command in (
    run,
    check,
    explain,
    verify,
    continue_,
    jobs,
    sweep,
    inspect,
    diagnose,
    pull,
    methods,
    demo,
    schema,
    ui,
):
    program.add_command(_command)


def _show_warnings() -> None:
    """Have our own warnings shown as all others that the program gives, without a place in its source."""
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, HubWarning):
            show_warning(str(message))
        else:
            shown(message, category, *place, **more)

    warnings.showwarning = show


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _show_warnings()
    sys.exit(_outcome(given, debug="--debug" in given[:1]))


def _outcome(arguments: list[str], debug: bool) -> int:
    try:
        return program.main(arguments, prog_name="merging", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has left, as `head` does; the interpreter must not flush into the void at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        elif isinstance(error, MergingError):
            show_error(error)
        else:
            click.echo(f"merging failed with {type(error).__name__}: {error}", err=True)
            click.echo("This is a fault of the program. `merging --debug …` shows where; please report it.", err=True)
        return 1 if isinstance(error, MergingError) else FAULT
