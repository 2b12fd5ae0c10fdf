"""Precision and recall by nearest neighbours, with all distances at once."""

import numpy as np


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """From each row of `x` (N, F) to each of `y` (M, F): (N, M)."""
    return np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))


def covered(points: np.ndarray, images: np.ndarray, k: int) -> float:
    """The share of `points` (N, F) within a ball around one of `images` (M, F) out to its k-th nearest neighbour."""
    among = distances(images, images)  # (M, M)
    np.fill_diagonal(among, np.inf)
    radius = np.sort(among, axis=1)[:, k - 1]  # (M,)
    return float((distances(points, images) <= radius).any(axis=1).mean())
