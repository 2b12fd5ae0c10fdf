"""What a cache says of itself."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import safetensors.numpy

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.data.manifest import cache_plan, check_expected, read_manifest, shown
from tests.data.caches import moved


def test_a_newer_cache_is_not_called_damaged(cache: Path, tmp_path: Path) -> None:
    newer = moved(cache, tmp_path / "newer")
    text = (newer / "cache.json").read_text()
    (newer / "cache.json").write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match=r"has format 2, newer than 1; use the fpdm that made it, or a newer one$"):
        read_manifest(newer)


def test_a_recipe_for_other_latents_is_refused_with_the_difference(cache: Path) -> None:
    found = read_manifest(cache)
    config = dataclasses.replace(found.data, source=str(cache))
    check_expected(config, found.autoencoder)
    with pytest.raises(ValueError, match="size: 16 -> 8; crop: adm -> lanczos"):
        check_expected(dataclasses.replace(config, size=16, crop="adm"), AutoencoderConfig())
    with pytest.raises(ValueError, match=f"autoencoder's sha256: {'0' * 12} -> {found.autoencoder.sha256[:12]}"):
        check_expected(config, AutoencoderConfig("elsewhere", "0" * 64))
    with pytest.warns(RuntimeWarning, match="expects latents of elsewhere"):
        check_expected(config, AutoencoderConfig("elsewhere"))


def test_a_manifest_comes_back_as_it_was_written(cache: Path, tmp_path: Path) -> None:
    found = read_manifest(cache)
    assert json.loads(found.to_json())["sha256"] == found.sha256
    (tmp_path / "cache.json").write_text(found.to_json())
    assert read_manifest(tmp_path) == found
    files = {shard.file: cache / shard.file for shards in found.splits.values() for shard in shards}
    assert found.bytes == sum(path.stat().st_size for path in files.values())
    assert found.images == sum(len(safetensors.numpy.load_file(path)["labels"]) for path in files.values())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no finished cache in"),
        ("", "cannot be used"),
        ("[]", "cannot be used"),
        ("{}", "cannot be used"),
        ('{"format": 1, "splits": {}, "labels": [], "classes": []}', "cannot be used"),
        ('{"format": 1, "splits": {"train": [{"file": "a"}]}}', "cannot be used"),
    ],
)
def test_a_manifest_that_is_missing_or_damaged_is_refused_in_a_line(
    tmp_path: Path, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "cache.json").write_text(content)
    with pytest.raises(ValueError, match=says) as error:
        read_manifest(tmp_path)
    assert "fpdm prepare" in str(error.value)
    assert "\n" not in str(error.value)


def test_plans_differ_in_what_determines_the_latents_but_not_in_paths(cache: Path) -> None:
    plan = cache_plan(json.loads((cache / "cache.json").read_text()))
    elsewhere = dataclasses.replace(
        plan,
        data=dataclasses.replace(plan.data, source="elsewhere", conditional=False, flip=True),
        autoencoder=dataclasses.replace(plan.autoencoder, source="elsewhere"),
    )
    assert plan.differences(elsewhere) == []
    other = dataclasses.replace(
        plan, listing="0", settings=dataclasses.replace(plan.settings, shard_size=7), versions={"torch": "1.0"}
    )
    versions = [f"versions.{name}: {value} -> " for name, value in plan.versions.items()]
    assert plan.differences(other) == [
        f"listing: {plan.listing[:12]} -> 0",
        "settings.shard_size: 5 -> 7",
        *(text + ("1.0" if "torch" in text else "None") for text in versions),
    ]


def test_the_hash_knows_everything_but_places_and_versions(cache: Path, tmp_path: Path) -> None:
    text = (cache / "cache.json").read_text()
    found = read_manifest(cache)

    def hash_of(**changes: object) -> str:
        return json.loads(dataclasses.replace(found, **changes).to_json())["sha256"]  # type: ignore[arg-type]

    elsewhere = {
        "data": dataclasses.replace(found.data, source="elsewhere"),
        "autoencoder": dataclasses.replace(found.autoencoder, source="elsewhere"),
        "versions": {"torch": "1.0"},
    }
    assert hash_of(**elsewhere) == hash_of() == found.sha256
    others = {"classes": ("ant", "bef"), "labels": (1, 0), "listing": "0", "mean": 0.25, "splits": {}, "skipped": 7}
    assert len({found.sha256, *(hash_of(**{name: value}) for name, value in others.items())}) == 1 + len(others)
    for old, new in (('"bee"', '"bef"'), ('"skipped": 1', '"skipped": 2')):
        assert text.count(old) == 1
        (tmp_path / "cache.json").write_text(text.replace(old, new))
        with pytest.raises(ValueError, match=r"cannot be used \(its sha256 is \w{12}, not \w{12}\)"):
            read_manifest(tmp_path)
    values = json.loads(text)
    del values["sha256"]
    (tmp_path / "cache.json").write_text(json.dumps(values))
    before = hashlib.sha256((tmp_path / "cache.json").read_bytes()).hexdigest()
    assert read_manifest(tmp_path) == dataclasses.replace(found, sha256=before)


@pytest.mark.parametrize(
    ("kind", "holdout", "usual"),
    [("named", 0, True), ("named", 5, True), ("folder", None, True), ("folder", 0, False), ("tar", None, False)],
)
def test_a_cache_split_as_its_images_are_can_be_judged_by_them(
    cache: Path, kind: str, holdout: int | None, usual: bool
) -> None:
    found = read_manifest(cache)
    settings, shards = dataclasses.replace(found.settings, holdout=holdout), found.splits["train"]
    found = dataclasses.replace(found, kind=kind, settings=settings)
    every = dict.fromkeys(("train", "validation", "test"), shards)
    assert dataclasses.replace(found, splits=every).has_usual_splits == usual
    # As earlier versions left the images of classes with one image each all in the first.
    assert dataclasses.replace(found, splits={**every, "test": ()}).has_usual_splits == (usual and kind == "named")


def test_the_first_differences_are_shown() -> None:
    assert shown([]) == ""
    assert shown(list("abcd")) == "a; b; c; d"
    assert shown(list("abcdef")) == "a; b; c; d and 2 more"
