"""Model stock: the average of fine-tunes, pulled towards the base model as far as they disagree."""

from __future__ import annotations

from typing import Literal

from merging.algebra.geometry import gram, pair_cosines
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Flag, Measured

# A denominator nearer to zero than this gives no ratio; mergekit's figure.
NO_RATIO = 1e-6


@merge_method(
    "model_stock",
    paper="arXiv:2403.19522",
    sees="task_vectors",
    reach="span",
    inputs=(2, None),
    measure=(gram,),
    instead=(("filter_wise", True, "model_stock_rows"),),
)
def model_stock(
    *,
    measured: Measured,
    filter_wise: Flag = False,  # noqa: ARG001
    average: Literal["cosine", "angle"] = "cosine",
    clamp: Flag = False,
) -> Float[Tensor, " models"]:
    """Point on the line from the base model to the average that is nearest to the centre of all fine-tunes alike.

    c      = cosine between two task vectors, averaged over all pairs of the N models
    t      = N c / (1 + (N - 1) c)
    merged = base + t sum_i tau_i / N

    Fine-tunes on the same data lie on a shell around a centre, each at a right angle to the others as seen from there;
    of the line to their average, merged is the point nearest to that centre. The paper has equal angles between all
    task vectors and leaves the average open: `cosine` averages cosines, as mergekit does, `angle` averages angles and
    takes the cosine of that, as FusionBench does; of two models they are the same.

    As in mergekit a c below zero gives a t below zero, which steps away from the average, and t is 0 where the
    denominator is within 1e-6 of zero; near that the step is long. `clamp` counts such a c as 0, which leaves the base
    model: t is in [0, 1]. Cosines are exact here: mergekit divides by 1e-6 at least and so pulls tensors whose task
    vectors are shorter than about 1e-3, such as norms, too near to the base model. A tensor that a model left alone has
    cosine 0 to all others.

    Use it for a few fine-tunes of one base model on the same data, in place of averaging many. For models of different
    tasks the angles are near 90 degrees and little but the base model is left. Write `clamp: true` where tensors or
    rows are short: of few entries the cosine is below zero by chance, and a step away from the average serves nobody.

    filter_wise: a ratio for every row (last axis) in place of one for the tensor
    average: what is averaged over the pairs, their cosine or their angle
    clamp: count a c below zero as 0, so that the result lies between base model and average

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("model_stock", torch.tensor([[2.0, 0.0], [1.0, 3.0**0.5]]), torch.zeros(2))
    tensor([1.0000, 0.5774])
    """
    products = measured["gram"]
    ratio = stock_ratio(products, average, clamp)
    return (ratio / len(products)).expand(len(products)).clone()


def stock_ratio(gram: Float[Tensor, "models models *rest"], average: str, clamp: bool) -> Float[Tensor, "*rest"]:
    """How far from the base model towards the average, from the inner products of the task vectors."""
    models = len(gram)
    cosines = pair_cosines(gram)
    cosine = cosines.mean(0) if average == "cosine" else cosines.acos().mean(0).cos()
    if clamp:
        cosine = cosine.clamp(min=0)
    denominator = 1 + (models - 1) * cosine
    some = denominator.abs() >= NO_RATIO
    return torch.where(some, models * cosine / torch.where(some, denominator, 1.0), 0.0)
