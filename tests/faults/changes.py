"""Change a byte of a file at random, and see whether whoever reads it notices, or reads what was there before."""

from __future__ import annotations

import hashlib
import random
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fpdm.data.latents import open_cache
from fpdm.errors import FPDMError
from fpdm.fid.feature_shards import FeatureShards
from fpdm.fid.statistics import read_reference
from fpdm.runs import checkpoint
from fpdm.runs.layout import EMA, MODEL, OPTIMIZER, RECIPE
from fpdm.runs.recipe import Recipe
from fpdm.runs.run import load_run
from fpdm.runs.samples import _read, _whole, check_claim

Reader = Callable[[], object]
"""Reads everything below a folder that a result depends on, and returns it or its hash."""


class Change(NamedTuple):
    """A changed byte, and what came of it: "noticed", "without effect", or else a fault."""

    path: Path
    place: int
    outcome: str


def _hash(*values: object) -> str:
    digest = hashlib.sha256()
    for value in values:
        tensors = value if isinstance(value, dict) else {"": value}
        for name, one in sorted(tensors.items()):
            digest.update(name.encode())
            digest.update(one.numpy().tobytes() if hasattr(one, "numpy") else repr(one).encode())
    return digest.hexdigest()


def of_run(run: Path) -> str:
    """All that a sample or a resumed training takes from a run."""
    loaded = load_run(run)

    def load(found: checkpoint.Checkpoint) -> str:
        recipe = Recipe.read(found.file(RECIPE))
        state = {key: repr(value) for key, value in found.state.items()}
        return _hash(found.tensors(MODEL), found.tensors(OPTIMIZER), found.tensors(EMA), state, repr(recipe))

    return _hash(checkpoint.load_latest(run / "checkpoints", load), loaded.weights, repr(loaded.recipe))


def of_cache(cache: Path) -> str:
    """All that a training takes from a cache of latents."""
    manifest, splits = open_cache(cache)
    digest = hashlib.sha256()
    for name, split in sorted(splits.items()):
        digest.update(name.encode())
        split.digest(digest)
    return _hash(digest.hexdigest(), manifest.classes, manifest.labels, manifest.mean, manifest.std)


def of_reference(path: Path) -> str:
    """All that an evaluation takes from a reference."""
    found = read_reference(path)
    return _hash(found.mean, found.covariance, found.features, repr(found.origin), found.fingerprint)


def of_shards(shards: FeatureShards) -> object:
    """All that an evaluation takes from the features of images that are drawn already."""
    missing = shards.missing()
    if missing:
        raise ValueError(f"made again: {missing}")
    return _hash(*(part.values for part in shards.features()), repr(shards.notes()))


def of_samples(folder: Path, settings: dict[str, object], count: int) -> object:
    """All that a later call takes from samples that are drawn already."""
    check_claim(folder, settings)
    paths = [folder / f"{index:06d}.png" for index in range(count)]
    again = [path.name for path in paths if not _whole(path, (1, 8, 8))]
    if again:
        raise ValueError(f"made again: {again}")
    return _hash(*map(_read, paths))


def changed(path: Path, reader: Reader, expected: object, rng: random.Random) -> Change:
    """Change one byte of a file, read, and put it back."""
    content = path.read_bytes()
    place = rng.randrange(len(content))
    value = content[place] ^ rng.choice((1 << rng.randrange(8), rng.randrange(1, 256)))
    path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = "without effect" if reader() == expected else "unnoticed"
    except (ValueError, FPDMError, FileNotFoundError):
        outcome = "noticed"
    except Exception as error:
        outcome = f"fault: {type(error).__name__}"
    path.write_bytes(content)
    return Change(path, place, outcome)


def changes(files: list[Path], reader: Reader, count: int, seed: int) -> list[Change]:
    """Change bytes of files, each file as often as the others."""
    rng, expected = random.Random(seed), reader()
    return [changed(files[i % len(files)], reader, expected, rng) for i in range(count)]


def faults(found: list[Change]) -> list[Change]:
    """The changes that were neither noticed nor without effect."""
    return [one for one in found if one.outcome not in ("noticed", "without effect")]


def counts(found: list[Change]) -> dict[str, int]:
    """How many changes had which outcome."""
    return dict(Counter(one.outcome for one in found))
