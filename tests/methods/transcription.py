"""mergekit's generalised task arithmetic, as its documentation describes it, in float64 and in plain loops."""

from __future__ import annotations

import numpy as np


def largest(d, density):
    """The max(1, int(density n)) largest magnitudes, all or none at the ends; magnitudes are distinct here."""
    if density >= 1:
        return d.copy()
    kept = np.zeros_like(d)
    if density > 0:
        for i in np.argsort(-np.abs(d))[: max(1, int(density * d.size))]:
            kept[i] = d[i]
    return kept


def band(d, density, gamma):
    """Ascending ranks [below, below + int(density n)), with int(gamma n) outliers above where there is room."""
    count = int(density * d.size)
    below = max(0, d.size - count - int(gamma * d.size))
    kept = np.zeros_like(d)
    for i in np.argsort(np.abs(d))[below : below + count]:
        kept[i] = d[i]
    return kept


def merged(task_vectors, trim, weights, *, consensus, normalize, rescale=False, scale=1.0):
    """Trim, rescale to the L1 norm, weight, elect and sum or average, scale."""
    kept = []
    for d, weight, cut in zip(task_vectors, weights, trim, strict=True):
        part = cut(d)
        if rescale and np.abs(part).sum() > 0:
            part = part * np.abs(d).sum() / np.abs(part).sum()
        kept.append(part * weight)
    result = np.zeros_like(kept[0])
    for i in range(result.size):
        entries = [part[i] for part in kept]
        majority = 1 if sum(entries) >= 0 else -1
        agree = [not consensus or np.sign(entry) == majority for entry in entries]
        total = sum(entry for entry, yes in zip(entries, agree, strict=True) if yes)
        divisor = sum(weight for weight, yes in zip(weights, agree, strict=True) if yes)
        none = divisor == 0 if consensus else abs(divisor) < 1e-8
        result[i] = scale * total / (1 if none or not normalize else divisor)
    return result


def task_vectors(seed, models=3, n=97):
    """Random float32 changes of ordinary size, with distinct magnitudes."""
    generator = np.random.default_rng(seed)
    return (generator.standard_normal((models, n)) * 10 ** generator.uniform(-6, 0, (models, 1))).astype(np.float32)
