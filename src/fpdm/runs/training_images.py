"""The images that a model was trained on, wherever they are now."""

from __future__ import annotations

from dataclasses import replace

from fpdm.data.config import UNKNOWN, DataConfig
from fpdm.data.manifest import read_manifest
from fpdm.runs.run import Run


def training_images(run: Run, given: str = "") -> DataConfig:
    """Return the images that a model, or its latents, came from, cropped and resized as they were for it.

    If neither the images nor the cache of their latents are known, they have the shape of those that the model makes.

    Args:
        run: The model.
        given: Path or name of the images, if they are not where they were, or not known.

    Raises:
        ValueError: The cache is damaged.
    """
    data = run.recipe.data
    if data.is_cache:
        images = replace(read_manifest(data.source).data, conditional=data.conditional)
    elif data.source == UNKNOWN or run.recipe.autoencoder.source:  # a cache that is gone
        channels, size, _ = run.image_shape
        images = replace(data, channels=channels, size=size)
    else:
        images = data
    return replace(images, source=given) if given else images
