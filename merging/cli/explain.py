"""`merging explain`: what will happen?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merging.cli.options import json_option, planning_options, recipe_argument, workers_option
from merging.cli.text import printable

if TYPE_CHECKING:
    from merging.planning.plan import Job, Plan


@click.command()
@recipe_argument
@planning_options
@workers_option
@click.option("--tensors", is_flag=True, help="Every tensor on a line of its own, with its parameters.")
@json_option
def explain(
    recipe: str,
    planning: dict[str, Any],
    workers: int | None,
    tensors: bool,
    as_json: bool,
) -> None:
    """Show what RECIPE will do: passes, bytes, memory, and what every tensor gets. No tensor is read.

    \b
    Example:
      merging explain recipe.yaml --tensors
    """
    from merging.planning.build import plan
    from merging.planning.explain import explain as account
    from merging.planning.explain import headlines, render, text
    from merging.planning.plan import job_data

    wish = plan(Path(recipe), **planning)
    explanation = account(wish, workers=workers)
    if as_json:
        data = explanation.data() | ({"tensors": [job_data(job) for job in wish.jobs]} if tensors else {})
        click.echo(json.dumps(data, indent=2))
    elif tensors:
        click.echo(printable("\n".join([*headlines(explanation), "", *(_line(wish, job) for job in wish.jobs)])))
    elif sys.stdout.isatty():
        from rich.console import Console

        Console().print(render(explanation))
    else:
        click.echo(printable(text(explanation)))


def _line(plan: Plan, job: Job) -> str:
    """One output tensor: what it is, how it is made, from which models."""
    inputs = ", ".join(plan.models[operand.model].location for operand in job.operands)
    base = f" on {plan.models[job.base.model].location}" if job.base else ""
    parameters = " ".join(f"{name}={json.dumps(value)}" for name, value in job.parameters.items())
    shape = " × ".join(str(length) for length in job.spec.shape) or "scalar"
    how = f"{job.method or job.rule} of {inputs}{base}"
    return "  ".join(part for part in (job.spec.name, f"{job.spec.dtype} {shape}", how, parameters, job.note) if part)
