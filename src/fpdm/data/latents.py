"""Latents on disk: what a cache is made of, and its reading.

A cache is a folder of shards, each a safetensors file of `moments` (n, V, 2, c, h, w), the mean and the standard
deviation of each image's latents (V = 2 with those of its mirror image), and of `labels` (n,), as the source numbers
them. `cache.json` says what they were made of and how, and has every shard's SHA-256. Shards are memory-mapped: what
is in memory is the system's page cache, shared by all processes of a machine.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.data.config import MANIFEST, DataConfig
from fpdm.data.dataset import Examples, mirrored
from fpdm.data.splits import SPLITS
from fpdm.files import sha256_of

FORMAT = 1
_SHOWN = 4  # differences in a message


@dataclass(frozen=True)
class CacheSettings:
    """How latents are stored.

    Attributes:
        flip: Store the latents of the mirrored images too, twice the bytes; training mirrors by --flip only then.
        dtype: "float16" or "float32", twice the bytes. float16 rounds a latent by a 2048th of its size at most, a
            twentieth of the least noise that the schedule adds to it.
        shard_size: Images in a file. An interrupted preparation loses less than one shard for each process.
        holdout: Images of a folder, of tar shards or of a hub data set that are kept from training, to watch the
            validation loss on; always the same ones.

    Raises:
        ValueError: A field outside its range.
    """

    flip: bool = False
    dtype: str = "float16"
    shard_size: int = 4096
    holdout: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in ("float16", "float32"):
            raise ValueError(f"dtype is {self.dtype!r}; expected float16 or float32")
        for name, least in (("shard_size", 1), ("holdout", 0)):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {least} or more")


@dataclass(frozen=True)
class Shard:
    """A file of latents.

    Attributes:
        file: Its name.
        images: How many images it has.
        bytes: Its length.
        sha256: Of its bytes.
    """

    file: str
    images: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Plan:
    """What a cache is bound to: another plan makes another cache.

    Attributes:
        data: The images, as they would be loaded without an autoencoder.
        kind: What the source is: "named", "folder", "tar" or "hub".
        listing: SHA-256 of what is known of the source's images before they are decoded: for files names, sizes,
            labels, and the bytes at both ends.
        image_shape: (C, H, W) of the images.
        shape: (c, h, w) of the latents.
        autoencoder: What encoded them.
        settings: How they are stored.
        versions: Of the libraries that latents depend on.
        format: Of the files; raised when it changes.
    """

    data: DataConfig
    kind: str
    listing: str
    image_shape: tuple[int, int, int]
    shape: tuple[int, int, int]
    autoencoder: AutoencoderConfig
    settings: CacheSettings
    versions: Mapping[str, str]
    format: int = FORMAT

    def differences(self, other: Plan) -> list[str]:
        """What is not the same in the other, "field: this -> other" each; paths may be, and versions are `other`'s."""
        before, after = (_flat(dataclasses.asdict(plan)) for plan in (self, other))
        free = {"data.source", "data.conditional", "data.flip", "autoencoder.source"}
        keys = [key for key in {**before, **after} if key not in free and before.get(key) != after.get(key)]
        return [f"{key}: {before.get(key)} -> {after.get(key)}" for key in keys]


@dataclass(frozen=True)
class Manifest(Plan):
    """What a finished cache is: its plan, and what became of it.

    Attributes:
        classes: The classes' names in the order of their labels; none if there are no classes.
        labels: The source's number of each class.
        splits: The shards of train, validation and test, in order.
        mean: Of all values of the latents to train on.
        std: The same.
        skipped: Images that could not be used; skipped.txt names them.
        sha256: Of `cache.json`, and so of everything.
    """

    classes: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    splits: Mapping[str, tuple[Shard, ...]] = dataclasses.field(default_factory=dict)
    mean: float = 0.0
    std: float = 1.0
    skipped: int = 0
    sha256: str = ""

    def to_json(self) -> str:
        """All but the hash, which is that of this text."""
        values = dataclasses.asdict(self)
        del values["sha256"]
        return json.dumps(values, indent=1)

    @property
    def images(self) -> int:
        """In all splits."""
        return sum(shard.images for shards in self.splits.values() for shard in shards)

    @property
    def bytes(self) -> int:
        """Of all shards."""
        return sum(shard.bytes for shards in self.splits.values() for shard in shards)


def read_manifest(folder: Path | str) -> Manifest:
    """The manifest of a finished cache; no latent is read.

    Raises:
        ValueError: There is none, it is damaged, or of a newer format.
    """
    path = Path(folder) / MANIFEST
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"there is no finished cache in {folder}; make it, or finish it, with fpdm prepare") from None
    try:
        values = json.loads(content)
        if values["format"] <= FORMAT:
            splits = {name: tuple(Shard(**shard) for shard in shards) for name, shards in values.pop("splits").items()}
            labels, classes = tuple(values.pop("labels")), tuple(values.pop("classes"))
            plan = plan_of(values)
            rest = {key: value for key, value in values.items() if key not in _PLAN}
            return Manifest(
                **vars(plan),
                labels=labels,
                classes=classes,
                splits=splits,
                sha256=hashlib.sha256(content).hexdigest(),
                **rest,
            )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} cannot be used ({error}); fpdm prepare, called again, makes it anew") from error
    raise ValueError(
        f"{path} has format {values['format']}, newer than {FORMAT}; use the fpdm that made it, or a newer one"
    )


def plan_of(values: Mapping[str, Any]) -> Plan:
    """From the values of `dataclasses.asdict`, whatever else is among them."""
    kinds: dict[str, Any] = {"data": DataConfig, "autoencoder": AutoencoderConfig, "settings": CacheSettings}
    made: dict[str, Any] = {key: value for key, value in values.items() if key in _PLAN}
    made |= {key: tuple(made[key]) for key in ("image_shape", "shape")}
    return Plan(**{**made, **{key: kind(**made[key]) for key, kind in kinds.items()}})


_PLAN = {field.name for field in dataclasses.fields(Plan)}


@dataclass(frozen=True, eq=False)
class LatentSet(Examples):
    """Latents of one size with their labels, on disk.

    Attributes:
        name: The data set's name.
        labels: (N,) int64.
        num_classes: As of `Examples`.
        shards: Their moments, (n, V, 2, c, h, w) each, memory-mapped.
        manifest: Of the cache.
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
        """(c, h, w) of one latent."""
        return self.manifest.shape

    @property
    def autoencoder(self) -> AutoencoderConfig:
        """What made and can decode them."""
        return self.manifest.autoencoder

    def batch(
        self, indices: Sequence[int], draws: Sequence[np.random.Generator] | None = None, *, flip: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The latents (B, c, h, w), drawn from their distributions or means, and labels (B,) at these B places.

        Raises:
            ValueError: The cache has no mirrored images, or a latent is not finite.
        """
        if flip and not self.manifest.settings.flip:
            raise ValueError(
                f"the latents of {self.name!r} were stored without those of the mirrored images; leave --flip out, or "
                "prepare them with --flip"
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
            raise ValueError(f"latent {bad} of {self.name!r} is not finite; prepare the cache anew, in another folder")
        return torch.from_numpy(x0), self.labels[torch.from_numpy(chosen)]

    def digest(self, into: hashlib._Hash) -> None:
        """Add the manifest's hash and the classes."""
        into.update(f"{self.manifest.sha256} {self.num_classes} {len(self)}".encode())


def check_expected(config: DataConfig, autoencoder: AutoencoderConfig) -> None:
    """Check that the cache that a recipe names is of the images, and by the autoencoder, that the recipe says.

    Args:
        config: The recipe's images; a named data set's have a size of their own.
        autoencoder: The recipe's; empty where it is open to any.

    Raises:
        ValueError: It is not; the differences are shown.
    """
    found = read_manifest(config.source)
    pairs: dict[str, tuple[object, object]] = {}
    if found.kind != "named":
        pairs = {"size": (config.size, found.data.size), "crop": (config.crop, found.data.crop)}
    if autoencoder.sha256:
        pairs["autoencoder's sha256"] = autoencoder.sha256[:12], found.autoencoder.sha256[:12]
    if autoencoder.pad is not None:
        pairs["pad"] = autoencoder.pad, found.autoencoder.pad
    changed = [f"{key}: {wanted} -> {has}" for key, (wanted, has) in pairs.items() if wanted != has]
    if changed:
        raise ValueError(
            f"the cache {config.source} is not what the recipe expects ({shown(changed)}); give another, or change the "
            "recipe"
        )
    if not autoencoder.sha256 and autoencoder.source not in ("", found.autoencoder.source):
        warnings.warn(
            f"the recipe expects latents of {autoencoder.source}; the cache {config.source} has those of "
            f"{found.autoencoder.source}",
            RuntimeWarning,
            stacklevel=2,
        )


def open_cache(folder: Path | str, *, verify: bool = True) -> tuple[Manifest, dict[str, LatentSet]]:
    """The manifest and the latents of each of train, validation and test; the latter two may be empty.

    Args:
        folder: The cache.
        verify: Compare every shard's SHA-256. The processes of one machine (`LOCAL_RANK` of `LOCAL_WORLD_SIZE`) share
            the work: the run goes on if all of them do.

    Raises:
        ValueError: There is no finished cache, or a shard is missing, truncated, damaged or of another shape.
    """
    folder, manifest = Path(folder), read_manifest(folder)
    shards = [shard for split in SPLITS for shard in manifest.splits.get(split, ())]
    for shard in shards:  # cheap, so first and by every process
        _check_length(folder, shard)
    if verify:
        rank, processes = (
            int(os.environ.get(name, least)) for name, least in (("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1))
        )
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
    return f"{path} is damaged: {how}; fpdm prepare, called again as before, makes damaged shards anew"


def shown(differences: Sequence[str]) -> str:
    """The first few differences in a line."""
    more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    return "; ".join(differences[:_SHOWN]) + more


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
