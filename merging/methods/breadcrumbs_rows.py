"""Model breadcrumbs row by row, as the authors' program cuts them."""

from __future__ import annotations

from merging.algebra.masks import sorted_magnitudes
from merging.algebra.signs import sum_models
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Flag, Number, PerModel, PerModelShare


@merge_method("breadcrumbs_rows", paper="arXiv:2312.06795", sees="task_vectors", reach="row")
def breadcrumbs_rows(
    task_vectors: Float[Tensor, "models rows columns"],
    *,
    weight: PerModel = 1.0,
    density: PerModelShare = 0.15,
    gamma: PerModelShare = 0.006,
    remove_first: Flag = True,
    lambda_: Number = 0.2,
) -> Float[Tensor, "rows columns"]:
    """Weighted sum of task vectors without the smallest and largest changes of each row.

    Of the n magnitudes of a row of tau_i in ascending order the int(gamma n) last are outliers. With `remove_first` the
    int(density n) before them are kept, else those of the int(density n) last that are no outliers.

    merged = base + lambda sum_i weight_i band_i

    Entries equal to either end of the band are kept; rows of one entry are kept whole. Rows run along the last axis: of
    a linear map they are its outputs, of a convolution the rows of its kernels. A short row keeps nothing where
    int(density n) is 0, so kernels of width 3 are lost at the default density, and loses no outlier where int(gamma n)
    is 0. That is the authors' program; their paper cuts whole tensors, as `breadcrumbs` does. Defaults are where the
    program begins its search. Equal models are a fixed point at density 1, gamma 0 and lambda times the weights 1.

    Use it to reproduce the authors' figures, or where rows differ much in size; else `breadcrumbs`.

    weight: coefficient of each task vector
    density: share of each row that is kept; the authors search 0.05 to 0.2
    gamma: share of each row's largest entries that is dropped; the authors search 0.001 to 0.01
    remove_first: keep the share from what is left without the outliers, not from the whole row
    lambda: scale of the merged task vector; the authors search 0.01 to 1

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("breadcrumbs_rows", torch.tensor([[9.0, 1, 2, 3]]), torch.zeros(4), density=0.5, gamma=0.3)
    tensor([0.0000, 0.0000, 0.4000, 0.6000])
    """
    shares = zip(density.flatten().tolist(), gamma.flatten().tolist(), strict=True)
    bands = [_band(x, *pair, remove_first) for x, pair in zip(task_vectors, shares, strict=True)]
    return sum_models(torch.stack(bands).mul_(weight)).mul_(lambda_)


def _band(x: Float[Tensor, "rows columns"], density: float, gamma: float, remove_first: bool) -> Tensor:
    columns = x.shape[1]
    count, outliers = int(columns * density), int(columns * gamma)
    first, last = max(0, columns - count - (outliers if remove_first else 0)), columns - outliers
    if columns <= 1 or (count == columns and outliers == 0):
        return x
    if count == 0 or first >= last:
        return torch.zeros_like(x)
    ordered, magnitude = sorted_magnitudes(x), x.abs()
    band = torch.ge(magnitude, ordered[:, first, None], out=torch.empty_like(x))
    band.mul_(torch.le(magnitude, ordered[:, last - 1, None], out=magnitude))
    return band.mul_(x)
