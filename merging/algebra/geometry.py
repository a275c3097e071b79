"""Inner products of whole tensors, and points between them."""

from __future__ import annotations

from math import acos, sin, sqrt

from merging.lazy import Float, Tensor

# Angles below this cosine's are too small for the ratio of sines; mergekit's figure.
NEARLY_PARALLEL = 0.9995
NEARLY_ZERO = 1e-8


def gram(x: Float[Tensor, "models *shape"]) -> Float[Tensor, "models models"]:
    """Inner products of all pairs of models, in float64.

    >>> import torch
    >>> gram(torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
    tensor([[5., 3.],
            [3., 9.]], dtype=torch.float64)
    """
    entries = x.reshape(len(x), -1).double()
    return entries @ entries.T


def slerp_coefficients(gram: Float[Tensor, "two two"], t: float) -> tuple[float, float]:
    """What two vectors are multiplied with to reach fraction `t` of the arc between their directions.

    theta = arccos(<x, y> / (|x| |y|)), a norm of at most 1e-8 counting as 1
    c     = (sin((1 - t) theta), sin(t theta)) / sin(theta), or (1 - t, t) where |cos(theta)| > 0.9995

    >>> import torch
    >>> [round(each, 4) for each in slerp_coefficients(torch.eye(2), 0.5)]
    [0.7071, 0.7071]
    """
    (xx, xy), (_, yy) = gram.tolist()
    lengths = [length if length > NEARLY_ZERO else 1.0 for length in (sqrt(xx), sqrt(yy))]
    cosine = xy / (lengths[0] * lengths[1])
    if not abs(cosine) <= NEARLY_PARALLEL:
        return 1 - t, t
    theta = acos(cosine)
    return sin((1 - t) * theta) / sin(theta), sin(t * theta) / sin(theta)
