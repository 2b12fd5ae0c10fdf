"""Images to train on and to compare with, and the order in which a run sees them."""

from fpdm.data.images import ImageSet, to_float, to_uint8
from fpdm.data.order import indices
from fpdm.data.sources import DATASETS, SPLITS, cache_folder, load

__all__ = ["DATASETS", "SPLITS", "ImageSet", "cache_folder", "indices", "load", "to_float", "to_uint8"]
