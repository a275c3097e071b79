"""`merging diagnose`: what do fine-tunes of one base model have in common, and where do they disagree?"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merging.cli.options import json_option, quiet_option, workers_option
from merging.cli.text import printable, show_warning, size

if TYPE_CHECKING:
    from merging.analysis.diagnose import Diagnosis, Watch
    from merging.analysis.table import Table

# Options that hold for all that is measured.
SHARED = ("missing_tensors", "extra_tensors", "memory", "workers", "allow_pickle")
BY = ("tensor", "layer", "role", "model")


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--base", metavar="BASE", help="The base model that all were fine-tuned from.")
@click.option("--table", "path", type=click.Path(dir_okay=False, path_type=Path), help="Write a .csv or .parquet file.")
@click.option("--by", type=click.Choice(BY), help="Rows of the table: tensors unless said; models in JSON.")
@click.option(
    "--spectra", "spectral", is_flag=True, help="Decompose matrices as well: ranks and shared directions. Slow."
)
@click.option("--no-cache", is_flag=True, help="Measure again what was measured before, and keep nothing.")
@click.option("--missing-tensors", type=click.Choice(["refuse", "base"]), default="refuse", show_default=True)
@click.option("--extra-tensors", type=click.Choice(["refuse", "drop"]), default="drop", show_default=True)
@click.option("--memory", type=size, default="4GiB", show_default=True, metavar="SIZE", help="Bound on buffers.")
@click.option("--allow-pickle", is_flag=True, help="Read .bin and .pt files, through a restricted unpickler.")
@workers_option
@quiet_option
@json_option
def diagnose(
    models: tuple[str, ...], base: str | None, path: Path | None, by: str | None, as_json: bool, **options: Any
) -> None:
    """Compare the fine-tunes MODEL... of one base model, before merging them: one pass over the weights.

    How far each moved and how sparsely, how their task vectors lie to each other, where their signs disagree, layer by
    layer, and in plain words what that means for a merge. A recipe in the place of the models stands for the models and
    the base model that it names. What was measured once is kept and shown again at once; docs/diagnose.md lists the
    quantities.

    \b
    Examples:
      merging diagnose math/ code/ --base llama/
      merging diagnose recipe.yaml --table layers.csv --by layer
    """
    _require_table(path)
    began = time.perf_counter()
    quiet = options["quiet"] or as_json
    sources, bare = _inputs(models, base, options["allow_pickle"])
    found, cached = _diagnosed(sources, bare, options, quiet)
    spectral = _spectra(sources, bare, options, quiet) if options["spectral"] else None
    if path is not None:
        _write(path, _tabled(found, spectral, by or "tensor"))
    if as_json:
        click.echo(json.dumps(_data(found, _tabled(found, spectral, by or "model"), cached), indent=2, allow_nan=False))
        return
    if not options["quiet"]:
        for warning in found.warnings:
            show_warning(warning)
    _show(found, cached, time.perf_counter() - began, by, spectral)


def _require_table(path: Path | None) -> None:
    if path is not None and path.suffix.lower() not in (".csv", ".parquet"):
        raise click.BadParameter(f"{path} is neither a .csv nor a .parquet file", param_hint="--table")


def _inputs(models: Sequence[str], base: str | None, allow_pickle: bool) -> tuple[list[Any], Any]:
    """Models and base: as given, or opened where a recipe names them from its folder."""
    if len(models) == 1 and Path(models[0]).suffix.lower() in (".yaml", ".yml", ".json"):
        return _named_by(Path(models[0]), base, allow_pickle)
    if base is None:
        raise click.UsageError("name the base model that all were fine-tuned from: --base BASE")
    return list(models), base


def _named_by(path: Path, base: str | None, allow_pickle: bool) -> tuple[list[Any], Any]:
    from merging.errors import RecipeError
    from merging.recipe.source import open_source
    from merging.recipe.text import read_recipe

    recipe = read_recipe(path)
    named = base or recipe.base_model
    if recipe.slices or named is None:
        raise RecipeError(
            "the recipe names no base model"
            if recipe.models
            else "the recipe stacks slices, whose layers have no base",
            where=str(path),
            must_be="a recipe with `models:` and a `base_model:`",
            fix="pass --base BASE" if recipe.models else "name models and --base on the command line",
        )
    sources = [entry.source for entry in recipe.models if entry.source != named]
    opened = [open_source(source, relative_to=path.parent, allow_pickle=allow_pickle) for source in sources]
    return opened, base or open_source(named, relative_to=path.parent, allow_pickle=allow_pickle)


def _diagnosed(models: Sequence[Any], base: Any, options: dict[str, Any], quiet: bool) -> tuple[Diagnosis, bool]:
    """The diagnosis, and whether it was kept from before: then nothing is read, and nobody is told of bytes."""
    from merging.analysis.diagnose import diagnose as measure

    read: list[int] = []
    with _watching("reading", quiet) as draw:

        def watch(done: int, total: int) -> None:
            read[:] = [done]
            draw(done, total)

        chosen = {name: options[name] for name in SHARED}
        found = measure(models, base, cache=not options["no_cache"], watch=watch, **chosen)
    return found, not read


def _spectra(models: Sequence[Any], base: Any, options: dict[str, Any], quiet: bool) -> Table:
    from merging.analysis.spectra import spectra

    with _watching("decomposing", quiet) as draw:
        return spectra(models, base, watch=draw, **{name: options[name] for name in SHARED})


def _tabled(found: Diagnosis, spectral: Table | None, by: Any) -> Table:
    """The rows that were asked for; spectra of several matrices together are means over their entries."""
    table = found.table(by)
    if spectral is None:
        return table
    return table + (spectral if by == "tensor" else spectral.by(*([] if by == "model" else [by]), how="weighted"))


def _write(path: Path, table: Table) -> None:
    from merging.errors import OutputError

    try:
        table.parquet(path) if path.suffix.lower() == ".parquet" else table.csv(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None


def _data(found: Diagnosis, table: Table, cached: bool) -> dict[str, Any]:
    from merging.analysis.summary import summary

    return {
        "base": found.base,
        "models": dict(zip(found.names, found.models, strict=True)),
        "tensors": len(found.tensors),
        "entries": sum(tensor.entries for tensor in found.tensors),
        "fingerprint": found.fingerprint,
        "cached": cached,
        "warnings": found.warnings,
        "summary": summary(found),
        "rows": [row for row in table.records() if row["value"] == row["value"]],
    }


def _show(found: Diagnosis, cached: bool, seconds: float, by: str | None, spectral: Table | None) -> None:
    from rich.console import Console

    from merging.analysis.summary import summary
    from merging.cli.diagnosis import WIDE, headline, tables

    click.echo(printable(headline(found, cached, seconds)))
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    for table in tables(found, by, spectral):
        console.print()
        console.print(table)
    click.echo()
    for sentence in summary(found):
        click.echo(printable(f"- {sentence}"))


@contextmanager
def _watching(verb: str, quiet: bool) -> Iterator[Watch]:
    """A bar on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(verb, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
