"""Every declared method on one tensor: nanoseconds per entry, readings of the inputs, memory beyond the operands.

    python -m benchmarks.methods --models 3
    python -m benchmarks.methods --methods tsv_merge,opcm --side 768

One thread, through the calls that the engine makes on its blocks. Operands lie in float32 buffers; rounds and merge are
counted, reading, converting and writing are not (see benchmarks.streaming for whole merges). Elementwise methods see a
cache block, methods of rows, matrices and tensors a whole square matrix. Of the rounds those are taken that a merge
takes, and one that is content with a sample counts by the share of a large tensor's entries that it looks at. Times are
CPU time, the least of several.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.measure import begin_peak, circumstances, peak_beyond
from benchmarks.streaming import save
from merging.algebra.windows import sample_weight, sampled_entries
from merging.methods.application import BLOCK, MEASURING_BLOCK, Application
from merging.methods.apply import applied, measure_whole, merge_measured
from merging.methods.declare import Method, all_methods
from merging.methods.describe import reads_all
from merging.methods.rounds import Sum, is_sampled

SECONDS = 0.4
# Ordinary values, by name: several defaults let a method skip its work.
ORDINARY = {"weight": 0.4, "t": 0.4, "density": 0.2, "epsilon": 0.1, "select_topk": 0.5}
WHOLE = ("row", "matrix", "tensor")
# Entries of the tensor that a sample is one of; as of a projection of 4096 to 4096.
LARGE = 1 << 24


@dataclass(frozen=True)
class Timing:
    """CPU nanoseconds per output entry, and bytes.

    `rounds` and `merge` are the parts of `nanoseconds_per_entry`; `readings` of the whole of every input, the merge's
    among them; `peak_bytes` of a merge beyond its operands, None where the system does not tell.
    """

    method: str
    models: int
    reach: str
    readings: int
    rounds: dict[str, float]
    merge: float
    nanoseconds_per_entry: float
    peak_bytes: int | None


def time_method(method: Method, models: int, side: int) -> Timing:
    """Time a method's rounds and its merge on normal numbers."""
    smallest, largest = method.needs.inputs
    count = max(smallest, min(models, largest or models))
    whole = method.needs.reach in WHOLE
    shape = (side, side) if whole else (MEASURING_BLOCK,)
    values = {name: value for name, value in ORDINARY.items() if name in method.parameters}
    x = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    use = applied(method, values, x.shape)
    measured: dict[str, Tensor] = {}
    rounds, readings = _time_rounds(use, x, measured)
    block = x if whole else x[:, :BLOCK].contiguous()
    merging = partial(merge_measured, use, block, measured, _companions(method, block))
    merge = _nanoseconds(merging, block[0].numel())
    peak = _peak(use, x, merging)
    total = merge + sum(rounds.values())
    return Timing(method.name, count, method.needs.reach, 1 + readings, rounds, merge, total, peak)


def _time_rounds(use: Application, x: Tensor, measured: dict[str, Tensor]) -> tuple[dict[str, float], int]:
    """Nanoseconds per entry of every round that a merge takes, and how many of them read all entries.

    Their sums are put into `measured`.
    """
    flat = x.reshape(len(x), -1)
    rounds: dict[str, float] = {}
    readings = 0
    for step in use.readings(measured):
        sampled = is_sampled(step)
        seen = x if use.reach == "row" and not sampled else flat
        stands_for = sample_weight(LARGE) if sampled else 1
        taken = partial(use.measure, step, seen, dict(measured), 0, stands_for)
        held = Sum(step)
        held.add(taken())
        measured[step.__name__] = held.total()
        share = sampled_entries(LARGE) / LARGE if sampled else 1.0
        rounds[step.__name__] = _nanoseconds(taken, flat.shape[1]) * share
        readings += reads_all(step)
    return rounds, readings


def _companions(method: Method, x: Tensor) -> dict[str, Tensor]:
    """Statistics of the shapes that methods ask for."""
    if method.needs.reach == "matrix":
        return dict.fromkeys(method.needs.companions, x.mT @ x * 1e6 + torch.eye(x.shape[2]))
    return dict.fromkeys(method.needs.companions, x.abs() * 1e3 + 0.1)


def _peak(use: Application, x: Tensor, merging: Callable[[], Tensor]) -> int | None:
    """Memory of the rounds and the merge together."""
    resident = begin_peak()
    measure_whole(use, x)
    merging()
    return peak_beyond(resident)


def _nanoseconds(call: Callable[[], Tensor], entries: int) -> float:
    """Smallest CPU time per entry over repeats that fill SECONDS; of a call that takes longer, its only one."""
    began = time.thread_time()
    call()
    best = time.thread_time() - began
    ends = time.perf_counter() + SECONDS
    while best < SECONDS and time.perf_counter() < ends:
        began = time.thread_time()
        call()
        best = min(best, time.thread_time() - began)
    return best / entries * 1e9


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--side", type=int, default=512, help="side of the matrix that whole-matrix methods merge")
    parser.add_argument("--methods", type=lambda text: text.split(","), default=[], metavar="X,Y")
    parser.add_argument("--keep", action="store_true", help="write a result file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with torch.inference_mode():
        for method in all_methods().values():
            if options.methods and method.name not in options.methods:
                continue
            timing = time_method(method, options.models, options.side)
            rows.append(asdict(timing))
            print(described(timing), flush=True)
    if options.keep:
        facts = {"models": options.models, "side": options.side}
        save({"benchmark": "methods", **facts, **circumstances(), "rows": rows}, "methods")


def described(timing: Timing) -> str:
    """One method as a line."""
    spent = {"merge": timing.merge, **timing.rounds}
    parts = ", ".join(f"{name} {nanoseconds:.2f}" for name, nanoseconds in spent.items())
    peak = "" if timing.peak_bytes is None else f"   {timing.peak_bytes / 2**20:6.1f} MiB"
    return (
        f"{timing.method:18} {timing.nanoseconds_per_entry:9.2f} ns per entry of {timing.models} models,"
        f" {timing.readings} readings{peak}   {parts}"
    )


if __name__ == "__main__":
    main()
