"""A plan as data: which operands make each output tensor, by which method, with which parameter values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

from merging.checkpoint.tensors import Checkpoint, TensorSpec
from merging.methods.layout import PLAIN, Layout

Value = float | int | bool | str | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor of one of the plan's models."""

    model: int
    name: str


@dataclass(frozen=True, slots=True)
class Job:
    """One output tensor.

    merge: `method` over `operands` (in the method's order; the base model is apart, in `base`, when the method sees
    task vectors). copy: the first operand, cast to the output dtype if that differs; the other operands are only
    compared with it, so that the ledger can say where they differ. Per-model parameter values are tuples aligned with
    `operands`. `counted` is False for a tied duplicate, which must not enter statistics over the model twice.
    `companions` are statistics by name, a tensor for each operand. `note` says in a few words why this tensor is
    treated so; empty for the ordinary case. `layout` is how a whole-matrix method takes it apart.
    """

    spec: TensorSpec
    rule: Literal["merge", "copy"]
    operands: tuple[Operand, ...]
    base: Operand | None = None
    method: str = ""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    layer: int | None = None
    role: str = ""
    layout: Layout = PLAIN
    counted: bool = True
    note: str = ""
    companions: Mapping[str, tuple[Operand, ...]] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[Operand, ...]:
        """Every tensor that is read for it: the base model's first, then the operands."""
        return (self.base, *self.operands) if self.base else self.operands


@dataclass(frozen=True)
class Plan:
    """Everything the engine needs, decided before any tensor byte is read.

    `models` are opened checkpoints; `recipe` is the canonical recipe as JSON data; `config` becomes config.json;
    `sidecars` is the model whose tokenizer and other files are copied. `memory` in bytes bounds the engine's buffers;
    `shard_bytes` bounds an output file. `sources` are the models as the recipe names them; `recipe_file` is where it
    was read. Only what decides the bytes of the output's tensors enters `hash`.
    """

    recipe: Mapping[str, Any]
    models: tuple[Checkpoint, ...]
    jobs: tuple[Job, ...]
    config: Mapping[str, Any]
    sidecars: int | None
    seed: int = 0
    memory: int = 4 << 30
    shard_bytes: int = 5_000_000_000
    device: str = "cpu"
    warnings: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    recipe_file: str | None = None

    @cached_property
    def hash(self) -> str:
        """Digest of recipe, model fingerprints and jobs: equal hashes give equal tensors."""
        digest = sha256()
        head = [self.recipe, [model.fingerprint for model in self.models], self.config, self.seed]
        digest.update(json.dumps(head, sort_keys=True).encode())
        for job in self.jobs:
            digest.update(json.dumps(job_data(job), sort_keys=True).encode())
        return digest.hexdigest()


def job_data(job: Job) -> dict[str, Any]:
    """A job as JSON data: what it makes, from what, by which rule."""
    return {
        "name": job.spec.name,
        "shape": list(job.spec.shape),
        "dtype": job.spec.dtype,
        "rule": job.rule,
        "method": job.method,
        "operands": [[operand.model, operand.name] for operand in job.operands],
        "base": [job.base.model, job.base.name] if job.base else None,
        "parameters": dict(job.parameters),
        "layer": job.layer,
        "role": job.role,
        "counted": job.counted,
        "note": job.note,
        **({"layout": asdict(job.layout)} if job.layout != PLAIN else {}),
        **({"companions": _companion_data(job)} if job.companions else {}),
    }


def _companion_data(job: Job) -> dict[str, Any]:
    return {name: [[each.model, each.name] for each in operands] for name, operands in job.companions.items()}
