"""Task arithmetic in the trust region: leave out the entries on which large changes of several tasks meet."""

from __future__ import annotations

from merging.algebra.masks import conflict
from merging.algebra.signs import sum_models
from merging.algebra.sparsify import keep_above
from merging.lazy import Float, Int, Tensor, torch
from merging.methods.declare import merge_method, only_if
from merging.methods.parameters import Measured, Number, PerModel, Share
from merging.methods.ranks import rank_rounds


def conflicts(x: Float[Tensor, "models n"]) -> Float[Tensor, "one n"]:
    """The conflict of every entry, as one row."""
    return conflict(x)[None]


def quantile(counts: Int[Tensor, "one one"], *, density: Share) -> Int[Tensor, "one one"]:
    """Ascending rank of the quantile, from 1."""
    n = int(counts[0, 0])
    return torch.tensor([[int((n - 1) * density) + 1 if n else 0]], device=counts.device)


@merge_method(
    "trust_region",
    paper="arXiv:2501.15065",
    sees="task_vectors",
    reach="element",
    measure=tuple(only_if("density", step) for step in rank_rounds("limit", quantile, conflicts)),
    scope="model",
)
def trust_region(
    task_vectors: Float[Tensor, "models *shape"],
    *,
    measured: Measured,
    weight: PerModel = 1.0,
    density: Share = 0.99,  # noqa: ARG001
    lambda_: Number = 0.3,
) -> Float[Tensor, "*shape"]:
    """Weighted sum of the task vectors without the entries on which they are largest together.

    conflict = sum_(i != j) |tau_i| |tau_j|
    merged   = base + lambda sum_i weight_i tau_i where conflict <= its `density` quantile over the whole model,
               base elsewhere

    This is the zero-shot form: the paper estimates the conflict as sum_(i != j) |gradient of task i| |tau_j| and, where
    there are no data, takes the task vector for the gradient. Of n conflicts in order the quantile is the one at place
    int((n - 1) density) from 0, so that interpolating to the next changes nothing; all equal to it stay. Weights have
    no say in the conflict. A single model has none. Equal models are a fixed point at density 1 if lambda times the sum
    of the weights is 1.

    Use it as `task_arithmetic`, with the same search over lambda, for several tasks whose largest changes meet. It is
    one more reading of all models, and one entry in a hundred that is left out: expect a small difference.

    weight: coefficient of each task vector
    density: share of the model's entries that stays in the trust region
    lambda: scale of the merged task vector; that of task arithmetic for eight tasks

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("trust_region", torch.tensor([[3.0, 1, 2], [2, -1, 0]]), torch.zeros(3), density=0.7, lambda_=1)
    tensor([0., 0., 2.])
    """
    merged = sum_models(task_vectors * weight).mul_(lambda_)
    if "limit" not in measured:
        return merged
    beyond = keep_above(conflict(task_vectors)[None], measured["limit"][0])[0]
    return merged.mul_(beyond.sign_().neg_().add_(1))
