"""The program `merging`: its commands, and what it says and returns when one of them fails.

Exit codes: 0 done; 1 a problem in the recipe, the checkpoints or the output; 2 wrong usage of the command line;
70 a fault of the program itself; 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from keyword import iskeyword
from typing import Any

import click

from merging.cli.text import show_error, show_warning
from merging.errors import HubWarning, MergingError
from merging.hub.redact import redacted

FAULT, INTERRUPTED = 70, 130


# In the order in which one needs them: what a command does, and its module where it is not called so. Only the command
# that is asked for is imported.
COMMANDS = {
    "run": "Merge what RECIPE names into the folder OUT.",
    "check": "Find everything in RECIPE that would fail, all at once.",
    "explain": "Show what RECIPE will do: passes, bytes, memory, tensors.",
    "compress": "Keep the tasks of all models of RECIPE in the folder OUT.",
    "verify": "Compare the folder OUT, a merge or a store, with its record.",
    "continue": "Add MODEL to the finished merge in OUT.",
    "jobs": "List merges, running and past; start, follow, cancel, resume them.",
    "sweep": "Merge RECIPE at every point of a grid and score each merge.",
    "inspect": "List what the checkpoint at PATH holds: tensors, shapes, layers.",
    "diagnose": "Compare fine-tunes: what they share and where they clash.",
    "pull": "Fetch a checkpoint or a store of tasks from the Hub.",
    "push": "Publish a finished merge or store on the Hub, with a model card.",
    "methods": "List the merge methods, or explain the one called NAME.",
    "demo": "Merge and score the bundled models with every method.",
    "schema": "Print the JSON Schema of recipes.",
    "ui": "Open the workbench in a browser.",
}
_MODULES = {"continue": "continuing"}


class _Commands(click.Group):
    """The commands, each imported when it is called."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"merging.cli.{_MODULES.get(name, name)}")
        found: click.Command = getattr(module, name if name.isidentifier() and not iskeyword(name) else f"{name}_")
        return found

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"merging {version('merging')}")
        except PackageNotFoundError:
            click.echo("merging, run from a folder where it is not installed")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
    # The Hub's client would tell its makers once a day which program asks.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
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
            click.echo(redacted(traceback.format_exc()), err=True, nl=False)
        elif isinstance(error, MergingError):
            show_error(error)
        else:
            click.echo(redacted(f"merging failed with {type(error).__name__}: {error}"), err=True)
            click.echo("This is a fault of the program. `merging --debug …` shows where; please report it.", err=True)
        return 1 if isinstance(error, MergingError) else FAULT
