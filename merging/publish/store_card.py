"""The model card of a store of tasks: what it keeps, how a task is read back, and what a card of a merge says too."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from merging.checkpoint.tensors import DTYPES
from merging.planning.explain import readable
from merging.publish.card import (
    again,
    cited,
    front_matter,
    linked,
    method_of,
    models_section,
    non_finite,
    notes,
    recipe_section,
    settings_section,
    table,
)
from merging.publish.licences import licence_of
from merging.publish.lineage import Lineage, read_lineage
from merging.publish.markup import code, fenced, heading, listed, visible
from merging.recipe.text import write_yaml
from merging.store.bits import packed_bytes
from merging.store.record import RECORD, STORE

TAG = "merging-store"
# Where it will stand is not known.
_SOMEWHERE = "FOLDER"


def write_store_card(
    record: Mapping[str, Any],
    ledger: Sequence[Mapping[str, Any]],
    tasks: Sequence[str],
    repository: str | None = None,
    parents: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """The card of a store, as README.md; `record` is its store.json, `tasks` its tasks, the rest as for `write_card`.

    Raises RecipeError or Problems where the recorded recipe is none.
    """
    lineage = read_lineage(record, parents)
    method = method_of(lineage.recipe.method)
    verdict = licence_of(lineage.parents, repository)
    commands = f"merging compress recipe.yaml {_SOMEWHERE}/{{}}\nmerging verify {_SOMEWHERE}/"
    sections = (
        # No library loads it as the model that its config describes.
        front_matter(lineage, method, verdict, {}, (TAG, "merging")),
        f"# {heading((repository or 'Tasks in one vector').rpartition('/')[2])}",
        _opening(lineage, len(tasks)),
        f"## Tasks\n\n{_tasks(tasks, ledger, lineage, repository)}",
        f"## Method\n\n{cited(lineage, method, ledger)}",
        f"## Models\n\n{models_section(lineage, None, RECORD)}",
        "## What is kept\n\n" + "\n".join(f"- {line}" for line in _kept(ledger, len(tasks))),
        *settings_section(ledger, lineage, method),
        f"## Recipe\n\n{recipe_section(lineage)}",
        f"## Making it again\n\n{again(record, lineage, commands)}",
        "## Licence\n\n" + "\n".join(f"- {sentence}" for sentence in verdict.sentences),
    )
    return "\n\n".join(sections) + "\n"


def _opening(lineage: Lineage, count: int) -> str:
    base = listed([linked(model) for model in lineage.models if model.role == "base model"])
    return (
        f"This is no model by itself. It keeps the tasks of {count} fine-tunes of {base or 'one base model'} as one"
        " task vector for all of them, and for each a mask of one bit an entry and its scales. Nothing was trained for"
        " it, and this card, which was written from its record, says nothing of how well a task does."
    )


def _tasks(tasks: Sequence[str], ledger: Sequence[Mapping[str, Any]], lineage: Lineage, repository: str | None) -> str:
    """Each task with its source, and the commands that read one back."""
    named = repository or _SOMEWHERE
    sources = [visible(f"{STORE}{named}#{task}") for task in tasks]
    origins = _origins(ledger, len(tasks))
    rows = [
        [code(task), code(source), linked(lineage.models[origin]) if origin in range(len(lineage.models)) else "–"]
        for task, source, origin in zip(tasks, sources, origins, strict=True)
    ]
    written = write_yaml({"merge_method": "passthrough", "models": [{"model": sources[0]}]})
    commands = f"merging inspect {shlex.quote(sources[0])}\nmerging run recipe.yaml task/"
    return "\n\n".join(
        [
            table(["Task", "Source", "From"], rows),
            "A source stands wherever `merging` takes a model. Of this repository the vector and the masks of that one"
            " task are fetched, and the base model at the commit that the store names. To write a task out as a"
            " checkpoint of its own, `recipe.yaml`:",
            fenced(written, "yaml"),
            fenced(commands, "sh"),
        ]
    )


def _origins(ledger: Sequence[Mapping[str, Any]], count: int) -> list[int]:
    """The number of the model that each task comes from; -1 where that cannot be told.

    Where a model lacks a tensor the base model stands in for it.
    """
    found = [-1] * count
    for row in ledger:
        operands = row["operands"] if row["rule"] == "merge" else []
        for i, operand in enumerate(operands[:count]):
            if row["base"] and operand["model"] != row["base"][0] and found[i] < 0:
                found[i] = operand["model"]
    return found


def _kept(ledger: Sequence[Mapping[str, Any]], count: int) -> Iterator[str]:
    """What the vector and the masks hold, in numbers."""
    vectors = [row for row in ledger if row["rule"] == "merge"]
    copied = len(ledger) - len(vectors)
    entries = sum(prod(row["shape"]) for row in vectors)
    dtypes = [code(dtype) for dtype in dict.fromkeys(row["dtype"] for row in vectors)]
    shared = sum(prod(row["shape"]) * DTYPES[row["dtype"]].bits // 8 for row in ledger if row["dtype"] in DTYPES)
    masks = sum(packed_bytes(prod(row["shape"])) for row in vectors)
    yield f"A task vector of {entries:,} entries in {listed(dtypes)}, for {len(vectors):,} tensors."
    if copied:
        yield f"Tensors that the base model lacks, as they are: {copied:,}."
    yield f"{readable(shared)} for all tasks and {readable(masks)} for each of the {count}, beside the base model."
    yield non_finite(ledger)
    yield from notes(ledger)
