"""Nanoseconds per entry of every declared method, through the same calls the engine makes on its blocks.

    python -m benchmarks.methods --models 3

One thread, arithmetic only: operands lie in float32 buffers that stay in the processor's cache. Measuring rounds are
counted; reading, converting and writing are not (see benchmarks.streaming for whole merges). Times are CPU time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.measure import circumstances
from benchmarks.streaming import save
from merging.methods.application import BLOCK, Application, combine
from merging.methods.declare import Method, all_methods, reads

ROWS = 512
SECONDS = 0.4
# Ordinary values, by name: several defaults let a method skip its work.
ORDINARY = {"weight": 0.4, "t": 0.4, "density": 0.2}
# Rounds are taken over this many blocks of a tensor; a histogram's fixed cost is per block of this size.
MEASURED_BLOCK = 1 << 18


@dataclass(frozen=True)
class Timing:
    """CPU nanoseconds per output entry: each measuring round, the merge itself, and all of them."""

    method: str
    models: int
    reach: str
    rounds: dict[str, float]
    merge: float
    nanoseconds_per_entry: float


def time_method(method: Method, models: int) -> Timing:
    """Time a method's rounds and its merge on blocks of normal numbers."""
    smallest, largest = method.needs.inputs
    count = max(smallest, min(models, largest or models))
    values = {name: value for name, value in ORDINARY.items() if name in method.parameters}
    whole = method.needs.reach in ("row", "tensor")
    use = Application(method, values, count, axes=2 if whole else 1)
    x = torch.randn(count, MEASURED_BLOCK, generator=torch.Generator().manual_seed(0)) * 1e-3
    rounds: dict[str, float] = {}
    measured: dict[str, Tensor] = {}
    for step in use.rounds:
        if not reads(step):
            measured[step.__name__] = use.work_out(step, measured)
            continue
        measured[step.__name__] = use.measure(step, x, measured)
        rounds[step.__name__] = _nanoseconds(partial(use.measure, step, x, dict(measured)), x.shape[1])
    block = x.reshape(count, ROWS, -1) if whole else x[:, :BLOCK].contiguous()
    merge = _nanoseconds(_merging(use, block, measured), block[0].numel())
    return Timing(method.name, count, method.needs.reach, rounds, merge, merge + sum(rounds.values()))


def _merging(use: Application, x: Tensor, measured: dict[str, Tensor]) -> Callable[[], Tensor]:
    needs = use.method.needs
    if needs.reach == "span":
        return lambda: combine(x, use.coefficients(measured), needs.sees)
    if needs.order == "sequential":
        return lambda: _folded(use, x)
    return lambda: use.merge(x, measured)


def _folded(use: Application, x: Tensor) -> Tensor:
    state = use.fold(None, x[0], 0)
    for position in range(1, len(x)):
        state = use.fold(state, x[position], position)
    return state


def _nanoseconds(call: Callable[[], Tensor], entries: int) -> float:
    """Smallest CPU time per entry over repeats that fill SECONDS; the first call is not counted."""
    call()
    best = float("inf")
    ends = time.perf_counter() + SECONDS
    while time.perf_counter() < ends:
        began = time.thread_time()
        call()
        best = min(best, time.thread_time() - began)
    return best / entries * 1e9


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="write a result file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with torch.inference_mode():
        for method in all_methods().values():
            timing = time_method(method, options.models)
            rows.append(asdict(timing))
            spent = {"merge": timing.merge, **timing.rounds}
            parts = ", ".join(f"{name} {nanoseconds:.2f}" for name, nanoseconds in spent.items())
            total, models = timing.nanoseconds_per_entry, timing.models
            print(f"{timing.method:20} {total:8.2f} ns per entry of {models} models: {parts}")
    if options.keep:
        save({"benchmark": "methods", "models": options.models, **circumstances(), "rows": rows}, "methods")


if __name__ == "__main__":
    main()
