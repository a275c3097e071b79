"""`merging demo`: real models, merged and scored."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from merging.cli.options import json_option, quiet_option

if TYPE_CHECKING:
    from merging.demo.demo import Table

# Columns of the table where the output is no terminal that would say how many it has.
WIDE = 140


@click.command()
@click.option(
    "--out", default="demo-merge", show_default=True, type=click.Path(path_type=Path), help="Where the best merge goes."
)
@click.option("--method", "methods", multiple=True, help="Only this method; may be repeated.")
@quiet_option
@json_option
def demo(out: Path, methods: tuple[str, ...], quiet: bool, as_json: bool) -> None:
    """Merge the bundled models with every method, score each merge on held-out digits, leave the best one on disk.

    The models are small vision transformers, fine-tuned from one base to read digits that are turned, mirrored and so
    on. Nothing is downloaded.

    \b
    Example:
      merging demo --method ties --method linear
    """
    from merging.demo.demo import run_demo

    quiet = quiet or as_json
    table = run_demo(
        out, methods or None, watch=None if quiet else lambda name: click.echo(f"merging by {name}", err=True)
    )
    if as_json:
        click.echo(json.dumps(asdict(table), default=str, indent=2))
    else:
        _show(table)


def _show(table: Table) -> None:
    from rich.console import Console

    from merging.demo.demo import RECIPE, render

    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    console.print(render(table))
    if table.best:
        click.echo(
            f"\n{table.out} holds the merge that did best on the validation digits, by {table.best}. Go on with\n"
            f"  merging inspect {table.out}      its tensors\n"
            f"  merging verify {table.out}       is it what its record says?\n"
            f"  merging explain {table.out / RECIPE}      what was done\n"
            "  merging methods      what else there is; then write a recipe of your own: docs/recipes.md"
        )
