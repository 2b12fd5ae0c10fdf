"""The manifest of a latent cache. Reading it imports neither PyTorch nor NumPy."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.configuration import differences, flatten, parse_json
from fpdm.data.config import LEAST_SHARE, MANIFEST, SPLIT_SHARES, CacheSettings, DataConfig
from fpdm.files import read_text
from fpdm.outputs import OutputFolder

FORMAT = 1
_SHOWN = 4  # differences in a message
PLAN = "plan.json"
CACHE = OutputFolder("prepare", PLAN, frozenset({"listing", "settings"}), frozenset({PLAN}))


@dataclass(frozen=True)
class Shard:
    """A file of latents.

    Attributes:
        file: Name of the file.
        images: Number of images.
        bytes: Size of the file.
        sha256: SHA-256 of the file.
    """

    file: str
    images: int
    bytes: int
    sha256: str


PLACES = {"data.source": "listing", "autoencoder.source": "autoencoder.sha256"}
"""Fields of a plan that say where something is, each with the field that has the hash of its content."""


@dataclass(frozen=True)
class CachePlan:
    """Everything that determines the content of a cache.

    Attributes:
        data: The images, as they would be loaded without an autoencoder.
        kind: `Source.kind` of the images: "named", "folder", "tar" or "hub".
        listing: `Source.listing`, the fingerprint of the images.
        image_shape: (C, H, W) of the images.
        shape: (c, h, w) of the latents.
        autoencoder: The autoencoder that encoded them.
        settings: How they are stored. `holdout` is None only if a folder was split as `load_images` splits it.
        versions: Versions of the libraries that latents depend on.
        format: Version of the file format.
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

    def differences(self, other: CachePlan) -> list[str]:
        """Return what differs in another plan, each as "field: this -> other"; places may differ."""
        return differences(self, other, {"data.conditional", "data.flip"}, PLACES)


@dataclass(frozen=True)
class Manifest(CachePlan):
    """The plan of a finished cache, and what it holds.

    Attributes:
        classes: Class names in the order of their labels; none if there are no classes.
        labels: The source's number of each class.
        numbered: Whether these numbers are the data's own; see `Source`.
        splits: The shards of train, validation and test, in order.
        mean: Mean of all values of the latents in the train split.
        std: Their standard deviation.
        skipped: Number of images that could not be used; skipped.txt lists them.
        sha256: SHA-256 of all fields but places and versions, and so of the whole cache wherever and by whatever it
            was made; of a cache of an earlier version, that of its `cache.json`.
    """

    classes: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    numbered: bool = False
    splits: Mapping[str, tuple[Shard, ...]] = dataclasses.field(default_factory=dict)
    mean: float = 0.0
    std: float = 1.0
    skipped: int = 0
    sha256: str = ""

    def to_json(self) -> str:
        """Return the content of `cache.json`."""
        return json.dumps({**dataclasses.asdict(self), "sha256": self._sha256()}, indent=1)

    def _sha256(self) -> str:
        values = flatten(dataclasses.asdict(self))
        free = {*PLACES, "sha256"}
        kept = {key: values[key] for key in values if key not in free and not key.startswith("versions.")}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()

    @property
    def images(self) -> int:
        """Number of images in all splits."""
        return sum(shard.images for shards in self.splits.values() for shard in shards)

    @property
    def bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.bytes for shards in self.splits.values() for shard in shards)

    @property
    def has_usual_splits(self) -> bool:
        """Whether the cache is split as `load_images` splits its images, so that these can judge its models."""
        if self.kind == "named":
            return True
        # Earlier versions left the images of tiny classes all in the train split; some images may have been unusable.
        least = {split: LEAST_SHARE**2 * SPLIT_SHARES[split] * self.images for split in ("validation", "test")}
        enough = [sum(shard.images for shard in self.splits.get(split, ())) >= n for split, n in least.items()]
        return self.kind == "folder" and self.settings.holdout is None and all(enough)


def read_manifest(folder: Path | str) -> Manifest:
    """Read the manifest of a finished cache.

    Raises:
        ValueError: There is none, it is damaged, or its format is newer.
    """
    path = Path(folder) / MANIFEST
    try:
        content = read_text(path)
    except FileNotFoundError:
        raise ValueError(f"there is no finished cache in {folder}; make or finish it with fpdm prepare") from None
    try:
        values = parse_json(content, "it")
        if values["format"] <= FORMAT:
            splits = {name: tuple(Shard(**shard) for shard in shards) for name, shards in values.pop("splits").items()}
            labels, classes = tuple(values.pop("labels")), tuple(values.pop("classes"))
            plan = cache_plan(values)
            rest = {key: value for key, value in values.items() if key not in _PLAN}
            if "sha256" not in rest:  # of an earlier version
                rest["sha256"] = hashlib.sha256(content.encode()).hexdigest()
                return Manifest(**vars(plan), labels=labels, classes=classes, splits=splits, **rest)
            found = Manifest(**vars(plan), labels=labels, classes=classes, splits=splits, **rest)
            if found.sha256 != found._sha256():
                raise ValueError(f"its sha256 is {found._sha256()[:12]}, not {found.sha256[:12]}")
            return found
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} cannot be used ({error}); run fpdm prepare again to rewrite it") from error
    raise ValueError(
        f"{path} has format {values['format']}, newer than {FORMAT}; use the fpdm that made it, or a newer one"
    )


def cache_plan(values: Mapping[str, Any]) -> CachePlan:
    """Build a plan from the values of `dataclasses.asdict`; unknown keys are ignored."""
    kinds: dict[str, Any] = {"data": DataConfig, "autoencoder": AutoencoderConfig, "settings": CacheSettings}
    made: dict[str, Any] = {key: value for key, value in values.items() if key in _PLAN}
    made |= {key: tuple(made[key]) for key in ("image_shape", "shape")}
    return CachePlan(**{**made, **{key: kind(**made[key]) for key, kind in kinds.items()}})


_PLAN = {field.name for field in dataclasses.fields(CachePlan)}


def check_expected(config: DataConfig, autoencoder: AutoencoderConfig) -> None:
    """Check that a cache holds the images, encoded by the autoencoder, that a recipe expects.

    Args:
        config: The recipe's data, which names the cache.
        autoencoder: The recipe's autoencoder; empty if the recipe accepts any.

    Raises:
        ValueError: It does not; the message shows the differences.
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
            f"the cache {config.source} is not what the recipe expects ({shown(changed)}); give another cache, or "
            "change the recipe"
        )
    if not autoencoder.sha256 and autoencoder.source not in ("", found.autoencoder.source):
        warnings.warn(
            f"the recipe expects latents of {autoencoder.source}; the cache {config.source} holds latents of "
            f"{found.autoencoder.source}",
            RuntimeWarning,
            stacklevel=2,
        )


def shown(differences: Sequence[str]) -> str:
    """Return the first few differences on one line."""
    more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    return "; ".join(differences[:_SHOWN]) + more
