"""The Fréchet distance of two sets of features, as its formula stands: a general matrix square root in float64."""

import numpy as np
import scipy.linalg


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Squared distance of the Gaussians fitted to `a` (N, F) and `b` (M, F); covariances must be regular."""
    S_a, S_b = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))  # (F, F)
    root = scipy.linalg.sqrtm(S_a @ S_b)  # (F, F), of a product that is not symmetric
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(S_a + S_b - 2 * root).real)
