"""FR-Merging: sum the task vectors without the low frequencies of their matrices. Experimental."""

from __future__ import annotations

from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.iso_c import weighted_total
from merging.methods.parameters import Flag, Number, PerModel, Share
from merging.methods.svc import weighted_sum


@merge_method("fr_merging", paper="arXiv:2411.16815", sees="task_vectors", reach="matrix", elsewhere=weighted_sum)
def fr_merging(
    task_vectors: Float[Tensor, "models rows columns"],
    *,
    weight: PerModel = 1.0,
    radius_share: Share = 0.9,
    equalize: Flag = False,
    lambda_: Number = 1.0,
) -> Float[Tensor, "rows columns"]:
    """Weighted sum of the task vectors after a high-pass filter over rows and columns of each matrix.

    F_i    = tau_i without the bins (y, x) of its two-dimensional Fourier transform that are farther than
             radius_share min(rows, columns) from (rows // 2, columns // 2), bin (0, 0) being the mean
    merged = base + lambda sum_i weight_i F_i

    The centre is the highest frequency, so what goes are the lowest. Radii from 0.71 on touch no square matrix; a long
    one loses a large part of the frequencies along its longer side. The real part is taken, as in the official code,
    which counts bins at min(rows, columns) // 10 from the centre twice; here they count once. Other tensors are summed
    as well; the official code does so or leaves them at the base model, depending on the model. Equal models are
    not a fixed point where something is filtered.

    Use it for experiments only: the order of neurons means nothing, so why a filter over it should help is not
    understood, and for square matrices the default is task_arithmetic. The experts that the paper's FREE-Merging adds
    at inference are no part of a merged model.

    weight: coefficient of each task vector
    radius_share: radius of the frequencies that are kept, as a share of the shorter side
    equalize: scale each F_i to the largest mean magnitude among them, as the official code for vision can
    lambda: scale of the merged task vector

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("fr_merging", torch.tensor([[[2.0, 0, 2, 0, 2, 0]] * 2]), torch.zeros(2, 6))[0]
    tensor([ 1., -1.,  1., -1.,  1., -1.])
    """
    if equalize:
        kept = torch.stack([_high_pass(each.double(), radius_share) for each in task_vectors])
        sizes = kept.abs().mean((1, 2))
        scales = torch.where(sizes > 0, sizes.amax() / sizes, 1.0)
        merged = weighted_total(kept, weight * scales[:, None, None])
    else:
        merged = _high_pass(weighted_total(task_vectors, weight), radius_share)
    return merged.mul_(lambda_).float()


def _high_pass(x: Float[Tensor, "rows columns"], share: float) -> Float[Tensor, "rows columns"]:
    rows, columns = x.shape
    down, along = (torch.arange(n, dtype=torch.float64, device=x.device) - n // 2 for n in (rows, columns))
    kept = down.square()[:, None] + along.square() <= (share * min(rows, columns)) ** 2
    if bool(kept.all()):
        return x
    # The real part of the result is that of a mask averaged with its own mirror image, bin (y, x) with (-y, -x).
    mask = (kept.double() + kept.flip(0, 1).roll((1, 1), (0, 1))) / 2
    bins = torch.fft.rfft2(x).mul_(mask[:, : columns // 2 + 1])
    filtered: Tensor = torch.fft.irfft2(bins, s=(rows, columns))
    return filtered
