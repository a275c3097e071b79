"""What a store will hold, from headers alone: one vector for all tasks, a mask for each, and what the base lacks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from merging.checkpoint.layout import FileLayout, Layout, lay_out
from merging.checkpoint.tensors import DTYPES, TensorSpec
from merging.errors import MergingError, RecipeError, raise_all
from merging.methods.declare import Keeps, all_methods, find_method
from merging.planning.build import plan as make_plan
from merging.planning.plan import Job, Plan
from merging.recipe.recipe import Recipe, Setting
from merging.recipe.source import at_commits, find_source
from merging.recipe.text import read_recipe
from merging.store.record import STORE, Kept, StoreRecord, task_names

# Wider than what the method computes in would be zeros.
WIDEST = "F32"


class StoreLayout(Layout):
    """Files of a store: vector-*.safetensors for all tasks, mask-1*.safetensors for the first alone, and so on."""

    @property
    def names(self) -> list[str]:
        """Names of all files; the index has one of its own."""
        return [file.name for file in self.files]

    def index_json(self) -> None:
        """None: a store is no model, and is not to be opened as one; see `tensor_index`."""
        return

    def tensor_index(self) -> bytes:
        """Which file holds which tensor, in the form of a checkpoint's index."""
        weight_map = {name: file.name for file in self.files for name in file.tensors}
        total = sum(spec.nbytes for spec in self.specs.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        return (json.dumps(index, indent=2, sort_keys=True) + "\n").encode()


@dataclass(frozen=True)
class StorePlan:
    """How the tasks of a recipe will be kept.

    `plan` holds a job for every tensor that is written: merged ones in the dtype of the vector, and copies. `record` is
    that of the store but for the scales, which are measured. `base` is the base model's place among the plan's models.
    """

    plan: Plan
    record: StoreRecord
    layout: StoreLayout
    base: int

    @property
    def nbytes(self) -> int:
        """Size of all weight files together."""
        return self.layout.nbytes

    @property
    def mask_bytes(self) -> int:
        """Size of the masks of one task."""
        return sum(spec.nbytes for number, spec in self.record.stored(lambda _: WIDEST) if number == 1)

    @property
    def models_bytes(self) -> int:
        """Size of all models whose tasks are kept."""
        kept = {each.model for job in self.plan.jobs if job.rule == "merge" for each in job.operands} - {self.base}
        return sum(spec.nbytes for model in kept for spec in self.plan.models[model].specs.values())


def plan_store(recipe: Recipe | str | Path, *, out: Path | None = None, **planning: Any) -> StorePlan:
    """Decide what is kept of the models of a recipe; `planning` as for `merging.plan`.

    The method must be one that keeps tasks; its parameter that chooses one of them is passed over. `out` is where the
    store will be, from where its base model is named. Raises everything that is wrong at once.
    """
    wish = recipe if isinstance(recipe, Recipe) else read_recipe(recipe, lenient=planning.get("lenient", False))
    keeps = _keeps(wish)
    planned = make_plan(_with_task(wish, keeps.parameter, 1), **planning)
    merges = [job for job in planned.jobs if job.rule == "merge"]
    raise_all(list(_problems(planned, merges, wish)))
    base = _bases(merges)[0]
    models = _models(merges, base)
    assert models
    dtype = _vector_dtype(wish)
    record = StoreRecord(
        tasks=task_names([planned.sources[model] for model in models]),
        base=_source(planned, base, out),
        base_fingerprint=planned.models[base].fingerprint,
        tensors=tuple(_kept(job, base) for job in planned.jobs),
        scales=(),
    )
    written = [kept.way != "base" for kept in record.tensors]
    jobs = [
        replace(job, spec=replace(job.spec, dtype=dtype)) if job.rule == "merge" else job
        for job, is_written in zip(planned.jobs, written, strict=True)
        if is_written
    ]
    canonical = _with_task(wish, keeps.parameter, None).data()
    made = replace(planned, recipe=canonical, jobs=tuple(jobs))
    return StorePlan(made, record, _lay_out(record, dtype, made), base)


def _keeps(recipe: Recipe) -> Keeps:
    """How the recipe's method keeps tasks. Raises RecipeError naming the methods that do."""
    method = find_method(recipe.method, recipe.where("merge_method"))
    if method.needs.keeps is None:
        able = [name for name, other in all_methods().items() if other.needs.keeps]
        raise RecipeError(
            f"{method.name} makes one model of all tasks, and keeps none of them",
            where=recipe.where("merge_method"),
            must_be="a method that keeps tasks apart: " + ", ".join(able),
            fix="write one of these, or merge with `merging run`",
        )
    return method.needs.keeps


def _with_task(recipe: Recipe, name: str, task: int | None) -> Recipe:
    """The recipe with the same task chosen for all tensors; None: with the choice left open."""

    def without(parameters: Any) -> dict[str, tuple[Setting, ...]]:
        return {key: settings for key, settings in parameters.items() if key != name}

    chosen = {} if task is None else {name: (Setting(task),)}
    slices = tuple(replace(piece, parameters=without(piece.parameters)) for piece in recipe.slices)
    return replace(recipe, parameters={**without(recipe.parameters), **chosen}, slices=slices)


def _problems(planned: Plan, merges: Sequence[Job], recipe: Recipe) -> Iterator[MergingError]:
    where = recipe.where("slices") if recipe.slices else recipe.where("models")
    if not merges:
        yield RecipeError("there is no tensor to keep tasks of", where=where, must_be="models with tensors of floats")
        return
    bases = _bases(merges)
    if len(bases) > 1:
        named = ", ".join(planned.sources[base] for base in bases)
        yield RecipeError("a store stands on one base model", where=where, must_be=f"one of {named} for all slices")
        return
    if planned.sources[bases[0]].startswith(STORE):
        yield RecipeError(
            f"the base model {planned.sources[bases[0]]} is itself a task of a store",
            where=recipe.where("base_model"),
            fix="write it out with `merging run` and the method passthrough, and name the result",
        )
    if _models(merges, bases[0]) is None:
        yield RecipeError(
            "a store keeps the tasks of the same models for every tensor", where=where, fix="list them under `models:`"
        )


def _bases(merges: Sequence[Job]) -> list[int]:
    return sorted({job.base.model for job in merges if job.base})


def _models(merges: Sequence[Job], base: int) -> list[int] | None:
    """The model behind each task; None where that differs between tensors. A lack filled by the base is no model."""
    count = len(merges[0].operands)
    found: list[int] = [base] * count
    for job in merges:
        for i, operand in enumerate(job.operands):
            if len(job.operands) != count or (found[i] not in (base, operand.model) and operand.model != base):
                return None
            found[i] = operand.model if operand.model != base else found[i]
    return found


def _kept(job: Job, base: int) -> Kept:
    if job.rule == "merge":
        assert job.base
        return Kept(job.spec, "vector", job.base.name)
    own = job.operands[0]
    return Kept(job.spec, "base", own.name) if own.model == base else Kept(job.spec, "copy")


def _vector_dtype(recipe: Recipe) -> str:
    wanted = recipe.out_dtype or recipe.dtype or WIDEST
    return wanted if DTYPES[wanted].bits <= DTYPES[WIDEST].bits else WIDEST


def _source(planned: Plan, base: int, out: Path | None) -> str:
    """The base model as the store's folder sees it: a relative path, or a repository at its commit."""
    text, model = planned.sources[base], planned.models[base]
    pinned = getattr(model, "pinned", ())
    text = at_commits(text, {(each.repository, each.revision): each.commit for each in pinned})
    beside = Path(planned.recipe_file).parent if planned.recipe_file else None
    try:
        return find_source(text, relative_to=beside).seen_from(out or Path())
    except MergingError:
        # A checkpoint that was handed in, and lies nowhere.
        return text


def _lay_out(record: StoreRecord, dtype: str, plan: Plan) -> StoreLayout:
    groups: dict[int, list[TensorSpec]] = {number: [] for number in range(len(record.tasks) + 1)}
    for number, spec in record.stored(lambda _: dtype):
        groups[number].append(spec)
    files: list[FileLayout] = []
    starts: dict[str, tuple[int, int]] = {}
    for number, specs in groups.items():
        # A run goes on with files whose headers are its own: those of another store of the same tensors must not be.
        about = {"format": "pt", "plan": plan.hash, **({"task": record.tasks[number - 1]} if number else {})}
        part = lay_out(specs, plan.shard_bytes, about)
        starts |= {name: (len(files) + i, at) for name, (i, at) in part.starts.items()}
        stem = f"mask-{number}" if number else "vector"
        files += [replace(file, name=file.name.replace("model", stem, 1)) for file in part.files]
    specs_by_name = {spec.name: spec for specs in groups.values() for spec in specs}
    return StoreLayout(tuple(files), specs_by_name, starts)
