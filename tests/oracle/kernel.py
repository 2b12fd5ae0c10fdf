"""The kernel distance as its definition stands, pair by pair in float64."""

import numpy as np


def k(x: np.ndarray, y: np.ndarray) -> float:
    """The cubic kernel of two feature vectors."""
    return (float(x @ y) / len(x) + 1.0) ** 3


def kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared MMD of `x` (N, F) and `y` (M, F)."""
    within_x = [k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    within_y = [k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
    return float(np.mean(within_x) + np.mean(within_y) - 2 * np.mean([k(a, b) for a in x for b in y]))


def resampled_distance(x: np.ndarray, y: np.ndarray, chosen: np.ndarray) -> float:
    """Of the images `x[chosen]`; divided by the pairs of two different images that a resample has in the mean."""
    within_y = np.mean([k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    across = [np.mean([k(a, b) for b in y]) for a in x]
    n, total = len(x), 0.0
    for i in chosen:
        for j in chosen:
            if i != j:  # the same image twice is no pair
                total += k(x[i], x[j]) - across[i] - across[j] + within_y
    return total / (n - 1) ** 2
