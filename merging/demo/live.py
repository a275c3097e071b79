"""Merges of the bundled models, made in memory and scored on real digits fast enough to follow a slider.

The digits of all tasks go through the network in batches that fit the caches, on as many threads as there are cores;
which batch a digit is in never depends on the machine. Scores of a merge that was chosen by them flatter it: choose by
the validation digits, report the test digits.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from merging.checkpoint.sink import MemorySink
from merging.checkpoint.tensors import Checkpoint, MemoryCheckpoint
from merging.demo.products import TaskVectors
from merging.demo.vit import classify, weights
from merging.demo.zoo import Digits, Zoo, find_zoo
from merging.engine.run import run
from merging.errors import CheckpointError, MergingError, raise_all
from merging.lazy import Bool, Float, Tensor, torch
from merging.planning.build import plan
from merging.planning.choose import usual_workers
from merging.recipe.recipe import Recipe
from merging.recipe.source import open_source
from merging.recipe.text import read_recipe

Part = Literal["validation", "test"]
# Images in one pass: activations of 17 tokens each stay in the caches of one core.
BATCH = 50
# What a network must agree in with the bundled ones to read the same digits and be read the same way.
SAME = ("model_type", "image_size", "num_channels")
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "patch_size", "layer_norm_eps")


@dataclass(frozen=True)
class Scores:
    """Share of held-out digits that a model reads right.

    tasks    accuracy by task; `mean` is over them
    errors   standard error of each, from the number of digits
    error    standard error of the mean: every task shows the same digits, so the answers are averaged digit by digit
    digits   digits of each task; part  where they are from
    seconds_merge, seconds_score  what merging (0 for a model that is no merge) and reading the digits took
    """

    tasks: Mapping[str, float]
    errors: Mapping[str, float]
    mean: float
    error: float
    digits: int
    part: Part
    seconds_merge: float = 0.0
    seconds_score: float = 0.0


class LiveScorer:
    """Merges and scores with everything at hand: opened checkpoints, batches of digits, threads.

    A source is opened once; a file that changes later is seen by a new scorer. May be used from several threads.
    """

    def __init__(self, zoo: Zoo | None = None, lanes: int | None = None):
        self.zoo = zoo or find_zoo()
        self._lanes = lanes or usual_workers()
        self._threads = ThreadPoolExecutor(self._lanes, "live", initializer=_alone)
        self._opened: dict[tuple[str, Path | None], Checkpoint] = {}
        self._task_vectors: dict[tuple[str, tuple[str, ...], tuple[str, ...]], TaskVectors] = {}
        self._lock = Lock()

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    def open(self, source: str, folder: Path | None = None) -> Checkpoint:
        """The checkpoint that a recipe in `folder` calls so. Raises what `open_source` raises."""
        with self._lock:
            known = self._opened.get((source, folder))
            if known is None:
                known = self._opened[source, folder] = open_source(source, relative_to=folder)
            return known

    def require(self, checkpoint: Checkpoint) -> None:
        """Raise CheckpointError, several as Problems, unless a model is of the zoo's architecture.

        It must be a vision transformer that reads the zoo's images and knows its labels; its sizes are its own.
        """
        _require(checkpoint, self.open(str(self.zoo.base)).config)

    def merge(self, recipe: Recipe | str | Path) -> Checkpoint:
        """The merge of a recipe, in memory. Raises what is wrong with the recipe, all at once.

        Models whose weight is 0 are welcome: a slider passes through 0.
        """
        wish = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
        folder = Path(wish.file).parent if wish.file else None
        held = {source: self.open(source, folder) for source in wish.sources()}
        planned = plan(wish, checkpoints=held, allow_unused=True)
        sink = MemorySink(job.spec for job in planned.jobs)
        for _ in run(planned, sink, workers=self._lanes, allow_unused=True):
            pass
        return MemoryCheckpoint(sink.tensors(), planned.config, wish.method)

    def score(
        self,
        checkpoint: Checkpoint,
        part: Part = "validation",
        digits: int | None = None,
        tasks: Sequence[str] | None = None,
    ) -> Scores:
        """Score one model on `digits` digits of every task or of those named, all digits that there are when None.

        Raises CheckpointError for a network that does not read these images, MergingError for another number or task.
        """
        self.require(checkpoint)
        named = tuple(self.zoo.tasks) if tasks is None else tuple(tasks)
        images, labels = _batches(self.zoo.folder, part, digits, named)
        began = time.perf_counter()
        tensors, config = weights(checkpoint), checkpoint.config

        def read(batch: Float[Tensor, "images 8 8"]) -> Tensor:
            with torch.inference_mode():
                return classify(tensors, config, batch).argmax(dim=1)

        answers = torch.cat(list(self._threads.map(read, images))).reshape(len(named), -1)
        seconds = time.perf_counter() - began
        return replace(_counted(answers == labels, named, part), seconds_score=seconds)

    def products(
        self, merged: Checkpoint, base: str, models: Sequence[str], tensors: Sequence[str]
    ) -> Float[Tensor, "tensors products"]:
        """Of each tensor the inner products of a merge's task vector with each model's, and last its squared norm.

        In the order of `tensors`, as `diagnose` lists them; task vectors stay in memory for the next merge.
        """
        key = (base, tuple(models), tuple(tensors))
        with self._lock:
            known = self._task_vectors.get(key)
        if known is None:
            known = TaskVectors(self.open(base), [self.open(model) for model in models], tensors)
            with self._lock:
                # One set at a time: a page looks at one set of models.
                self._task_vectors = {key: known}
        return known.products(merged)

    def score_recipe(self, recipe: Recipe | str | Path, part: Part = "validation", digits: int | None = None) -> Scores:
        """Merge by a recipe in memory and score the merge; nothing is written."""
        began = time.perf_counter()
        merged = self.merge(recipe)
        seconds = time.perf_counter() - began
        return replace(self.score(merged, part, digits), seconds_merge=seconds)


def _require(checkpoint: Checkpoint, wanted: Mapping[str, Any]) -> None:
    """Raise unless a model is a vision transformer that reads such images; sizes and depth are its own."""
    config, where = checkpoint.config, checkpoint.location
    must_be = (
        f"a {wanted['model_type']} that reads {wanted['image_size']} × {wanted['image_size']} grey images of digits"
    )
    other = [f"{name} is {config.get(name, 'missing')!r}" for name in SAME if config.get(name) != wanted[name]]
    labels = config.get("id2label")
    if not isinstance(labels, Mapping) or len(labels) != len(wanted["id2label"]):
        other.append("it knows other labels")
    other = other or [f"{name} is {config.get(name, 'missing')!r}" for name in SIZES if not _is_size(config, name)]
    if other:
        what = f"the bundled digits cannot be shown to this model: {', '.join(other)}"
        raise CheckpointError(what, where=where, must_be=must_be)
    if config["hidden_size"] % config["num_attention_heads"]:
        must_be = "a hidden_size that num_attention_heads divides"
        raise CheckpointError(f"hidden_size is {config['hidden_size']}", where=where, must_be=must_be)
    if config["num_hidden_layers"] > len(checkpoint.specs):
        raise CheckpointError("config.json has more layers than the model has tensors", where=where, must_be=must_be)
    raise_all(_misfits(checkpoint, config))


def _is_size(config: Mapping[str, Any], name: str) -> bool:
    value = config.get(name)
    return isinstance(value, int | float if name == "layer_norm_eps" else int) and value > 0


def score_recipe(recipe: Recipe | str | Path, part: Part = "validation", digits: int | None = None) -> Scores:
    """Merge by a recipe in memory and score the merge on the bundled digits, once; see `LiveScorer` for many.

    Raises what is wrong with the recipe; CheckpointError when its models do not read the zoo's images.
    """
    scorer = LiveScorer()
    try:
        return scorer.score_recipe(recipe, part, digits)
    finally:
        scorer.close()


def _alone() -> None:
    """Threads that share a batch wait for each other; here each has its own."""
    torch.set_num_threads(1)


def _counted(right: Bool[Tensor, "tasks digits"], tasks: tuple[str, ...], part: Part) -> Scores:
    n = right.shape[1]
    hits = right.double()
    spread = (hits.var(1, unbiased=False) / n).sqrt()
    accuracies = dict(zip(tasks, hits.mean(1).tolist(), strict=True))
    together = hits.mean(0)
    error = float((together.var(unbiased=False) / n).sqrt())
    errors = dict(zip(tasks, spread.tolist(), strict=True))
    return Scores(accuracies, errors, float(together.mean()), error, n, part)


@lru_cache(maxsize=32)
def _batches(folder: Path, part: Part, digits: int | None, tasks: tuple[str, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
    """The first digits of every task, task after task, cut into batches; and what they show, once for all tasks."""
    held: Mapping[str, Digits] = _stored(folder, part)
    if unknown := [task for task in tasks if task not in held] or ([] if tasks else [""]):
        raise MergingError(f"the bundled digits have no task {unknown[0]!r}", must_be=", ".join(held))
    labels = held[tasks[0]].labels
    n = len(labels) if digits is None else digits
    if not 0 < n <= len(labels):
        raise MergingError(f"there are no {n} digits of {part}", must_be=f"1 to {len(labels)} digits of every task")
    images = torch.cat([held[task].images[:n] for task in tasks])
    return tuple(torch.split(images, BATCH)), labels[:n]


@cache
def _stored(folder: Path, part: Part) -> Mapping[str, Digits]:
    return {name: each for name, each in Zoo(folder).digits(part).items() if name != "plain"}


def _misfits(checkpoint: Checkpoint, config: Mapping[str, Any]) -> list[MergingError]:
    """Tensors that the forward pass needs and that are missing or have another shape."""
    found: list[MergingError] = []
    for name, shape in _shapes(config).items():
        spec = checkpoint.specs.get(name)
        if spec is None:
            found.append(CheckpointError(f"{name} is missing", where=checkpoint.location, must_be=f"{list(shape)}"))
        elif spec.shape != shape:
            what = f"{name} has shape {list(spec.shape)}"
            found.append(
                CheckpointError(what, where=checkpoint.location, must_be=f"{list(shape)}, as config.json says")
            )
    return found


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of a vision transformer of these sizes."""
    width, inner, patch = config["hidden_size"], config["intermediate_size"], config["patch_size"]
    projection = "vit.embeddings.patch_embeddings.projection"
    linear = {"classifier": (len(config["id2label"]), width)}
    norms = ["vit.layernorm"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"vit.encoder.layer.{layer}."
        linear |= {f"{prefix}attention.attention.{role}": (width, width) for role in ("query", "key", "value")}
        linear |= {f"{prefix}attention.output.dense": (width, width), f"{prefix}intermediate.dense": (inner, width)}
        linear[f"{prefix}output.dense"] = (width, inner)
        norms += [f"{prefix}layernorm_before", f"{prefix}layernorm_after"]
    shapes: dict[str, tuple[int, ...]] = {
        "vit.embeddings.cls_token": (1, 1, width),
        "vit.embeddings.position_embeddings": (1, 1 + (config["image_size"] // patch) ** 2, width),
        f"{projection}.weight": (width, config["num_channels"], patch, patch),
        f"{projection}.bias": (width,),
    }
    for name, (rows, columns) in linear.items():
        shapes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    for name in norms:
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return shapes
