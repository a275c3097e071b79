"""A diagnosis in plain sentences: what stands out, where, and what it means for a merge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import sqrt

from merging.analysis.diagnosis import Diagnosis
from merging.analysis.measures import Sums
from merging.analysis.quantities import quantities
from merging.analysis.regions import Cells, Run
from merging.analysis.sentences import changed_layers, joined, listed, plural, spelled_count
from merging.lazy import torch

# A twentieth of what rounding to bfloat16 moves the weights (2^-9 / sqrt 3 of their norm): such a change may not
# survive being stored.
TINY = 1e-4
# Fine-tunes of one base move it by a few percent of its norm; an unrelated model lies at the square root of two.
FAR, UNRELATED = 0.3, 1.0
# Cosines of task vectors of unrelated tasks lie within a few hundredths; from here on models share or undo work.
ALIGNED, OPPOSED = 0.3, -0.1
# Unrelated vectors of n entries have cosines of about 1 / sqrt n; what is not so many times as large is chance.
CHANCE = 5.0
# Below this largest cosine task vectors count as orthogonal: their squares add up to within a tenth for a few models.
ORTHOGONAL = 0.05
# Opposite signs cost n unrelated dense task vectors 1 - 1/sqrt n of their mass; what loses so much more than that is no
# chance: it is some tasks undoing others.
EXCESS = 0.03
# The largest fifth of a normal distribution has 0.81 of its norm: above, changes are sparse and trimming is cheap.
SPARSE = 0.9
# The longest task vector decides the sum where it is so many times as long as the shortest: the other's share of the
# squared norm is then below a tenth.
UNEQUAL = 3.0
# Sentences about regions: the strongest few of each kind, and none that has less of the squared norm.
MOST_REGIONS, MINOR = 3, 0.01


def summary(diagnosis: Diagnosis) -> list[str]:
    """What stands out in a diagnosis, a sentence each, the most serious first; never empty."""
    if not diagnosis.tensors:
        return ["the models have no tensors of numbers to compare"]
    seen = _Seen(diagnosis)
    found = [
        *_non_finite(seen),
        *_identical(seen),
        *_unchanged(seen),
        *_far(seen),
        *_where_changed(seen),
        *_unequal(seen),
        *_pairs(seen),
        *_conflicts(seen),
        *_sparse(seen),
    ]
    return found or ["nothing stands out: one model, of the size of an ordinary fine-tune"]


class _Seen:
    """A diagnosis with what several sentences ask of it."""

    def __init__(self, diagnosis: Diagnosis):
        self.diagnosis = diagnosis
        self.names = diagnosis.names
        self.cells = Cells(diagnosis)
        _, sums, entries = diagnosis.grouped("model")
        self.sums = sums
        self.base, self.single, self.pairs, self.together = (
            {quantity: values[0] for quantity, values in found.items()} for found in quantities(sums, entries.double())
        )
        norms = self.single["norm"].tolist()
        self.moved = [i for i, norm in enumerate(norms) if norm > 0]
        self.relative = [value if value == value else float("inf") for value in self.single["relative_norm"].tolist()]


def _non_finite(seen: _Seen) -> Iterator[str]:
    counts = seen.diagnosis.non_finite
    for i, name in enumerate(("the base model", *seen.names)):
        total = int(counts[:, i].sum())
        if total:
            tensors = [seen.diagnosis.tensors[at].name for at in counts[:, i].nonzero()[:, 0].tolist()]
            yield (
                f"{name} has {total:,} {plural(total, 'entry that is', 'entries that are')} not finite, in "
                f"{listed(tensors)}: every merge will have them too; mend or leave out that model"
            )


def _identical(seen: _Seen) -> Iterator[str]:
    for group in _alike_throughout(seen):
        times = {2: "twice", 3: "three times"}.get(len(group), f"{len(group)} times")
        who, many = _who(seen, group), spelled_count(len(group))
        fix = "leave one out" if len(group) == 2 else "keep one"
        yield f"{who} are identical: as {many} models they count {times}; {fix}, or say so by its weight"


def _alike_throughout(seen: _Seen) -> list[list[int]]:
    """Models that are the same in every entry, together."""
    groups: list[list[int]] = []
    for i in seen.moved:
        group = next((group for group in groups if _same(seen.diagnosis, group[0], i)), None)
        if group is None:
            groups.append([i])
        else:
            group.append(i)
    return [group for group in groups if len(group) > 1]


def _same(d: Diagnosis, i: int, j: int) -> bool:
    return bool(
        torch.equal(d.magnitudes[:, i], d.magnitudes[:, j])
        and torch.equal(d.fourth[:, i], d.fourth[:, j])
        and torch.equal(d.signs[:, i, j], d.shared[:, i, j])
        and torch.equal(d.gram[:, i + 1, j + 1], d.gram[:, i + 1, i + 1])
        and torch.equal(d.gram[:, j + 1, j + 1], d.gram[:, i + 1, i + 1])
    )


def _unchanged(seen: _Seen) -> Iterator[str]:
    still = [i for i in range(len(seen.names)) if i not in seen.moved]
    if still:
        verb, adds = plural(len(still), "equals", "equal"), plural(len(still), "it adds", "they add")
        yield f"{_who(seen, still)} {verb} the base model in every entry: {adds} nothing to a merge of task vectors"
    slight = [i for i in seen.moved if seen.relative[i] < TINY]
    if slight:
        most = max(seen.relative[i] for i in slight)
        size = f"relative norm {'' if len(slight) == 1 else 'up to '}{most:.1g}"
        yield (
            f"{_who(seen, slight)} hardly {plural(len(slight), 'differs', 'differ')} from the base model ({size}): "
            "so small a change may not survive rounding to 16 bits"
        )


def _far(seen: _Seen) -> Iterator[str]:
    far = [i for i in seen.moved if seen.relative[i] > FAR]
    if not far:
        return
    largest = max(seen.relative[i] for i in far)
    who = _who(seen, far)
    verb = plural(len(far), "lies", "lie")
    if largest >= UNRELATED:
        yield (
            f"{who} {verb} as far from the base model as an unrelated one (relative norm up to {largest:.2g}): was it "
            "trained from this base? if not, no merge of weights will work without alignment"
        )
    else:
        yield (
            f"{who} {verb} far from the base model (relative norm up to {largest:.2g}, fine-tunes move a few percent): "
            "continued pretraining, or another base? linear merging may not work; try low weights first"
        )


def _where_changed(seen: _Seen) -> Iterator[str]:
    """Models that left whole layers or parts alone."""
    found: dict[str, list[int]] = {}
    for i in seen.moved:
        if alone := _changed_alone(seen, i):
            found.setdefault(", and there only in ".join(alone), []).append(i)
    for where, models in found.items():
        verb = plural(len(models), "differs", "differ")
        yield f"{_who(seen, models)} {verb} from the base model only in {where}"


def _changed_alone(seen: _Seen, i: int) -> list[str]:
    """Layers and parts outside which a model left everything alone; none where it left none."""
    layers: dict[str, dict[int, bool]] = {}
    parts: dict[str, bool] = {}
    for cell in seen.cells.all():
        changed = bool(seen.cells.sums([cell]).signs[0, i, i] > 0)
        parts[cell.part] = parts.get(cell.part, False) or changed
        if cell.layer is not None:
            own = layers.setdefault(cell.stack, {})
            own[cell.layer] = own.get(cell.layer, False) or changed
    where = [changed_layers(stack, own) for stack, own in layers.items() if not all(own.values())]
    return where + ([joined([part for part, changed in parts.items() if changed])] if not all(parts.values()) else [])


def _unequal(seen: _Seen) -> Iterator[str]:
    if len(seen.moved) < 2:
        return
    norms = seen.single["norm"].tolist()
    least, most = (choose(seen.moved, key=lambda i: norms[i]) for choose in (min, max))
    if norms[most] > UNEQUAL * norms[least]:
        yield (
            f"{seen.names[most]} moved {norms[most] / norms[least]:.2g} times as far as {seen.names[least]}: with "
            "equal weights it decides the merge; give it a lower weight, or the other a higher one"
        )


def _pairs(seen: _Seen) -> Iterator[str]:
    """Models that share directions somewhere, or undo each other; or that nobody does."""
    found: dict[tuple[str, bool], dict[tuple[int, int], float]] = {}
    for i, j in combinations(seen.moved, 2):
        for run, cosine in _alike(seen, i, j):
            found.setdefault((seen.cells.where(run), cosine > 0), {})[i, j] = cosine
    for (where, same), cosines in found.items():
        for models, range_ in _together(cosines):
            yield _alike_says(_who(seen, models), len(models), where, same, range_)
    largest = max((abs(float(seen.pairs["cosine"][i, j])) for i, j in combinations(seen.moved, 2)), default=1.0)
    if largest < ORTHOGONAL and not found:
        count = len(seen.moved)
        yield (
            f"the task vectors are nearly orthogonal (largest cosine {largest:.2g}): a sum keeps each of them, an "
            f"average shrinks each to 1/{count}; search the weight of task_arithmetic from 1/{count} to 1"
        )


def _together(cosines: Mapping[tuple[int, int], float]) -> Iterator[tuple[list[int], tuple[float, float]]]:
    """Pairs as one group where each of its models is alike with each other one, else one by one."""
    models = sorted({i for pair in cosines for i in pair})
    if len(cosines) == len(models) * (len(models) - 1) // 2:
        yield models, (min(cosines.values()), max(cosines.values()))
    else:
        yield from (([*pair], (cosine, cosine)) for pair, cosine in cosines.items())


def _alike_says(who: str, count: int, where: str, same: bool, range_: tuple[float, float]) -> str:
    low, high = (f"{value:.2f}" for value in range_)
    size = f"cosine {low}" if low == high else f"cosines {low} to {high}"
    if same:
        grows = "doubles" if count == 2 else "multiplies"
        return f"{who} point the same way in {where} ({size}): an average keeps what they share, a sum {grows} it"
    other = "other" if count == 2 else "others"
    return f"{who} pull in opposite directions in {where} ({size}): each undoes the {other}"


def _alike(seen: _Seen, i: int, j: int) -> Iterator[tuple[Run, float]]:
    """Where two models point the same way, then where they oppose each other, with their cosine there."""
    for runs in (
        seen.cells.runs(lambda sums: _cosine(sums, i, j) >= max(ALIGNED, _chance(sums, i, j))),
        seen.cells.runs(lambda sums: _cosine(sums, i, j) <= min(OPPOSED, -_chance(sums, i, j))),
    ):
        for run in _strongest(seen, runs, (i, j)):
            yield run, _cosine(seen.cells.sums(run.cells), i, j)


def _conflicts(seen: _Seen) -> Iterator[str]:
    if len(seen.moved) < 2:
        return
    usual = 1 - 1 / sqrt(len(seen.moved))
    who = _who(seen, seen.moved)
    for run in _strongest(
        seen,
        seen.cells.runs(lambda sums: _lost(sums) >= usual + max(EXCESS, _chance(sums, *seen.moved[:2]))),
        seen.moved,
    ):
        lost = _lost(seen.cells.sums(run.cells))
        yield (
            f"{who} disagree in {seen.cells.where(run)} ({lost:.0%} of the mass is lost to opposite signs, {usual:.0%} "
            "were usual for unrelated dense changes): expect a sum to lose part of each; try ties with density 0.2, or "
            "lower weights there"
        )


def _sparse(seen: _Seen) -> Iterator[str]:
    kept = seen.single["kept_norm_20"].tolist()
    sparse = [i for i in seen.moved if kept[i] >= SPARSE]
    if sparse:
        least = min(kept[i] for i in sparse)
        yield (
            f"the largest 20 % of the entries of {_who(seen, sparse)} have at least {least:.0%} of "
            "the norm: trimming to density 0.2 costs little"
        )


def _strongest(seen: _Seen, runs: Sequence[Run], models: Sequence[int]) -> list[Run]:
    """The runs that hold most of what these models changed."""
    held = {run: _squares(seen.cells.sums(run.cells), models) for run in runs}
    whole = _squares(seen.sums, models)
    return sorted((run for run in runs if held[run] >= MINOR * whole), key=lambda run: -held[run])[:MOST_REGIONS]


def _squares(sums: Sums, models: Sequence[int]) -> float:
    return float(sum(sums.gram[0, i + 1, i + 1] for i in models))


def _cosine(sums: Sums, i: int, j: int) -> float:
    gram = sums.gram[0]
    lengths = float(gram[i + 1, i + 1] * gram[j + 1, j + 1])
    return float(gram[i + 1, j + 1]) / sqrt(lengths) if lengths > 0 else 0.0


def _chance(sums: Sums, i: int, j: int) -> float:
    return CHANCE / sqrt(max(1.0, float(sums.shared[0, i, j])))


def _lost(sums: Sums) -> float:
    whole, left = sums.mass[0].tolist()
    return 1 - left / whole if whole > 0 else 0.0


def _who(seen: _Seen, models: Sequence[int]) -> str:
    """Models by name; three or more that are all there are, as such."""
    if len(models) > 2 and len(models) == len(seen.names):
        return f"all {spelled_count(len(models))} models"
    return joined([seen.names[i] for i in models])
