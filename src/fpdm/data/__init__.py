"""Images to train on and to compare with, and the order in which a run sees them."""

from fpdm.data.cache import LatentSet, Manifest, open_cache, read_manifest
from fpdm.data.config import UNKNOWN, DataConfig
from fpdm.data.dataset import Dataset, load_dataset, load_images
from fpdm.data.examples import Examples
from fpdm.data.folder import (
    FolderFiles,
    FolderSummary,
    LoadedFolder,
    Skipped,
    Splits,
    load_folder,
    read_images,
    scan,
    split_folder,
    write_skipped,
)
from fpdm.data.images import ImageSet, to_float, to_uint8
from fpdm.data.order import indices
from fpdm.data.sources import DATASETS, SPLITS, cache_folder, load

__all__ = [
    "DATASETS",
    "SPLITS",
    "UNKNOWN",
    "DataConfig",
    "Dataset",
    "Examples",
    "FolderFiles",
    "FolderSummary",
    "ImageSet",
    "LatentSet",
    "LoadedFolder",
    "Manifest",
    "Skipped",
    "Splits",
    "cache_folder",
    "indices",
    "load",
    "load_dataset",
    "load_folder",
    "load_images",
    "open_cache",
    "read_images",
    "read_manifest",
    "scan",
    "split_folder",
    "to_float",
    "to_uint8",
    "write_skipped",
]
