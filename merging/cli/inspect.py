"""`merging inspect`: the tensors of a checkpoint, from its headers alone."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import click

from merging.cli.options import json_option
from merging.cli.text import printable


@click.command()
@click.argument("path")
@click.option("--filter", "pattern", metavar="REGEX", help="Only tensors whose name holds a match.")
@click.option("--allow-pickle", is_flag=True, help="Read .bin and .pt files, through a restricted unpickler.")
@json_option
def inspect(path: str, pattern: str | None, allow_pickle: bool, as_json: bool) -> None:
    """List the tensors of the checkpoint PATH, or of a source as recipes have it. No entry is read.

    PATH is a folder, a .safetensors file, owner/name on the Hub, base+adapter, or store:FOLDER#task.

    \b
    Examples:
      merging inspect merged/ --filter 'layers\\.0\\.'
      merging inspect store:ada/my-tasks#math
    """
    from merging.analysis.contents import contents
    from merging.recipe.source import open_source

    held = contents(open_source(path, allow_pickle=allow_pickle))
    wanted = _expression(pattern)
    found = {
        "location": held.location,
        "family": held.family,
        "layers": held.layers,
        "fingerprint": held.fingerprint,
        "sidecars": list(held.sidecars),
        "tensors": [{**each._asdict(), "shape": list(each.shape)} for each in held.tensors if wanted.search(each.name)],
    }
    click.echo(json.dumps(found, indent=2) if as_json else printable(_listed(found)))


def _expression(pattern: str | None) -> re.Pattern[str]:
    try:
        return re.compile(pattern or "")
    except re.error as error:
        raise click.BadParameter(f"{pattern!r} is not a regular expression: {error}", param_hint="--filter") from None


def _listed(found: dict[str, Any]) -> str:
    from merging.planning.explain import readable

    rows = found["tensors"]
    dtypes = Counter(row["dtype"] for row in rows)
    layers = [f"{count} layers" + (f" in {stack}" if stack else "") for stack, count in found["layers"].items()]
    lines = [
        ", ".join([f"{found['location']}: {found['family']}", *layers]),
        f"{len(rows)} tensors, {sum(row['entries'] for row in rows):,} entries, "
        f"{readable(sum(row['nbytes'] for row in rows))}; "
        + ", ".join(f"{count} {dtype}" for dtype, count in dtypes.most_common()),
        "",
    ]
    cells = [_cells(row) for row in rows]
    widths = [max((len(row[column]) for row in cells), default=0) for column in range(4)]
    for name, dtype, shape, size, place in cells:
        start = f"{name.ljust(widths[0])}  {dtype.ljust(widths[1])}  {shape.ljust(widths[2])}  {size.rjust(widths[3])}"
        lines.append(f"{start}  {place}".rstrip())
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> tuple[str, str, str, str, str]:
    from merging.planning.explain import readable

    shape = " × ".join(str(length) for length in row["shape"]) or "scalar"
    layer = "" if row["layer"] is None else f"{row['stack']} layer {row['layer']}".strip()
    place = " ".join(part for part in (layer, row["role"]) if part)
    # A newline in a name would start a row of its own.
    return row["name"].replace("\n", "\\n"), row["dtype"], shape, readable(row["nbytes"]), place
