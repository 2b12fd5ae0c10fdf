"""Features and images made up for tests."""

import numpy as np
import torch

from fpdm.data.images import ImageSet
from fpdm.evaluation.features import Features

RNG = np.random.default_rng


def features(values, extractor="toy"):
    return Features(torch.as_tensor(values, dtype=torch.float64), extractor)


def correlated(rng, n, dims, scale=1.0):
    """Features (n, dims) with a mean and a covariance of no special form."""
    return rng.normal(size=(n, dims)) @ rng.normal(size=(dims, dims)) * scale + rng.normal(size=dims)


def noise(n, shape, classes):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, *shape), generator=generator, dtype=torch.uint8)
    return ImageSet("noise", images, torch.arange(n) % max(classes, 1), classes)
