"""One step of OPCM, and the decompositions that spectral methods use, beside the plain way of the papers' programs.

    python -m benchmarks.spectral --keep

One thread, CPU seconds, the least of a few runs; float32 operands with a spectrum like a task vector's. The plain step
takes a full singular value decomposition of the merged task vector and carries whole bases, as the official code does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import circumstances
from benchmarks.streaming import save
from merging.algebra.spectra import polar, svd, top_singular
from merging.methods.opcm import opcm

SHAPES = ((384, 1536), (768, 768), (768, 3072), (2048, 2048), (5632, 2048))
REPEATS = 2
SHARE = 0.5


@dataclass(frozen=True)
class Pair:
    """CPU seconds of ours and of the plain way, and how far the results are apart, of the plain one's largest entry."""

    what: str
    shape: tuple[int, int]
    ours: float
    plain: float
    apart: float


def task_vector(shape: tuple[int, int], seed: int) -> Tensor:
    """Low-rank and diffuse changes, as fine-tuning leaves them."""
    generator = torch.Generator().manual_seed(seed)
    rank = min(shape) // 8
    left, right = (torch.randn(side, rank, generator=generator) for side in shape)
    scale = torch.linspace(1, 0.05, rank)
    return (left * scale @ right.T / rank + 0.1 * torch.randn(shape, generator=generator)) * 1e-3


def plain_step(merged: Tensor, x: Tensor) -> Tensor:
    """The official code's step: full bases, the projected task vector in them, back again."""
    u, s, vt = torch.linalg.svd(merged, full_matrices=True)
    r = int((s.cumsum(0) / s.sum() > SHARE).float().argmax())
    projected = u.T @ x @ vt.T
    projected.diagonal().zero_()
    projected[:r, :r] = 0
    return merged + u @ projected @ vt


def pairs(shape: tuple[int, int]) -> list[Pair]:
    """Every comparison on matrices of one shape."""
    merged, x = task_vector(shape, 0), task_vector(shape, 1)
    rank = min(shape) // 8

    def thin(y: Tensor) -> Tensor:
        return torch.linalg.svd(y, full_matrices=False)[1]

    def nearest(y: Tensor) -> Tensor:
        u, _, vt = torch.linalg.svd(y.double(), full_matrices=False)
        return u @ vt

    return [
        _pair("OPCM step", shape, lambda: opcm(merged, x, projection=SHARE), lambda: plain_step(merged, x)),
        _pair("singular values and vectors", shape, lambda: svd(x)[1], lambda: thin(x.double())),
        _pair(f"the first {rank}", shape, lambda: top_singular(x, rank)[1], lambda: thin(x.double())[:rank]),
        _pair("polar factor", shape, lambda: polar(x), lambda: nearest(x)),
    ]


def _pair(what: str, shape: tuple[int, int], ours: Callable[[], Tensor], plain: Callable[[], Tensor]) -> Pair:
    mine, theirs = ours(), plain()
    apart = float((mine - theirs).abs().max() / theirs.abs().max())
    return Pair(what, shape, _seconds(ours), _seconds(plain), apart)


def _seconds(call: Callable[[], Any]) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        began = time.thread_time()
        call()
        best = min(best, time.thread_time() - began)
    return best


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="write a result file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with torch.inference_mode():
        for shape in SHAPES:
            for pair in pairs(shape):
                rows.append(asdict(pair))
                ratio = pair.plain / pair.ours
                print(
                    f"{shape[0]:5} x {shape[1]:<5} {pair.what:28} ours {pair.ours:7.3f} s   plain {pair.plain:7.3f} s"
                    f"   {ratio:5.1f} x   apart {pair.apart:.0e}",
                    flush=True,
                )
    if options.keep:
        save({"benchmark": "spectral", **circumstances(), "rows": rows}, "spectral")


if __name__ == "__main__":
    main()
