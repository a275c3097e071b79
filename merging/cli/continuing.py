"""`merging continue`: one more model into a finished merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from merging.cli.options import overwrite_option, planning_options, quiet_option, workers_option
from merging.cli.run import carry_out


@click.command("continue")
@click.argument("out", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("model")
@click.argument("new", type=click.Path(file_okay=False, path_type=Path))
@planning_options
@workers_option
@overwrite_option
@quiet_option
def continue_(
    out: Path, model: str, new: Path, planning: dict[str, Any], workers: int | None, overwrite: bool, quiet: bool
) -> None:
    """Add MODEL to the finished merge in OUT, without the models it was made from; the result goes to NEW.

    OUT stays as it is. Its record tells the method, its settings and its base model, its ledger how long the earlier
    task vectors were. Methods that can do this say so in `merging methods NAME`.

    \b
    Example:
      merging continue merged/ models/new merged-with-new/
    """
    from merging.engine.continuing import continued_recipe
    from merging.planning.build import plan

    planned = plan(continued_recipe(out, model), **planning)
    carry_out(planned, new, planning, workers=workers, overwrite=overwrite, quiet=quiet)
