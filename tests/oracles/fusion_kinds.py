"""How many random cases of each algorithm of FusionBench there are, of which shapes, and how far apart they may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from tests.oracles import fusion_cases as make
from tests.oracles.fusion_cases import Case, Draw

MATRICES = [(40, 12), (12, 40), (24, 24), (97, 16), (7, 5)]
ANY = [*MATRICES, (33,), (2,), (5, 3, 4, 2)]
SPECTRAL = 2.0**-16


@dataclass(frozen=True)
class Kind:
    """Cases of one algorithm: what makes one, of which shapes, with how many models, and how far theirs is from ours.

    Differences are shares of the largest entry of base model and result. Where theirs computes in float64 they are our
    rounding to float32, once for each operand of a linear pass and else once or twice: `exact`. Where theirs computes
    in float32 they are also theirs, `rounded`: sums over a few operands, or singular vectors and solutions, which turn
    by rounding over the gap between two singular values, here about a hundredth of the largest.
    """

    make: Callable[[Draw], Case]
    shapes: list[tuple[int, ...]] = field(default_factory=lambda: MATRICES)
    tasks: tuple[int, int] = (2, 5)
    cases: int = 10
    rounded: float = 2.0**-22
    exact: ClassVar[float] = 2.0**-22


KINDS: Mapping[str, Kind] = {
    "average": Kind(make.average, ANY, (1, 6)),
    "weighted_average": Kind(make.weighted_average, ANY, (1, 6)),
    "task_arithmetic": Kind(make.task_arithmetic, ANY, (1, 6)),
    "ties": Kind(make.ties, ANY, (1, 6), 24),
    "opcm": Kind(make.opcm, MATRICES, (1, 6), 15, SPECTRAL),
    "tsv": Kind(make.tsv, cases=15, rounded=SPECTRAL),
    "iso_c": Kind(make.iso_c, cases=15, rounded=SPECTRAL),
    "iso_cts": Kind(make.iso_cts, cases=15, rounded=SPECTRAL),
    "emr": Kind(make.emr, ANY, (1, 6), 16),
    "wudi": Kind(make.wudi, rounded=SPECTRAL),
    "knots": Kind(make.knots, cases=20),
    "svc": Kind(make.svc, cases=15),
    "doge": Kind(make.doge, cases=5, rounded=SPECTRAL),
    "model_stock": Kind(make.model_stock, ANY),
    "tall_masks": Kind(make.tall_masks, ANY),
    "tall_masks_by_name": Kind(make.tall_masks, ANY),
    "consensus": Kind(make.consensus, ANY, (2, 6)),
    "magmax": Kind(make.magmax, ANY, (1, 6)),
    "fisher": Kind(make.fisher, ANY),
    "regmean": Kind(make.regmean, rounded=SPECTRAL),
    "regmean_plusplus": Kind(make.regmean, rounded=SPECTRAL),
    "dare": Kind(make.dare, ANY, (1, 4)),
    "dare_ties": Kind(make.dare_ties, ANY, (1, 4)),
    "trust_region": Kind(make.trust_region, ANY[:-2], (2, 5)),
    "slerp": Kind(make.slerp, ANY, (1, 1)),
}


def cases() -> dict[str, Case]:
    """Every case by its name, "algorithm-number"."""
    return {
        f"{name}-{number}": kind.make(Draw(name, number, kind.shapes, kind.tasks))
        for name, kind in KINDS.items()
        for number in range(kind.cases)
    }
