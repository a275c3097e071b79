"""Does an output hold what its record says, and does the recipe still make it? Digests first, then recomputation."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merging.checkpoint.shards import open_checkpoint
from merging.checkpoint.sink import NullSink
from merging.checkpoint.tensors import Checkpoint
from merging.engine.events import Event
from merging.engine.execute import stored_digest
from merging.engine.folder import LEDGER, RECORD, read_record
from merging.engine.lane import require_device
from merging.engine.ledger import Row
from merging.engine.passes import Passes
from merging.errors import MergingError, VerificationError
from merging.planning.build import plan as make_plan
from merging.planning.check import STATE
from merging.planning.plan import Plan
from merging.recipe.recipe import Recipe
from merging.recipe.source import at_commits, open_source
from merging.recipe.text import recipe_from_data


@dataclass(frozen=True)
class Verification:
    """What was compared.

    `corrupt` tensors differ in the files from the ledger, `different` ones come out different from the inputs now.
    """

    tensors: int
    recomputed: int
    corrupt: tuple[str, ...]
    different: tuple[str, ...]
    changed_models: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether the output is what its record says and, as far as recomputed, what the recipe makes."""
        return not (self.corrupt or self.different)


def record_of(folder: Path) -> tuple[dict[str, Any], dict[str, Row]]:
    """Record and ledger of a finished merge. Raises VerificationError where the folder has none."""
    record = read_record(folder)
    if record is None or not (folder / LEDGER).is_file():
        raise VerificationError(
            f"{folder} has no record of a merge",
            must_be=f"a folder with {RECORD} and {LEDGER}, which every finished `merging run` leaves",
            fix="an unfinished run is finished by running it again" if (folder / STATE).exists() else None,
        )
    lines = (folder / LEDGER).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return record, {row["tensor"]: row for row in rows}


def recorded_plan(folder: Path | str, **planning: Any) -> Plan:
    """The recorded recipe, planned again from the same sources; `planning` as for `plan`."""
    folder = Path(folder)
    record, _ = record_of(folder)
    recipe = recipe_from_data(record["recipe"], file=recorded_file(record, folder))
    return make_plan(recipe, checkpoints=_as_pinned(record, recipe, planning), **planning)


def _as_pinned(record: Mapping[str, Any], recipe: Recipe, planning: Mapping[str, Any]) -> dict[str, Checkpoint]:
    """Models on the Hub at the commits that were merged, wherever their revisions are now; by what the recipe says."""
    commits = {(each["repository"], each["revision"]): each["commit"] for each in record.get("parents", ())}
    folder = Path(recipe.file).parent if recipe.file else None
    reading = {name: planning[name] for name in ("fetch", "allow_pickle") if name in planning}
    # A path may be spelled like a repository that another model comes from.
    there = {each["source"] for each in record.get("models", ()) if "repository" in each} if commits else set()
    found = {source: at_commits(source, commits) for source in recipe.sources() if source in there}
    return {
        source: open_source(text, relative_to=folder, **reading) for source, text in found.items() if text != source
    }


def recorded_file(record: Mapping[str, Any], folder: Path) -> str | None:
    """A file in the folder where the recorded recipe's relative sources are looked up; None where it had none."""
    beside = record.get("recipe_folder")
    return None if beside is None else str((folder / str(beside)).resolve() / "recipe.yaml")


def verify(
    folder: Path | str, plan: Plan | None = None, *, sample: int | None = 16, workers: int | None = None, seed: int = 0
) -> Iterator[Event | Verification]:
    """Compare every tensor's bytes with the ledger, then recompute `sample` tensors (None: all) from the inputs.

    `plan` is what to compute again, see `recorded_plan`; None recomputes nothing. The last thing yielded is the result.
    Raises VerificationError when the folder has no record or the plan opens other models.
    """
    folder = Path(folder)
    record, rows = record_of(folder)
    output = _weights(folder, record)
    corrupt = _corrupt(output, rows)
    if plan is None:
        yield Verification(len(rows), 0, tuple(corrupt), (), ())
        return
    require_device(plan.device)
    changed = _changed(record, plan)
    names = _chosen([job.spec.name for job in plan.jobs], sample, seed)
    passes = Passes(plan, NullSink(), workers, only=set(names))
    yield from passes.events()
    passes.close()
    different = [name for name in names if rows.get(name, {}).get("digest") != passes.rows[name]["digest"]]
    yield Verification(len(rows), len(names), tuple(corrupt), tuple(different), tuple(changed))


def _weights(folder: Path, record: Mapping[str, Any]) -> Checkpoint:
    """The output's weights: in the folder, or in the repository that they were sent to while they were made."""
    published = record.get("published")
    if not published or any((folder / str(name)).exists() for name in record.get("files", ())):
        return open_checkpoint(folder)
    return open_source(f"hf://{published['repository']}@{published['commit']}", fetch="ranges")


def _corrupt(output: Checkpoint, rows: Mapping[str, Row]) -> list[str]:
    """Tensors whose stored bytes are not those the ledger recorded."""
    bad = [name for name in output.specs if name not in rows]
    for name, row in rows.items():
        if name not in output.specs or stored_digest(output.read, output.specs[name], row["span"]) != row["digest"]:
            bad.append(name)
    return bad


def _changed(record: Mapping[str, Any], plan: Plan) -> list[str]:
    models = record.get("models")
    recorded = [entry["fingerprint"] for entry in models] if isinstance(models, list) else []
    if len(recorded) != len(plan.models):
        raise VerificationError("the recorded recipe now opens other models", must_be=f"{len(recorded)} models")
    return [
        model.location
        for model, fingerprint in zip(plan.models, recorded, strict=True)
        if model.fingerprint != fingerprint
    ]


def _chosen(names: Sequence[str], sample: int | None, seed: int) -> list[str]:
    if sample is None or sample >= len(names):
        return list(names)
    return random.Random(seed).sample(list(names), sample)


def require_good(result: Verification, folder: Path | str) -> None:
    """Raise VerificationError with everything that is wrong."""
    if result.good:
        return
    parts: list[MergingError] = []
    if result.corrupt:
        parts.append(_failure(f"{len(result.corrupt)} tensors of {folder} are not what was written", result.corrupt))
    if result.different:
        cause = f"; changed since: {', '.join(result.changed_models)}" if result.changed_models else ""
        parts.append(_failure(f"{len(result.different)} tensors come out different now{cause}", result.different))
    raise parts[0] if len(parts) == 1 else VerificationError("\n".join(str(part) for part in parts))


def _failure(what: str, names: Sequence[str]) -> VerificationError:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return VerificationError(what, where=shown, fix="merge again from the recipe in " + RECORD)
