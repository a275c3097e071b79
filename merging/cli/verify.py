"""`merging verify`: does an output still hold what was merged?"""

from __future__ import annotations

from pathlib import Path

import click

from merging.cli.options import fetch_option, quiet_option, workers_option
from merging.hub.fetching import Fetch


@click.command()
@click.argument("out", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--all", "everything", is_flag=True, help="Recompute every tensor.")
@click.option("--sample", type=click.IntRange(min=0), default=16, show_default=True, help="Tensors to recompute.")
@click.option("--allow-pickle", is_flag=True, help="Read .bin and .pt inputs, through a restricted unpickler.")
@fetch_option
@workers_option
@quiet_option
def verify(
    out: Path, everything: bool, sample: int, allow_pickle: bool, fetch: Fetch, workers: int | None, quiet: bool
) -> None:
    """Compare the folder OUT, made by `merging run` or `merging compress`, with its own record.

    Every tensor's bytes are compared with the ledger; then a sample is merged again from the inputs, which must still
    be where the recipe says; models on the Hub at the commits that were merged. `--sample 0` only looks at the bytes.
    Of a store of tasks only the bytes are compared.

    \b
    Example:
      merging verify merged/ --all
    """
    from merging.cli.progress import watch
    from merging.engine.verify import Verification, recorded_plan, require_good
    from merging.engine.verify import verify as compare
    from merging.store.record import is_store

    if is_store(out):
        from merging.engine.store_folder import verify_store

        click.echo(f"{out}: {verify_store(out)} tensors are as written; of a store none is merged again")
        return
    plan = recorded_plan(out, allow_pickle=allow_pickle, fetch=fetch) if everything or sample else None
    events = compare(out, plan, sample=None if everything else sample, workers=workers)
    result = watch(events, quiet=quiet).last
    assert isinstance(result, Verification)
    require_good(result, out)
    click.echo(f"{out}: {result.tensors} tensors are as written; {result.recomputed} merged again, equal to the bit")
