"""Inner products of whole tensors, and points between them."""

from __future__ import annotations

from math import acos, cos, sin, sqrt

from merging.lazy import Float, Tensor, torch

# Angles below this cosine's are too small for the ratio of sines; mergekit's figure.
NEARLY_PARALLEL = 0.9995
NEARLY_ZERO = 1e-8
# A squared sine up to this is no arc; mergekit's figure.
COLINEAR = 1e-16
# The smallest length whose square float64 holds well.
SHORTEST = 1e-150
# A squared length this much smaller than the terms of its sum is their rounding.
ROUNDING = 1e-15
# Entries whose products are held at once.
ENTRIES = 1 << 16


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


def squared_norms(x: Float[Tensor, "models *shape"]) -> Float[Tensor, " models"]:
    """Squared length of each model, in float64.

    >>> squared_norms(torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
    tensor([5., 9.], dtype=torch.float64)
    """
    squares = [torch.dot(entries, entries) for entries in (row.reshape(-1).double() for row in x)]
    return torch.stack(squares)


def proportions(amounts: Float[Tensor, " models"]) -> Float[Tensor, " models"]:
    """Each amount's share of the sum; equal shares where there is nothing to share.

    >>> proportions(torch.tensor([1.0, 3.0])).tolist(), proportions(torch.zeros(2)).tolist()
    ([0.25, 0.75], [0.5, 0.5])
    """
    total = float(amounts.sum())
    return amounts / total if total else torch.full_like(amounts, 1 / len(amounts))


def gram_along(x: Float[Tensor, "models rows columns"], axis: int) -> Float[Tensor, "models models others"]:
    """Inner products of all pairs of models along one axis, 1 or 2, for every position of the other; float64.

    Along axis 2 those of a row do not depend on which other rows are there.

    >>> gram_along(torch.tensor([[[1.0, 2.0], [3.0, 0.0]]]), 2)
    tensor([[[5., 9.]]], dtype=torch.float64)
    """
    models, rows, columns = x.shape
    products = torch.zeros((models, models, x.shape[3 - axis]), dtype=torch.float64, device=x.device)
    step = max(1, ENTRIES // max(1, columns))
    for start in range(0, rows, step):
        part = x[:, start : start + step].double()
        found = products if axis == 1 else products[..., start : start + step]
        for i in range(models):
            for j in range(i, models):
                found[i, j] += (part[i] * part[j]).sum(axis - 1)
                found[j, i] = found[i, j]
    return products


def pair_cosines(
    gram: Float[Tensor, "models models *rest"], shortest: float = SHORTEST
) -> Float[Tensor, "pairs *rest"]:
    """Cosine of every pair of two models, i before j, in float64.

    Lengths count as `shortest` at least, so that a zero vector has cosine 0.

    >>> pair_cosines(torch.tensor([[4.0, 2.0], [2.0, 4.0]]))
    tensor([0.5000], dtype=torch.float64)
    """
    gram = gram.double()
    lengths = gram.diagonal().movedim(-1, 0).sqrt().clamp(min=shortest)
    first, second = torch.triu_indices(len(gram), len(gram), 1, device=gram.device)
    return (gram[first, second] / (lengths[first] * lengths[second])).clamp(-1, 1)


def arc_coefficients(cosine: Float[Tensor, "*rest"], t: float) -> tuple[Tensor, Tensor]:
    """What two vectors of this cosine are multiplied with to reach fraction `t` of the arc between them.

    c = (sin((1 - t) theta), sin(t theta)) / sin(theta), or (1 - t, t) where the squared sine is at most 1e-16

    >>> [round(float(each), 4) for each in arc_coefficients(torch.tensor(0.5), 0.5)]
    [0.5774, 0.5774]
    """
    theta = cosine.acos()
    straight = 1 - cosine.square() <= COLINEAR
    sine = torch.where(straight, 1.0, theta.sin())
    first = torch.where(straight, 1 - t, ((1 - t) * theta).sin() / sine)
    return first, torch.where(straight, t, (t * theta).sin() / sine)


def combined_length(combination: Float[Tensor, " models"], gram: Float[Tensor, "models models"]) -> float:
    """Length of a linear combination of vectors with these inner products; 0 where it is rounding.

    >>> combined_length(torch.tensor([1.0, 1.0]), torch.tensor([[9.0, 0.0], [0.0, 16.0]]))
    5.0
    """
    terms = float((combination.abs() * gram.diagonal().sqrt()).sum())
    square = float(combination @ gram @ combination)
    return sqrt(square) if square > ROUNDING * terms**2 else 0.0


def karcher_coefficients(gram: Float[Tensor, "models models"], max_iter: int, tol: float) -> Float[Tensor, " models"]:
    """What vectors are multiplied with to give their mean on the sphere, times their mean length; float64.

    The mean is the unit vector u with the smallest sum of squared angles to the vectors' directions u_i. From the
    direction of sum u_i, or from u_1 where that sum vanishes, it is reached by steps along the gradient, and u stays a
    combination of the u_i throughout:

    g = mean_i theta_i / sin(theta_i) (u_i - cos(theta_i) u),    theta_i = arccos <u, u_i>
    u = cos|g| u + sin|g| g / |g|,                               until |g| < tol, at most `max_iter` times

    Vectors of length at most `tol` have no direction but count in the mean length; where there is no other, all
    coefficients are 0. A vector opposite to u, or equal to it, does not pull.

    >>> karcher_coefficients(torch.eye(2), max_iter=10, tol=1e-5)
    tensor([0.7071, 0.7071], dtype=torch.float64)
    """
    gram = gram.double()
    lengths = gram.diagonal().sqrt()
    coefficients = torch.zeros_like(lengths)
    long = (lengths > tol).nonzero().flatten()
    if len(long):
        cosines = (gram[long][:, long] / torch.outer(lengths[long], lengths[long])).clamp(-1, 1)
        coefficients[long] = _sphere_mean(cosines, max_iter, tol) * lengths.mean() / lengths[long]
    return coefficients


def _sphere_mean(cosines: Float[Tensor, "models models"], max_iter: int, tol: float) -> Float[Tensor, " models"]:
    """The mean direction as a combination of unit vectors that have these cosines."""
    mean = torch.full_like(cosines[0], 1 / len(cosines))
    if combined_length(mean, cosines) <= tol:
        mean = torch.zeros_like(mean)
        mean[0] = 1
    mean /= combined_length(mean, cosines)
    for _ in range(max_iter):
        seen = (cosines @ mean).clamp(-1, 1)
        theta = seen.acos()
        pulls = theta.sin() > tol
        pull = torch.where(pulls, theta / theta.sin(), 0.0) / len(mean)
        step = pull - torch.dot(pull, seen) * mean
        length = combined_length(step, cosines)
        if length <= tol:
            break
        mean = cos(length) * mean + sin(length) / length * step
        mean /= combined_length(mean, cosines) or 1.0
    return mean
