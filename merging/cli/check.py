"""`merging check`: would the recipe work?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merging.cli.options import json_option, overwrite_option, planning_options, recipe_argument
from merging.cli.text import show_error, show_warning
from merging.errors import Problems

if TYPE_CHECKING:
    from merging.planning.check import Report


@click.command()
@recipe_argument
@click.argument("out", required=False, type=click.Path(path_type=Path))
@planning_options
@overwrite_option
@json_option
def check(
    recipe: str,
    out: Path | None,
    planning: dict[str, Any],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Find everything in RECIPE that would fail, all at once, from headers alone. No tensor is read.

    With OUT, the folder and the free space are looked at too. The exit code is 1 when there is a problem.

    \b
    Example:
      merging check recipe.yaml merged/ --memory 2GiB
    """
    from merging.planning.check import check as look

    report = look(Path(recipe), out=out, overwrite=overwrite, **planning)
    if as_json:
        click.echo(json.dumps(_data(report), indent=2))
    else:
        _show(recipe, report)
    sys.exit(0 if report.good else 1)


def _show(recipe: str, report: Report) -> None:
    from merging.planning.explain import readable

    for warning in report.warnings:
        show_warning(warning)
    if report.problems:
        show_error(Problems(report.problems))
        return
    fetched = f", gets {readable(report.fetched_bytes)} from the Hub" if report.fetched_bytes else ""
    free = "" if report.free_bytes is None else f" ({readable(report.free_bytes)} are free)"
    click.echo(
        f"{recipe}: no problem found. {report.tensors} tensors; reads {readable(report.read_bytes)}{fetched}, "
        f"takes up to {readable(report.disk_bytes)} of disk{free} "
        f"and {readable(report.memory_bytes)} of memory for buffers"
    )


def _data(report: Report) -> dict[str, Any]:
    fields = ("what", "where", "must_be", "fix")
    problems = [
        {"kind": type(problem).__name__, **{name: getattr(problem, name) for name in fields}}
        for problem in report.problems
    ]
    return {
        "good": report.good,
        "problems": problems,
        "warnings": report.warnings,
        "plan": report.plan.hash if report.plan else None,
        "tensors": report.tensors,
        "read_bytes": report.read_bytes,
        "disk_bytes": report.disk_bytes,
        "free_bytes": report.free_bytes,
        "memory_bytes": report.memory_bytes,
        "fetched_bytes": report.fetched_bytes,
    }
