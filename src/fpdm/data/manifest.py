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
from fpdm.data.config import MANIFEST, CacheSettings, DataConfig

FORMAT = 1
_SHOWN = 4  # differences in a message


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


def shown(differences: Sequence[str]) -> str:
    """The first few differences in a line."""
    more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    return "; ".join(differences[:_SHOWN]) + more


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
