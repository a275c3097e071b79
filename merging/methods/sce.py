"""SCE: select the entries on which models differ most, calculate weights from them, erase minority signs."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from merging.algebra.masks import variance
from merging.algebra.signs import agreeing_weights, disjoint_mean, disjoint_sum, elect_sign
from merging.lazy import Float, Int, Tensor, torch
from merging.methods.declare import merge_method, only_if
from merging.methods.parameters import Kind, Measured, Share, Unused
from merging.methods.ranks import rank_rounds

# Below this sum of mean squares mergekit takes equal weights; below this sum of weights it divides by it.
MERGEKIT_FLOOR = 1e-6
Variant: TypeAlias = Annotated[str, Kind("choice", choices=("mergekit", "paper", "fuseai"), example="paper")]
Selected: TypeAlias = Annotated[float, Kind("number", minimum=0.0, maximum=1.0, example=0.1)]


def variances(x: Float[Tensor, "models n"]) -> Float[Tensor, "one n"]:
    """The variance of every entry over the models, as one row."""
    return variance(x)[None]


def smallest_selected(
    counts: Int[Tensor, "one two"], *, select_topk: Share, variant: Variant
) -> Int[Tensor, "one one"]:
    """Ascending rank of the smallest variance selected: 0 selects all, n + 1 none."""
    n, zeros = counts[0].tolist()
    if variant == "mergekit":
        # Its product is one of float32: 0.29 of 100 entries are 29, where float64 makes them 28.
        selected = int(torch.tensor(n - zeros) * select_topk)
    else:
        selected = int(select_topk * (n - zeros)) if zeros < n else n + 1
    return torch.tensor([[n + 1 - selected]], device=counts.device)


def energies(x: Float[Tensor, "models n"], *, measured: Measured) -> Float[Tensor, "models parts"]:
    """Last round: sum of squares of each model's selected entries, and the number of all entries."""
    squares = torch.linalg.vector_norm(_selected(x, measured), dim=1, dtype=torch.float64).square()
    return torch.stack([squares, torch.full_like(squares, x.shape[1])], 1)


SELECTING = rank_rounds("threshold", smallest_selected, variances, zeros=True)
SCE_ROUNDS = (*(only_if("select_topk", step) for step in SELECTING), energies)


@merge_method("sce", paper="arXiv:2408.07990", sees="task_vectors", reach="element", measure=SCE_ROUNDS)
def sce(
    task_vectors: Float[Tensor, "models *shape"],
    *,
    measured: Measured,
    select_topk: Selected = 1.0,  # noqa: ARG001
    variant: Variant = "mergekit",
    int8_mask: Unused = False,  # noqa: ARG001
) -> Float[Tensor, "*shape"]:
    """Select, calculate, erase: task vectors weighted by their mean squares, minority signs left out.

    selected_i = tau_i where the variance over the models is among the int(select_topk m) largest, m of them not zero
    weight_i   = sum of squares of selected_i over all entries, divided by that of all models; equal where all are zero
    sign       = sign(sum_i selected_i), + where that is 0
    merged     = base + sum_i weight_i selected_i / sum_i weight_i,  over the i whose selected_i has `sign`

    All entries whose variance equals the smallest selected are selected. Models without any variance, one alone or all
    equal, are selected whole. That is the variant `paper`; `fuseai`, the authors' code, selects for the weights alone
    and merges all entries. The default is `mergekit`, as other tools know the name: equal weights where the mean
    squares add up to less than 1e-6, as those of most language models do, and no division by less than 1e-6, so that
    the size of the changes matters; selecting, it drops models without variance: equal ones are not a fixed point.

    Use it for fine-tunes of one base that differ in how much they changed, the larger change leading, tensor by tensor;
    not where a small change matters as much as a large one, which `ties` respects. Take `variant: paper` for a merge of
    your own: under the default small changes are not weighed. The others serve to reproduce a merge.

    select_topk: share of the entries with any variance that is selected; the paper takes 0.1, mergekit all
    variant: mergekit, with its absolute thresholds; paper; or fuseai, which merges what was not selected as well
    int8_mask: no effect; a storage type in other tools

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("sce", torch.tensor([[3.0, 1.0, 0.0], [1.0, -2.0, 0.0]]), torch.zeros(3))
    tensor([ 2.3333, -2.0000,  0.0000])
    """
    x = task_vectors if variant == "fuseai" else _selected(task_vectors, measured)
    squares, entries = measured["energies"].unbind(1)
    total = squares.sum()
    equal = total == 0 or (variant == "mergekit" and total < MERGEKIT_FLOOR * entries[0])
    weight = (torch.full_like(squares, 1 / len(x)) if equal else squares / total).to(x)
    weight = weight.reshape(-1, *[1] * (x.ndim - 1))
    sign = elect_sign(x)
    if variant == "mergekit":
        return disjoint_sum(x * weight, sign).div_(agreeing_weights(x, sign, weight).clamp_(min=MERGEKIT_FLOOR))
    return disjoint_mean(x * weight, sign, weight)


def _selected(x: Float[Tensor, "models *shape"], measured: Measured) -> Float[Tensor, "models *shape"]:
    if "threshold" not in measured:
        return x
    spread = variance(x)
    return x * torch.ge(spread, measured["threshold"][0], out=spread)
