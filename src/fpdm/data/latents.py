"""Read latents from an on-disk cache.

A cache is a folder of shards. Each is a safetensors file of `moments` (n, V, 2, c, h, w), the mean and the standard
deviation of each image's latents (V is 2 if those of its mirror image are stored too), and of `labels` (n,), as the
source numbers them. `cache.json`, the manifest, says what was encoded and how, and holds the SHA-256 of every shard.
Shards are memory-mapped: only the system's page cache holds them, and all processes of a machine share it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.data.dataset import Examples, mirrored
from fpdm.data.manifest import Manifest, Shard, read_manifest
from fpdm.data.splits import SPLITS
from fpdm.files import sha256_of


@dataclass(frozen=True, eq=False)
class LatentSet(Examples):
    """A set of labelled latents of one size, on disk.

    Attributes:
        name: The data set's name.
        labels: (N,) int64.
        num_classes: As in `Examples`.
        shards: The moments of each shard, (n, V, 2, c, h, w), memory-mapped.
        manifest: The manifest of the cache.
    """

    name: str
    labels: Tensor
    num_classes: int
    shards: tuple[np.ndarray, ...]
    manifest: Manifest

    def __post_init__(self) -> None:
        ends = np.cumsum([len(shard) for shard in self.shards], dtype=np.int64)  # (S,)
        object.__setattr__(self, "_ends", ends)  # frozen, and a function of the fields

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.manifest.shape

    @property
    def autoencoder(self) -> AutoencoderConfig:
        return self.manifest.autoencoder

    def batch(
        self, indices: Sequence[int], draws: Sequence[np.random.Generator] | None = None, *, flip: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return B latents (B, c, h, w), sampled if there are `draws` and else the means, and labels (B,).

        Raises:
            ValueError: The cache has no mirrored images, or a latent is not finite.
        """
        if flip and not self.manifest.settings.flip:
            raise ValueError(
                f"the cache of {self.name!r} has no latents of mirrored images; leave out --flip, or prepare a cache "
                "with --flip"
            )
        chosen = np.asarray(indices, np.int64)  # (B,)
        turned = mirrored(draws, len(chosen), flip=flip).astype(int)  # (B,)
        x0 = np.empty((len(chosen), *self.shape), np.float32)  # (B, c, h, w)
        noise = np.empty(self.shape, np.float32)  # (c, h, w)
        which = np.searchsorted(self._ends, chosen, side="right")  # type: ignore[attr-defined]  # (B,)
        for i, (place, shard) in enumerate(zip(chosen, which, strict=True)):
            mean, std = self.shards[shard][place - self._ends[shard], turned[i]]  # type: ignore[attr-defined]  # (c, h, w)
            x0[i] = mean
            if draws is not None:
                x0[i] += std * draws[i].standard_normal(out=noise, dtype=np.float32)
        if not np.isfinite(x0).all():
            bad = int(chosen[~np.isfinite(x0).reshape(len(x0), -1).all(1)][0])
            raise ValueError(f"latent {bad} of {self.name!r} is not finite; prepare the cache again, in another folder")
        return torch.from_numpy(x0), self.labels[torch.from_numpy(chosen)]

    def digest(self, into: hashlib._Hash) -> None:
        into.update(f"{self.manifest.sha256} {self.num_classes} {len(self)}".encode())


def open_cache(folder: Path | str, *, verify: bool = True) -> tuple[Manifest, dict[str, LatentSet]]:
    """Open a cache: return its manifest, and the latents of train, validation and test, which may be empty.

    Args:
        folder: The cache.
        verify: Compare the SHA-256 of every shard. The processes of one machine share the work.

    Raises:
        ValueError: There is no finished cache, or a shard is missing, truncated, damaged or of another shape.
    """
    folder, manifest = Path(folder), read_manifest(folder)
    shards = [shard for split in SPLITS for shard in manifest.splits.get(split, ())]
    for shard in shards:  # cheap, so first and by every process
        _check_length(folder, shard)
    if verify:
        from fpdm.processes import local_processes  # only a check of hashes is shared among processes

        rank, processes = local_processes()
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            own = shards[rank::processes]
            hashes = pool.map(lambda shard: sha256_of(folder / shard.file), own)
            for shard, found in zip(own, hashes, strict=True):
                if found != shard.sha256:
                    raise ValueError(
                        _damaged(folder / shard.file, f"its sha256 is {found[:12]}, not {shard.sha256[:12]}")
                    )
    return manifest, {split: _open_split(folder, manifest, split) for split in SPLITS}


def _open_split(folder: Path, manifest: Manifest, split: str) -> LatentSet:
    label_of = {raw: label for label, raw in enumerate(manifest.labels)}
    moments: list[np.ndarray] = []
    labels: list[int] = []
    variants = 1 + manifest.settings.flip
    for shard in manifest.splits.get(split, ()):
        path = folder / shard.file
        try:
            tensors = load_file(path)  # mapped, not read
            found = tensors["moments"].numpy()  # (n, V, 2, c, h, w)
            raw = tensors["labels"].tolist()
        except (OSError, KeyError, safetensors.SafetensorError) as error:
            raise ValueError(_damaged(path, str(error))) from error
        expected = (shard.images, variants, 2, *manifest.shape)
        if found.shape != expected or found.dtype != manifest.settings.dtype or len(raw) != shard.images:
            raise ValueError(
                _damaged(
                    path, f"{found.dtype} {found.shape}, {len(raw)} labels, not {manifest.settings.dtype} {expected}"
                )
            )
        unknown = {*raw} - label_of.keys() if manifest.labels else set()
        if unknown:
            raise ValueError(_damaged(path, f"the label {min(unknown)}, which is out of range"))
        moments.append(found)
        labels += [label_of[one] for one in raw] if manifest.labels else [0] * len(raw)
    name = Path(manifest.data.source).name
    return LatentSet(name, torch.tensor(labels, dtype=torch.int64), len(manifest.classes), tuple(moments), manifest)


def _check_length(folder: Path, shard: Shard) -> None:
    try:
        length = (folder / shard.file).stat().st_size
    except OSError as error:
        raise ValueError(_damaged(folder / shard.file, f"{error.strerror}")) from error
    if length != shard.bytes:
        raise ValueError(_damaged(folder / shard.file, f"{length} bytes, not {shard.bytes}"))


def _damaged(path: Path, how: str) -> str:
    return f"{path} is damaged: {how}; run the same fpdm prepare again to remake damaged shards"
