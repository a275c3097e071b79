"""Run by a python that has fusion_bench==0.2.33, never by pytest: its merges of every case that it is given.

    python fusion_driver.py WORK.json

WORK.json: {"cases": [{name, held, algorithm, settings, models, plain, dtypes}, …], "tensors": file with tensors
"held/0/name" of the base model, "held/1/name" of the first model and so on, and "held/beside/name"; "out": file that
receives "case/dtype/name"}. What is called is theirs; here stands only what their classes want around tensors.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from fusion_bench import BaseModelPool
from fusion_bench.method.dare.task_arithmetic import DareTaskArithmetic
from fusion_bench.method.dare.ties_merging import DareTiesMerging
from fusion_bench.method.doge_ta.doge_ta import DOGE_TA_Algorithm
from fusion_bench.method.emr_merging.utils import emr_merge
from fusion_bench.method.fisher_merging.fisher_merging import merging_with_fisher_weights
from fusion_bench.method.isotropic_merging import ISO_C_Merge, ISO_CTS_Merge
from fusion_bench.method.knots.knots_utils import subspace_alignment
from fusion_bench.method.magmax.magmax import MagMaxAlgorithm
from fusion_bench.method.model_stock.model_stock import ModelStock
from fusion_bench.method.opcm.opcm_general import OPCM
from fusion_bench.method.regmean.regmean import merging_with_regmean_weights
from fusion_bench.method.regmean_plusplus.regmean_plusplus import (
    merging_with_regmean_weights as merging_with_later_regmean_weights,
)
from fusion_bench.method.simple_average import SimpleAverageAlgorithm
from fusion_bench.method.singular_value_calibration import SingularValueCalibrationArithmeticTask
from fusion_bench.method.slerp.slerp_utils import slerp
from fusion_bench.method.tall_mask import utils as tall
from fusion_bench.method.tall_mask.task_arithmetic import generate_task_masks
from fusion_bench.method.task_arithmetic import TaskArithmeticAlgorithm
from fusion_bench.method.task_singular_vector import TaskSingularVectorMerging
from fusion_bench.method.ties_merging import TiesMergingAlgorithm
from fusion_bench.method.ties_merging.ties_merging_utils import ties_merging
from fusion_bench.method.trust_region.clip_task_arithmetic import TaskArithmeticWithTrustRegionForCLIP
from fusion_bench.method.weighted_average import WeightedAverageAlgorithm
from fusion_bench.method.wudi.wudi import wudi_merging
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Models:
    """A case's tensors by name: of the base model, of the models, and what goes `beside` them as "place.name".

    Matrices named in `plain` are treated as what is no matrix.
    """

    base: Tensors
    tuned: list[Tensors]
    beside: Tensors
    plain: list[str]

    @property
    def changes(self) -> list[Tensors]:
        return [{name: each[name] - self.base[name] for name in self.base} for each in self.tuned]

    @property
    def flat_changes(self) -> Tensor:
        return torch.stack([flat(each) for each in self.changes])

    def pool(self) -> BaseModelPool:
        """The models as modules with these names in their state dicts; matrices are Linear layers unless plain."""
        models = {f"model{place}": module_of(each, self.plain) for place, each in enumerate(self.tuned)}
        return BaseModelPool({"_pretrained_": module_of(self.base, self.plain), **models})

    def changed(self, changes: Tensors) -> Tensors:
        return {name: self.base[name] + changes[name] for name in self.base}

    def changed_by(self, vector: Tensor) -> Tensors:
        return self.changed(unflat(vector, self.base))


Algorithm = Callable[..., Tensors]
Theirs = Callable[..., Any]


def module_of(tensors: Tensors, plain: list[str]) -> nn.Module:
    whole = nn.Module()
    for name, x in tensors.items():
        place = whole
        *above, last = name.split(".")
        for step in above:
            if not hasattr(place, step):
                place.add_module(step, nn.Module())
            place = getattr(place, step)
        place.register_parameter(last, nn.Parameter(x.clone()))
    matrices = [name for name, x in tensors.items() if name.endswith(".weight") and x.dim() == 2 and name not in plain]
    for above, _, last in (name.removesuffix(".weight").rpartition(".") for name in matrices):
        held = whole.get_submodule(above)._modules[last]
        linear = nn.Linear(*held.weight.T.shape, bias=hasattr(held, "bias"))
        for name, x in held.named_parameters():
            setattr(linear, name, x)
        setattr(whole.get_submodule(above), last, linear)
    return whole


def flat(tensors: Tensors) -> Tensor:
    return torch.cat([x.reshape(-1) for x in tensors.values()])


def unflat(vector: Tensor, like: Tensors) -> Tensors:
    parts = vector.split([x.numel() for x in like.values()])
    return {name: part.reshape(x.shape).clone() for (name, x), part in zip(like.items(), parts, strict=True)}


def over_modules(theirs: Theirs, **fixed: Any) -> Algorithm:
    """An algorithm of theirs that takes a pool of modules and gives one."""
    return lambda models, **settings: dict(theirs(**fixed, **settings).run(models.pool()).state_dict())


def excluding(theirs: Theirs) -> Algorithm:
    """The same, where it is told what to treat as no matrix."""
    return lambda models, **settings: over_modules(theirs)(models, exclude_keys=models.plain, **settings)


def emr(models: Models, task: int, together: bool) -> Tensors:
    """`together`: all tensors as one, which makes their rescaler the paper's."""
    changes = [{"all": x} for x in models.flat_changes] if together else models.changes
    unified, masks, scales = emr_merge(changes)
    if task:
        unified = {name: x * masks[name][task - 1] * scales[task - 1] for name, x in unified.items()}
    return models.changed_by(unified["all"]) if together else models.changed(unified)


def wudi(models: Models, steps: int) -> Tensors:
    merged = wudi_merging(models.changes, accelerator="cpu", iter_num=steps, exclude_keys=models.plain)
    return models.changed({name: x.detach() for name, x in merged.items()})


def knots(models: Models, kept: float, rule: str) -> Tensors:
    """They align; TIES of what is aligned is theirs as well, put together as the paper does."""
    merged = {}
    for name in models.base:
        u, s, vhs = subspace_alignment([each[name] for each in models.changes])
        z = torch.stack([(s[:, None] * vh).reshape(-1) for vh in vhs])
        inner = ties_merging(z, reset_thresh=kept, merge_func=rule) if kept else z.sum(0)
        merged[name] = u @ inner.reshape(u.shape[1], -1)
    return models.changed(merged)


def masks_of(models: Models, threshold: float) -> Tensor:
    tuned = torch.stack([flat(each) for each in models.tuned])
    masks = tall.generate_task_masks(models.flat_changes, tuned, flat(models.base), tall_mask_lambda=threshold)
    return masks.reshape(tuned.shape)


def tall_masks(models: Models, task: int, threshold: float) -> Tensors:
    return models.changed_by(masks_of(models, threshold)[task - 1] * models.flat_changes.sum(0))


def tall_masks_by_name(models: Models, task: int, threshold: float) -> Tensors:
    """The same from a function of theirs for state dicts; the class around it cannot be run on modules of torch."""
    total = {name: sum(each[name] for each in models.changes) for name in models.base}
    zeros = {name: torch.zeros_like(x) for name, x in total.items()}
    masks = generate_task_masks(total, models.changes[task - 1], zeros, tall_mask_lambda=threshold)
    return models.changed({name: x * masks[name] for name, x in total.items()})


def consensus(models: Models, threshold: float, agreement: int, scale: float) -> Tensors:
    masks = {place: unflat(mask, models.base) for place, mask in enumerate(masks_of(models, threshold))}
    # Theirs come from a file, which their own reader refuses, and are flattened by sorted name.
    with mock.patch.object(tall, "load_tall_mask", lambda *_: masks):
        mask = tall.construct_consensus_mask(models.base, agreement, None)
    kept = unflat(mask, dict(sorted(models.base.items())))
    return models.changed({n: kept[n] * sum(each[n] for each in models.changes) * scale for n in models.base})


def fisher(models: Models, weights: list[float], **settings: Any) -> Tensors:
    tuned = range(len(models.tuned))
    statistics = [{name: models.beside[f"{place}.{name}"] for name in models.base} for place in tuned]
    by_name = {name: [each[name] for each in models.tuned] for name in models.base}
    return merging_with_fisher_weights(by_name, statistics, torch.tensor(weights, dtype=torch.float64), **settings)


def regmean(theirs: Theirs) -> Algorithm:
    """Both versions end in the same formula; they differ in where its statistics come from."""

    def merged(models: Models, **settings: Any) -> Tensors:
        tuned = range(len(models.tuned))
        matrices = [name for name, x in models.base.items() if x.dim() == 2]
        statistics = [{n.removesuffix(".weight"): models.beside[f"{k}.{n}"] for n in matrices} for k in tuned]
        return theirs({name: [each[name] for each in models.tuned] for name in models.base}, statistics, **settings)

    return merged


def with_coins(theirs: Theirs) -> Algorithm:
    """DARE with given coins in place of random numbers: 1 keeps an entry, 0 drops it."""

    def merged(models: Models, **settings: Any) -> Tensors:
        coins = iter([models.beside[f"{k}.{name}"] for k in range(len(models.tuned)) for name in models.base])
        with mock.patch.object(torch, "rand_like", lambda like: next(coins).to(like)):
            return over_modules(theirs, only_on_linear_weights=False)(models, **settings)

    return merged


def spherical(models: Models, t: float) -> Tensors:
    return {name: slerp(t, x, models.tuned[0][name]) for name, x in models.base.items()}


ALGORITHMS: dict[str, Algorithm] = {
    "average": over_modules(SimpleAverageAlgorithm),
    "weighted_average": over_modules(WeightedAverageAlgorithm, verbose=False),
    "task_arithmetic": over_modules(TaskArithmeticAlgorithm),
    "ties": over_modules(TiesMergingAlgorithm, remove_keys=[]),
    "opcm": over_modules(OPCM, shuffle_order=False, save_on_every_step=False, evaluate_on_every_step=False),
    "tsv": excluding(TaskSingularVectorMerging),
    "iso_c": excluding(ISO_C_Merge),
    "iso_cts": excluding(ISO_CTS_Merge),
    "emr": emr,
    "wudi": wudi,
    "knots": knots,
    "svc": over_modules(SingularValueCalibrationArithmeticTask),
    "doge": over_modules(DOGE_TA_Algorithm),
    "model_stock": over_modules(ModelStock),
    "tall_masks": tall_masks,
    "tall_masks_by_name": tall_masks_by_name,
    "consensus": consensus,
    "magmax": over_modules(MagMaxAlgorithm),
    "fisher": fisher,
    "regmean": regmean(merging_with_regmean_weights),
    "regmean_plusplus": regmean(merging_with_later_regmean_weights),
    "dare": with_coins(DareTaskArithmetic),
    "dare_ties": with_coins(DareTiesMerging),
    "trust_region": over_modules(TaskArithmeticWithTrustRegionForCLIP, max_samples=0, batch_size=1, zero_shot=True),
    "slerp": spherical,
}


def part(held: Tensors, prefix: str, dtype: str) -> Tensors:
    inside = {name.removeprefix(prefix): x for name, x in held.items() if name.startswith(prefix)}
    return {name: x.to(getattr(torch, dtype)) for name, x in inside.items()}


def main(work: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    held = load_file(work["tensors"])
    merged = {}
    for case in work["cases"]:
        for dtype in case["dtypes"]:
            base, *tuned = (part(held, f"{case['held']}/{k}/", dtype) for k in range(case["models"] + 1))
            models = Models(base, tuned, part(held, f"{case['held']}/beside/", dtype), case["plain"])
            found = ALGORITHMS[case["algorithm"]](models, **case["settings"])
            merged |= {f"{case['name']}/{dtype}/{name}": x.detach().contiguous() for name, x in found.items()}
    save_file(merged, work["out"])


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
