"""Electing one sign per entry, and averaging what agrees with it.

Sums over models run in the models' order, so that no bit depends on how entries are cut. Everything stays in float32:
a boolean mask costs as much as forty of the multiplications and clamps that stand in for it.
"""

from __future__ import annotations

from merging.lazy import Float, Tensor, torch

# A sum of weights below this is not divided by; mergekit's figure.
NO_DIVISOR = 1e-8


def sum_models(x: Float[Tensor, "models *shape"]) -> Float[Tensor, "*shape"]:
    """Sum over the models in their order."""
    total = x[0] + x[1] if len(x) > 1 else x[0].clone()
    for row in x[2:]:
        total.add_(row)
    return total


def sum_scale(weight: Float[Tensor, "models *ones"], normalize: bool, scale: float) -> float:
    """What a weighted sum is multiplied with: `scale`, over the sum of the weights where it is to be a mean.

    Weights that cancel are not divided by.

    >>> sum_scale(torch.tensor([1.0, 3.0]), True, 2.0), sum_scale(torch.tensor([1.0, -1.0]), True, 2.0)
    (0.5, 2.0)
    """
    total = float(weight.sum())
    return scale / total if normalize and abs(total) >= NO_DIVISOR else scale


def elect_sign(x: Float[Tensor, "models *shape"], tie: int = 1) -> Float[Tensor, "*shape"]:
    """The sign, +1 or -1, of the sum over models; `tie` where the sum is zero.

    >>> elect_sign(torch.tensor([[1.0, -2.0, 3.0], [1.0, 1.0, -3.0]]))
    tensor([ 1., -1.,  1.])
    """
    return sum_models(x).sign_().add_(0.5 * tie).sign_()


def disjoint_sum(x: Float[Tensor, "models *shape"], sign: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Sum over the models whose entry has the elected sign; zeros have none.

    >>> disjoint_sum(torch.tensor([[1.0, -2.0], [3.0, 4.0]]), torch.tensor([1.0, -1.0]))
    tensor([ 4., -2.])
    """
    merged = torch.zeros_like(sign)
    agreeing = torch.empty_like(sign)
    for row in x:
        merged += torch.mul(row, sign, out=agreeing).relu_()
    return merged.mul_(sign)


def disjoint_mean(
    x: Float[Tensor, "models *shape"], sign: Float[Tensor, "*shape"], weight: Float[Tensor, "models *ones"]
) -> Float[Tensor, "*shape"]:
    """The disjoint sum of weighted entries `x`, divided by the sum of the agreeing models' weights.

    Weights keep their sign; a divisor of exactly zero is taken as one.

    >>> disjoint_mean(torch.tensor([[1.0, -2.0], [3.0, 4.0]]), torch.tensor([1.0, -1.0]), torch.ones(2, 1))
    tensor([ 2., -2.])
    """
    merged, divisor = torch.zeros_like(sign), torch.zeros_like(sign)
    agreeing = torch.empty_like(sign)
    for row, share in zip(x, weight, strict=True):
        merged += torch.mul(row, sign, out=agreeing).relu_()
        divisor.addcmul_(agreeing.sign_(), share)
    divisor += torch.eq(divisor, 0, out=agreeing)
    return merged.div_(divisor).mul_(sign)


def disjoint_max(x: Float[Tensor, "models *shape"], sign: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The entry of largest magnitude among the models whose entry has the elected sign; zeros have none.

    >>> disjoint_max(torch.tensor([[1.0, -2.0], [3.0, 4.0]]), torch.tensor([1.0, -1.0]))
    tensor([ 3., -2.])
    """
    merged = torch.zeros_like(sign)
    agreeing = torch.empty_like(sign)
    for row in x:
        torch.maximum(merged, torch.mul(row, sign, out=agreeing), out=merged)
    return merged.mul_(sign)


def agreeing_weights(
    x: Float[Tensor, "models *shape"], sign: Float[Tensor, "*shape"], weight: Float[Tensor, "models *ones"]
) -> Float[Tensor, "*shape"]:
    """Sum of the weights of the models whose entry has the elected sign; zeros have none.

    >>> agreeing_weights(torch.tensor([[1.0, -2.0], [3.0, 4.0]]), torch.tensor([1.0, -1.0]), torch.ones(2, 1))
    tensor([2., 1.])
    """
    total = torch.zeros_like(sign)
    agreeing = torch.empty_like(sign)
    for row, share in zip(x, weight, strict=True):
        total.addcmul_(torch.mul(row, sign, out=agreeing).sign_().relu_(), share)
    return total
