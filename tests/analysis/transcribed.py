"""Every quantity of a diagnosis in float64 and plain loops over models; for the tests of the fast ones."""

from __future__ import annotations

from itertools import combinations

import numpy as np

Key = tuple[str, int | None, int | None]


def quantities(base: np.ndarray, models: list[np.ndarray]) -> dict[Key, float]:
    """By quantity and positions of models; what is not defined is absent. Kept norms and thresholds are exact."""
    taus = [model.astype(np.float64) - base.astype(np.float64) for model in models]
    bare = base.astype(np.float64)
    found: dict[Key, float] = {("base_norm", None, None): np.sqrt((bare**2).sum())}
    for i, tau in enumerate(taus):
        found |= {(name, i, None): value for name, value in _single(bare, tau).items()}
    for i, j in combinations(range(len(taus)), 2):
        found |= {(name, i, j): value for name, value in _pair(taus[i], taus[j]).items()}
    return found | {(name, None, None): value for name, value in _together(taus).items()}


def _single(base: np.ndarray, tau: np.ndarray) -> dict[str, float]:
    norm, rms = np.sqrt((tau**2).sum()), np.sqrt((tau**2).mean())
    ordered = np.sort(np.abs(tau))[::-1]
    found = {
        "norm": norm,
        "relative_norm": norm / np.sqrt((base**2).sum()),
        "changed": sum(entry != 0 for entry in tau) / len(tau),
        "largest": max(abs(entry) for entry in tau),
    }
    if norm > 0:
        found["base_cosine"] = (base * tau).sum() / np.sqrt((base**2).sum()) / norm
        found["kurtosis"] = (tau**4).mean() / (tau**2).mean() ** 2
        found["outliers"] = sum(abs(entry) > 6 * rms for entry in tau) / len(tau)
    for density in (5, 10, 20, 50):
        count = round(len(tau) * density / 100)
        found[f"threshold_{density}"] = ordered[count - 1]
        if norm > 0:
            found[f"kept_norm_{density}"] = np.sqrt((ordered[:count] ** 2).sum()) / norm
    return found


def _pair(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    both = sum(a != 0 and b != 0 for a, b in zip(one, other, strict=True))
    against = sum(a * b < 0 for a, b in zip(one, other, strict=True))
    lengths = np.sqrt((one**2).sum() * (other**2).sum())
    found = {
        "inner_product": (one * other).sum(),
        "distance": np.sqrt(((one - other) ** 2).sum()),
        "sign_conflict": against,
    }
    if lengths > 0:
        found["cosine"] = (one * other).sum() / lengths
    if both:
        found["sign_agreement"] = (both - 2 * against) / both
        found["sign_conflict_share"] = against / both
    return found


def _together(taus: list[np.ndarray]) -> dict[str, float]:
    entries = list(zip(*taus, strict=True))
    several = sum(sum(value != 0 for value in entry) >= 2 for entry in entries)
    disputed = sum(min(entry) < 0 < max(entry) for entry in entries)
    whole = np.sqrt((sum(taus) ** 2).sum())
    apart = np.sqrt(sum((tau**2).sum() for tau in taus))
    mass = sum(np.abs(tau).sum() for tau in taus)
    found = {"sign_conflict": disputed, "sum_norm": whole, "average_norm": whole / len(taus)}
    if several:
        found["sign_conflict_share"] = disputed / several
    if mass > 0:
        found["mass_conflict"] = 1 - sum(abs(sum(entry)) for entry in entries) / mass
        found["interference"] = whole / apart
    return found
