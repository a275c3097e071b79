"""The tasks, their models and everything measured so far; one method at a time is searched and scored."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

import merging
from benchmarks.quality import encoder as encoders
from benchmarks.quality.finetune import Training, fine_tune_all
from benchmarks.quality.grids import Settings, settings_of
from benchmarks.quality.judge import Judge, mean
from benchmarks.quality.merges import BASE, Inputs, Merged, inputs_of, merge, recipe, sources
from benchmarks.quality.records import Records
from benchmarks.quality.search import Search, Trial
from benchmarks.quality.statistics import EXAMPLES, STATISTICS
from benchmarks.quality.texts import Part, Texts

Scores = dict[str, float]
PARTS: tuple[Part, ...] = ("val", "test")


@dataclass(frozen=True)
class Effort:
    """How much is spent: examples of each task (None: all), seconds of merging in a method's search, its rounds.

    `bfloat16` is the precision of the scored encoder's products.
    """

    validation: int | None = 250
    test: int | None = None
    budget_seconds: float = 600.0
    rounds: int = 2
    bfloat16: bool = False

    def count(self, part: Part) -> int | None:
        """Examples of each task in a part."""
        return self.validation if part == "val" else self.test


class Bench:
    """Fine-tunes what is not fine-tuned yet, then scores; `table` is the content of grids.yaml."""

    def __init__(self, texts: Texts, folder: Path, training: Training, effort: Effort, table: Mapping[str, Any]):
        self.texts, self.training, self.effort, self.table = texts, training, effort, table
        self.encoder = encoders.load(texts.base)
        self.heads = encoders.heads(self.encoder, texts)
        self.places = fine_tune_all(texts, self.heads, folder / "models", training, self.encoder)
        self.folder = folder
        self.records = Records(folder / "records.jsonl")
        self._judges: dict[tuple[Part, tuple[str, ...]], Judge] = {}

    @cached_property
    def checkpoints(self) -> Mapping[str, merging.MemoryCheckpoint]:
        """The trained tensors of the base model and of every fine-tune; nothing else is merged."""
        names = encoders.trained(self.encoder)
        config = json.loads((self.places[BASE] / "config.json").read_text())
        return {
            name: merging.MemoryCheckpoint(encoders.read(place, names), config, name)
            for name, place in self.places.items()
        }

    @cached_property
    def models_digest(self) -> str:
        """Of all models' contents."""
        prints = [f"{name} {model.fingerprint}" for name, model in self.checkpoints.items()]
        return sha256("\n".join(prints).encode()).hexdigest()[:16]

    def facts(self) -> dict[str, Any]:
        """What a result says about models, examples and search."""
        return {
            "longest": self.texts.longest,
            "training": asdict(self.training),
            "effort": asdict(self.effort),
            "merged_entries": sum(spec.entries for spec in self.checkpoints[BASE].specs.values()),
            "examples": {part: self._counts(part) for part in PARTS},
            "statistics_examples": EXAMPLES,
        }

    def _counts(self, part: Part) -> dict[str, int]:
        return {task: len(self.texts.split(task, part).first(self.effort.count(part))) for task in self.heads}

    def references(self) -> dict[str, dict[str, Scores]]:
        """Scores of the pretrained encoder, and of every fine-tune at its own task, by part."""
        found: dict[str, dict[str, Scores]] = {"pretrained": {}, "fine_tuned": {}}
        for part in PARTS:
            found["pretrained"][part] = self._scores_of_model(BASE, part, tuple(self.heads))
            own = [self._scores_of_model(task, part, (task,)) for task in self.heads]
            found["fine_tuned"][part] = {task: right for scores in own for task, right in scores.items()}
        return found

    def measure(self, method: Any) -> dict[str, Any]:
        """A method's row: its scores at the paper's settings and at the best ones; or why there are none."""
        row: dict[str, Any] = {"method": method.name, "paper": method.paper}
        inputs = inputs_of(method, list(self.heads))
        if isinstance(inputs, str):
            return {**row, "reason": inputs}
        settings = settings_of(method, self.table)
        row |= {"read_off": settings.read_off is not None, "companions": list(inputs.companions)}
        return {**row, **self._searched(method, inputs, settings)}

    def _searched(self, method: Any, inputs: Inputs, settings: Settings) -> dict[str, Any]:
        refusals: list[str] = []

        def attempt(values: Mapping[str, Any]) -> Trial | None:
            outcome = self._outcome(method, inputs, values, "val", settings.read_off)
            if "refused" in outcome:
                refusals.append(outcome["refused"])
                return None
            trial = Trial(mean(outcome["scores"]), outcome["digest"], outcome["seconds"])
            print(f"{method.name:24} {100 * trial.mean:6.2f}  {trial.seconds:6.1f} s  {dict(values)}", flush=True)
            return trial

        effort, defaults = self.effort, method.defaults()
        search = Search(attempt, settings, defaults, effort.budget_seconds, effort.rounds)
        best = search.run()
        if best is None:
            return {"reason": refusals[0]}
        told = {name: defaults[name] for name in settings.grids if name in defaults}
        default, found = (
            self._final(method, inputs, values, settings.read_off, {**told, **values})
            for values in (settings.start, best)
        )
        facts = {"tried": len(search.seen), "at_edge": search.at_edge(), "cut_short": search.is_spent}
        return {"default": default if settings.complete else None, "best": found, **facts}

    def _final(
        self, method: Any, inputs: Inputs, values: Mapping[str, Any], read_off: str | None, told: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Everything about a merge at these settings, the test splits among it; None if it is refused."""
        validation, test = (self._outcome(method, inputs, values, part, read_off) for part in PARTS)
        if "refused" in test:
            return None
        facts = {name: test[name] for name in ("seconds", "peak_bytes", "non_finite")}
        return {"settings": told, "validation": validation["scores"], "test": test["scores"], **facts}

    def _outcome(
        self, method: Any, inputs: Inputs, values: Mapping[str, Any], part: Part, read_off: str | None
    ) -> dict[str, Any]:
        """What is recorded of a merge, and its scores; of one merge a task, where every task's model is read off."""
        tasks = tuple(self.heads)
        if read_off is None:
            return self._scored(method, inputs, values, part, tasks)
        numbered = enumerate(tasks, 1)
        each = [self._scored(method, inputs, {**values, read_off: i}, part, (task,)) for i, task in numbered]
        if refused := [outcome for outcome in each if "refused" in outcome]:
            return refused[0]
        peaks = [outcome["peak_bytes"] for outcome in each]
        return {
            "scores": {task: right for outcome in each for task, right in outcome["scores"].items()},
            "digest": " ".join(outcome["digest"] for outcome in each),
            "seconds": sum(outcome["seconds"] for outcome in each),
            "peak_bytes": None if None in peaks else max(peaks),
            "non_finite": sum(outcome["non_finite"] for outcome in each),
        }

    def _scored(
        self, method: Any, inputs: Inputs, values: Mapping[str, Any], part: Part, tasks: tuple[str, ...]
    ) -> dict[str, Any]:
        record, merged = self._merged(method, inputs, values)
        if "refused" in record:
            return record
        return {**record, "scores": self._scores(record["digest"], part, tasks, merged)}

    def _merged(
        self, method: Any, inputs: Inputs, values: Mapping[str, Any]
    ) -> tuple[dict[str, Any], Callable[[], Mapping[str, Tensor]]]:
        """What is recorded of a merge, and how to get at its weights."""
        key = {
            "method": method.name,
            # Another text of the method is another method.
            "source": sha256(b"".join(file.read_bytes() for file in sources(method))).hexdigest()[:16],
            "models": [*inputs.models, inputs.base],
            "settings": {**method.defaults(), **values},
            "weights": self.models_digest,
        }
        if inputs.companions:
            key["companions"] = dict.fromkeys(inputs.companions, EXAMPLES)
        text = recipe(method.name, inputs, values, {name: self.statistics(name) for name in inputs.companions})
        record, made = self.records.get(key), None
        if record is None:
            try:
                made = merge(text, self.checkpoints)
                record = self.records.add(key, _facts(made))
            except merging.MergingError as error:
                record = self.records.add(key, {"refused": str(error)})
        return record, lambda: (made or merge(text, self.checkpoints)).tensors

    def statistics(self, name: str) -> dict[str, Path]:
        """The file of every fine-tune's statistics of that name, made where it is not there yet."""
        files: dict[str, Path] = {}
        names = encoders.trained(self.encoder)
        for task, head in self.heads.items():
            told = f"{self.checkpoints[task].fingerprint} {self.texts.digest(task, 'train')} {EXAMPLES}"
            key = sha256(told.encode()).hexdigest()[:16]
            files[task] = self.folder / "statistics" / f"{task}-{name}-{key}.safetensors"
            if not files[task].exists():
                encoders.put(self.encoder, encoders.read(self.places[task], names))
                split = self.texts.split(task, "train").first(EXAMPLES)
                files[task].parent.mkdir(exist_ok=True)
                partial = files[task].with_suffix(".partial")
                save_file(STATISTICS[name](self.encoder, head, split, self.training.scale), partial)
                partial.replace(files[task])
        return files

    def _scores_of_model(self, name: str, part: Part, tasks: tuple[str, ...]) -> Scores:
        model, names = self.checkpoints[name], encoders.trained(self.encoder)
        return self._scores(model.fingerprint, part, tasks, lambda: encoders.read(self.places[name], names))

    def _scores(
        self, digest: str, part: Part, tasks: tuple[str, ...], tensors: Callable[[], Mapping[str, Tensor]]
    ) -> Scores:
        """Scores of weights, which are made only if these were not scored before."""
        examples = {task: self.texts.digest(task, part) for task in tasks}
        key: dict[str, Any] = {"scored": digest, "part": part, "count": self.effort.count(part), "examples": examples}
        if self.effort.bfloat16:
            key["products"] = "bfloat16"
        record = self.records.get(key)
        if record is None:
            judge, given = self.judge(part, tasks), tensors()
            began = time.perf_counter()
            scores = judge.score(given)
            record = self.records.add(key, {"scores": scores, "seconds": round(time.perf_counter() - began, 2)})
        return dict(record["scores"])

    def judge(self, part: Part, tasks: tuple[str, ...]) -> Judge:
        """The judge of these tasks' examples."""
        if (part, tasks) not in self._judges:
            splits = {task: self.texts.split(task, part).first(self.effort.count(part)) for task in tasks}
            heads = {task: self.heads[task] for task in tasks}
            self._judges[part, tasks] = Judge(self.encoder, heads, splits, self.effort.bfloat16)
        return self._judges[part, tasks]


def _facts(made: Merged) -> dict[str, Any]:
    return {
        "digest": made.digest,
        "seconds": round(made.seconds, 3),
        "peak_bytes": made.peak_bytes,
        "non_finite": made.non_finite,
    }
