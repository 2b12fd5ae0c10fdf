"""Images to train on and to compare with, and the order in which a run sees them."""

from fpdm.data.dataset import DataConfig, Dataset, load_dataset
from fpdm.data.folder import (
    FolderFiles,
    FolderSummary,
    LoadedFolder,
    Skipped,
    Splits,
    load_folder,
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
    "DataConfig",
    "Dataset",
    "FolderFiles",
    "FolderSummary",
    "ImageSet",
    "LoadedFolder",
    "Skipped",
    "Splits",
    "cache_folder",
    "indices",
    "load",
    "load_dataset",
    "load_folder",
    "scan",
    "split_folder",
    "to_float",
    "to_uint8",
    "write_skipped",
]
