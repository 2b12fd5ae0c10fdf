"""`fpdm train`: every field of a recipe is an option, and a folder of images is trained on by one command."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fpdm import cli
from fpdm.data.config import DataConfig
from fpdm.diffusion.schedule import Schedule
from fpdm.files import sha256_of
from fpdm.models.config import TransformerConfig
from fpdm.runs.recipe import Recipe
from fpdm.runs.recipes import RECIPES, make_recipe
from fpdm.runs.run import load_run
from fpdm.runs.train_config import TrainConfig, WarmStart
from tests.autoencoders import tiny
from tests.commands.parsed import option_names

PARTS = {"data": DataConfig, "model": TransformerConfig, "train": TrainConfig, "schedule": Schedule, "start": WarmStart}
TAKEN_FROM_THE_IMAGES = {"image_size", "in_channels", "num_classes"}
FOUND_OUT = {*TAKEN_FROM_THE_IMAGES, "init_sha256"}
FIELDS = [
    pytest.param(part, field.name, id=f"{part}.{field.name}")
    for part, kind in PARTS.items()
    for field in dataclasses.fields(kind)
    if field.name not in FOUND_OUT
]
# So small that a step takes milliseconds; no pictures on the way.
TINY = (
    *("--size", "8", "--patch-size", "4", "--width", "16", "--heads", "2", "--batch-size", "4", "--steps", "2"),
    *("--no-grad-iters", "0", "--grad-iters", "1", "--sample-every", "0", "--validate-every", "0", "--tracker", "none"),
)


def fpdm(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., Recipe]:
    """The recipe that `fpdm train ... --print-recipe` prints."""

    def read(*words: object) -> Recipe:
        assert fpdm("train", *words, "--print-recipe") == 0, capsys.readouterr().err
        return Recipe.from_json(capsys.readouterr().out)

    return read


NAMES = option_names("train")


def names(part: str, field: str) -> tuple[str, ...]:
    """How the option of a recipe's field may be written."""
    return NAMES["data" if (part, field) == ("data", "source") else field]


# Values that another rule could refuse, and what they need beside them.
CHOSEN: dict[str, Any] = {
    "data.source": "fashion-mnist",
    "data.channels": 1,
    "model.patch_size": 1,
    "model.width": 128,
    "model.heads": 2,
    "model.repeats": 3,
    "model.middle_kind": "stack",
    "train.gradient": "jfb",
    "start.init_from": "/a/run",
    "start.init_block": "3",
    "train.no_grad_weights": (0.1, 0.2, 0.3, 0.4),
    "train.grad_weights": (0.5, 0.3, 0.2),
}
NEEDED = {
    "schedule.prediction": ["--no-zero-terminal-snr"],
    "model.repeats": ["--middle-kind", "stack"],
    "train.seconds": ["--steps", "9"],
    "train.macs": ["--steps", "9"],
    "train.sample_after": ["--seconds", "9"],
    "start.init_block": ["--init-from", "dit"],
}


def another(value: Any, hint: Any) -> Any:
    """Not this value, but one of its type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return value / 4 + 0.01
    if isinstance(value, int):
        return 2 * value + 1
    return next(one for one in typing.get_args(hint) if one != value)


@pytest.mark.parametrize(("part", "field"), FIELDS)
def test_every_field_of_the_recipe_is_an_option(printed: Callable[..., Recipe], part: str, field: str) -> None:
    name = f"{part}.{field}"
    base = ["digits", *NEEDED.get(name, [])]
    expected = dataclasses.asdict(printed(*base))
    new = CHOSEN[name] if name in CHOSEN else another(expected[part][field], typing.get_type_hints(PARTS[part])[field])
    assert new != expected[part][field]
    if isinstance(new, bool):
        words = [names(part, field)[not new]]
    else:
        words = [names(part, field)[0], *(new if isinstance(new, tuple) else [new])]
    expected[part][field] = new
    assert dataclasses.asdict(printed(*base, *words)) == expected  # this field, and no other


@pytest.mark.parametrize("words", [["digits"], ["digits", "--model", "dit"], ["fashion-mnist"], ["--data", "photos"]])
def test_help_shows_each_field_with_this_recipes_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "900")  # so that no line is wrapped
    if words[0] == "--data":
        found = make_recipe("folder", data=DataConfig(str(Path("photos").resolve())))
    else:
        found = make_recipe(words[0], words[-1] if "--model" in words else "fpdm")
    assert fpdm("train", *words, "--help") == 0
    shown = capsys.readouterr().out
    lines = [re.sub(r"^│ [* ]*", "", line).split() for line in shown.splitlines() if line.startswith("│")]
    paragraphs = {words[0]: " ".join(words) for words in lines if words and words[0].startswith("--")}
    for part, kind in PARTS.items():
        for field in dataclasses.fields(kind):
            if field.name in FOUND_OUT:
                assert f"--{field.name.replace('_', '-')}" not in paragraphs
                continue
            value = getattr(getattr(found, part), field.name)
            if isinstance(value, bool):
                value = "yes" if value else "no"
            elif isinstance(value, tuple):
                value = " ".join(map(str, value)) or "none"
            if value == "":
                continue  # what that means is for the help to say
            assert f"(default: {value})" in paragraphs[names(part, field.name)[0]]
    assert "taken from" in shown


@pytest.mark.parametrize("words", [["folder"], ["--stepz", "3", "digits"]])
def test_help_needs_neither_a_folder_nor_options_that_exist(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert fpdm("train", *words, "--help") == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Folder of images, with one subfolder per class" in text


def test_seconds_or_macs_take_the_place_of_steps(printed: Callable[..., Recipe]) -> None:
    assert printed("digits").train.steps == 4000
    assert printed("digits", "--seconds", "5").train.steps == 0
    assert printed("digits", "--macs", "35e12").train == dataclasses.replace(
        make_recipe("digits").train, steps=0, macs=35e12
    )
    assert printed("digits", "--macs", "1e9", "--steps", "4000").train.steps == 4000


def test_model_and_data_choose_the_recipe(printed: Callable[..., Recipe]) -> None:
    assert printed("digits", "--model", "dit-4") == make_recipe("digits", "dit-4")
    assert printed("--data", "fashion-mnist") == make_recipe("fashion-mnist")
    assert printed("--data", "photos", "--size", "64") == make_recipe(
        "folder", data=DataConfig(str(Path("photos").resolve()), size=64)
    )


def test_printed_recipe_is_a_recipe(printed: Callable[..., Recipe], tmp_path: Path) -> None:
    first = printed("digits", "--model", "fpdm-elastic", "--flip", "--beta-end", "0.03")
    path = tmp_path / "mine.json"
    path.write_text(first.to_json())
    assert printed(path) == first
    assert printed(path, "--name", "other", "--width", "32") == dataclasses.replace(
        first, name="other", model=dataclasses.replace(first.model, width=32)
    )


def test_recipe_written_by_hand(printed: Callable[..., Recipe], tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"name": "mine", "data": "digits", "model": {"width": 64, "heads": 4}, "train": {"steps": 5}}')
    found = printed(path)
    assert (found.name, found.data, found.model.width) == ("mine", DataConfig("digits"), 64)
    assert found.train == TrainConfig(steps=5)
    assert printed(path, "--data", "photos").data.source == str(Path("photos").resolve())
    path.write_text('{"name": "mine", "data": {"source": "photos", "size": 8}, "model": {}, "train": {}}')
    assert printed(path).data == DataConfig(str(Path("photos").resolve()), size=8)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.yaml", b"name: !!python/object/apply:os.system [ls]\n", "a.yaml is not JSON"),
        ("a.pkl", b"\x80\x04\x95\x00\x00", "a.pkl is no text in UTF-8"),
        ("a.json", b"", "a.json is not JSON"),
        ("a.json", b"[" * 100_000, "a.json is not JSON of ours: it is nested more than"),
        ("a.json", b"[]", "expected an object"),
        ("a.json", b'{"name": "x", "data": "digits", "model": {}, "train": {"stepz": 3}}', "did you mean 'steps'?"),
        ("a.json", b'{"name": "x", "data": "digits", "model": {}, "train": {"seconds": NaN}}', "seconds is nan"),
        ("a.json", b'{"name": "x", "data": "digits", "model": {}, "train": {"steps": "many"}}', "steps is 'many'"),
    ],
)
def test_files_that_are_no_recipe(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert fpdm("train", tmp_path / name, "--out", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


FLOATS = [
    NAMES[field][0]
    for kind in PARTS.values()
    for field, hint in typing.get_type_hints(kind).items()
    if hint in (float, tuple[float, ...])
]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("name", FLOATS)
def test_no_number_of_a_recipe_may_be_infinite_or_none(
    capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    values = [value] * {"--grad-weights": 3, "--no-grad-weights": 4}.get(name, 1)
    assert fpdm("train", "digits", "--print-recipe", name, *values) == 2
    error = capsys.readouterr().err
    assert value in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "RECIPE is missing"),
        (["folder", "--out", "X"], "--data is missing"),
        (["digits"], "--out is missing"),
        (["", "--out", "Y"], "there is no recipe ''"),
        (["--data", "", "--out", "Y"], "source is ''"),
        (["X", "--out", "X/run"], "give it as --data"),
        (["X/none.json", "--out", "X/run"], "No such file"),
        (["--data", "X/none", "--out", "X/run"], "none cannot be read"),
        (["--data", "X", "--out", "X"], "lies in the image folder"),
        (["--data", "X", "--out", "X/run"], "lies in the image folder"),
        (["--data", "X", "--out", "Y", "--data-root", "X"], "data-root is"),
        (["--data", "X", "--out", "Y", "--workers", "0"], "workers is 0"),
        (["digits", "--out", "Y", "--patch-size", "3"], "image_size 8 is not divisible by patch_size 3"),
        (["digits", "--out", "Y", "--heads", "5"], "not divisible by both heads (5)"),
        (["digits", "--out", "Y", "--seed", "-1"], "seed is -1"),
        (["digits", "--out", "Y", "--seed", str(2**80)], f"seed is {2**80}"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], says: str) -> None:
    where = {"X": tmp_path / "x", "Y": tmp_path / "y"}
    where["X"].mkdir()
    words = [f"{where[word[:1]]}{word[1:]}" if word[:1] in where else word for word in words]
    assert fpdm("train", *words) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out
    assert not [*tmp_path.rglob("*.json")]
    assert not where["Y"].exists()


def test_a_file_has_its_own_model(
    capsys: pytest.CaptureFixture[str], printed: Callable[..., Recipe], tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(printed("digits").to_json())
    assert fpdm("train", tmp_path / "a.json", "--model", "dit", "--out", tmp_path / "run") == 2
    assert "--model dit is for a recipe with a name" in capsys.readouterr().err


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of six images each, and two files that are no images."""
    rng = np.random.default_rng(0)
    for name in ("cat", "red dog"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)  # (H, W, 3)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    (tmp_path / "photos" / "cat" / "broken.png").write_bytes(b"no image")
    (tmp_path / "photos" / "red dog" / "empty.jpg").touch()
    return tmp_path / "photos"


def test_a_folder_with_classes_by_one_command(capsys: pytest.CaptureFixture[str], photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ("train", "--data", photos, "--out", out, *TINY, "--validate-every", 1)
    assert fpdm(*command) == 0
    captured = capsys.readouterr()
    assert (out / "validation.jsonl").read_text().count("\n") == 2
    assert f"fpdm train --data {photos} --out {out}" in (out / "README.md").read_text()
    assert captured.out.startswith("trained fpdm-photos: 2 steps in ")
    assert f" s; the run is in {out}\n" in captured.out
    assert "learned   2 steps, which saw 8 images" in captured.out
    assert "classes   2: cat (6), red dog (6)" in captured.err
    assert "cat/broken.png: not an image" in captured.err
    assert "8 images to train on, 1 to validate, 3 to test" in captured.err
    assert (out / "skipped.txt").read_text().splitlines() == [
        "cat/broken.png\tnot an image in a format that can be read",
        "red dog/empty.jpg\tempty (0 bytes)",
    ]
    record = json.loads((out / "data.json").read_text())
    assert record.pop("sha256")
    assert record.pop("numbers") == []
    assert record.pop("checksum")
    assert record.pop("fpdm")
    assert record == {
        "source": str(photos), "train": 8, "validation": 1, "test": 3, "classes": ["cat", "red dog"],
    }  # fmt: skip
    model = load_run(out).recipe.model
    assert (model.image_size, model.in_channels, model.num_classes) == (8, 3, 2)
    with Image.open(out / "data.png") as sheet:
        assert sheet.size == (8 * 68 - 4, 64)  # one row of eight

    # The same command, and the run's own recipe, go on with it.
    assert fpdm(*command) == 0
    assert "nothing left to do" in capsys.readouterr().out
    assert fpdm("train", out / "recipe.json", "--steps", 3, "--out", out, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["progress"]["step"], result["resumed_at"], result["out"]) == (3, 2, str(out))

    # Classes by name.
    images = ("--out", tmp_path / "images", "--budget", 3, "--iterations", 1, "--num-images", 1)
    assert fpdm("sample", out, *images, "--class", "red dgo") == 2
    assert "expected one of cat, red dog; did you mean red dog?" in capsys.readouterr().err
    assert fpdm("sample", out, *images, "--class", "red dog", "--json") == 0
    assert json.loads(capsys.readouterr().out)["drawn"] == 1
    assert json.loads((tmp_path / "images" / "sampling.json").read_text())["class"] == 1


def test_flat_and_without_classes(capsys: pytest.CaptureFixture[str], photos: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in photos.rglob("[0-9].png"):
        shutil.copy(path, flat / f"{path.parent.name}-{path.name}")
    assert fpdm("train", "folder", "--data", flat, "--out", tmp_path / "a", *TINY, "--channels", 1) == 0
    assert fpdm("train", "--data", photos, "--no-conditional", "--out", tmp_path / "b", *TINY) == 0
    for name, channels in (("a", 1), ("b", 3)):
        model = load_run(tmp_path / name).recipe.model
        assert (model.in_channels, model.num_classes) == (channels, 0)
        assert json.loads((tmp_path / name / "data.json").read_text())["classes"] == []
    assert not (tmp_path / "a" / "skipped.txt").exists()
    capsys.readouterr()
    assert fpdm("sample", tmp_path / "a", "--out", tmp_path / "c", "--class", "cat") == 2
    assert "trained without classes" in capsys.readouterr().err


def test_changed_images_are_refused(capsys: pytest.CaptureFixture[str], photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ("train", "--data", photos, "--out", out, *TINY)
    assert fpdm(*command) == 0
    kept = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (photos / "cat" / "3.png").rename(tmp_path / "3.png")
    capsys.readouterr()
    assert fpdm(*command, "--steps", 3) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "the images of" in error
    assert "have changed since: train + validation + test were 8 + 1 + 3, are 7 + 2 + 2;" in error
    assert "choose another folder" in error
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == kept
    (tmp_path / "3.png").rename(photos / "cat" / "3.png")
    assert fpdm(*command, "--steps", 3) == 0


@pytest.mark.parametrize("how", ["moved", "renamed", "copied", "linked", "recipe", "earlier"])
def test_the_same_images_in_another_place(
    capsys: pytest.CaptureFixture[str], photos: Path, tmp_path: Path, how: str
) -> None:
    whole, out, job = tmp_path / "whole", tmp_path / "run", tmp_path / "job"
    assert fpdm("train", "--data", photos, "--out", whole, *TINY, "--steps", 4) == 0
    assert fpdm("train", "--data", photos, "--out", out, *TINY) == 0
    if how == "earlier":  # a run from before recipes had the hash of the images
        _forget_images(out)
    job.mkdir()
    there = job / ("photos" if how == "moved" else "other")
    if how == "copied":
        shutil.copytree(photos, there)
    else:
        photos.rename(there)
    if how == "linked":
        photos.symlink_to(there)
    capsys.readouterr()
    named = (out / "recipe.json",) if how == "recipe" else ()
    given = ("--data", photos if how == "linked" else there, *(() if named else TINY))
    assert fpdm("train", *named, *given, "--out", out, "--steps", 4) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fpdm: ")]
    assert len(said) == 1
    assert "the same content in another place: data.source: " in said[0]
    assert _weights(out) == _weights(whole)
    # The run knows where its images are now, and has its own name.
    read = Recipe.read(out / "recipe.json")
    assert (read.data.source, read.name) == (str(there), "fpdm-photos")
    assert json.loads((out / "data.json").read_text())["source"] == str(there)
    assert fpdm("train", out / "recipe.json", "--out", out, "--steps", 5) == 0
    assert not [line for line in capsys.readouterr().err.splitlines() if line.startswith("fpdm: ")]

    # As many images, but others.
    Image.new("RGB", (9, 12)).save(there / "cat" / "3.png")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert fpdm("train", "--data", there, "--out", out, *TINY, "--steps", 6) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"have changed since: sha256 \w{12} -> \w{12};", error)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_latents_their_autoencoder_and_the_run_itself_may_move(
    capsys: pytest.CaptureFixture[str], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said() -> list[str]:
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("fpdm: ")]

    tiny(tmp_path / "vae", channels=3, scaling_factor=1.0)
    tiny(tmp_path / "other-vae", channels=3, scaling_factor=2.0)
    monkeypatch.chdir(tmp_path)
    prepared = ("prepare", photos.name, "--size", 8, "--device", "cpu", "--holdout", 0)
    assert fpdm(*prepared, "--autoencoder", "vae", "--out", "cache") == 0
    sized = ("--patch-size", 2, *TINY[4:])
    assert fpdm("train", "--data", "cache", "--out", "whole", *sized, "--steps", 4) == 0
    assert fpdm("train", "--data", "cache", "--out", "run", *sized) == 0
    # Everything is elsewhere, and so is whoever resumes it by relative paths.
    (tmp_path / "job").mkdir()
    for name in (photos.name, "vae", "cache", "run"):
        (tmp_path / name).rename(tmp_path / "job" / f"new-{name}")
    (tmp_path / "job" / "here").mkdir()
    monkeypatch.chdir(tmp_path / "job" / "here")
    capsys.readouterr()
    resumed = ("train", "../new-run/recipe.json", "--out", "../new-run", "--steps", 4)
    assert fpdm(*resumed) == 2
    assert re.search(r"the latents of \S+ are not in \S+cache; say where they are with --data$", said()[-1])
    assert fpdm(*resumed, "--data", "../new-cache", "--autoencoder", tmp_path / "other-vae") == 2
    assert re.search(r"other-vae has sha256 \w{12}; expected \w{12}", said()[-1])
    assert fpdm(*resumed, "--data", "../new-cache", "--autoencoder", "../new-vae") == 0
    places = {line.split(": ")[3] for line in said() if "the same content in another place" in line}
    assert places == {"data.source", "autoencoder.source"}
    assert _weights(tmp_path / "job" / "new-run") == _weights(tmp_path / "whole")
    # The run knows where they are now: its samples need no hint, from any working directory.
    monkeypatch.chdir(tmp_path)
    sampled = ("--budget", 6, "--iterations", 1, "--num-images", 1)
    assert fpdm("sample", "job/new-run", "--out", "samples", *sampled) == 0
    assert fpdm("sample", "whole", "--out", "more", *sampled) == 2
    assert "if it has moved, say where it is with --autoencoder" in said()[-1]
    assert fpdm("sample", "whole", "--out", "more", *sampled, "--autoencoder", "job/new-vae") == 0
    assert (tmp_path / "more" / "000000.png").read_bytes() == (tmp_path / "samples" / "000000.png").read_bytes()
    # The cache is finished, and stays as it is.
    manifest = (tmp_path / "job" / "new-cache" / "cache.json").read_bytes()
    moved = ("prepare", f"job/new-{photos.name}", *prepared[2:])
    assert fpdm(*moved, "--autoencoder", "job/new-vae", "--out", "job/new-cache") == 0
    assert sum("the same content in another place" in line for line in said()) == 2
    assert (tmp_path / "job" / "new-cache" / "cache.json").read_bytes() == manifest


def _weights(out: Path) -> dict[str, bytes]:
    newest = out / "checkpoints" / "step-000000004"
    return {path.relative_to(newest).as_posix(): path.read_bytes() for path in newest.rglob("*.safetensors")}


def _forget_images(out: Path) -> None:
    for path in (out / "recipe.json", *out.glob("checkpoints/*/recipe.json")):
        values = json.loads(path.read_text())
        assert values.pop("images")
        path.write_text(json.dumps(values))
        manifest = path.with_name("manifest.json")
        if manifest.exists():
            listing = json.loads(manifest.read_text())
            listing["files"]["recipe.json"] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
            manifest.write_text(json.dumps(listing))


def test_other_images_in_another_place_are_refused_with_both(
    capsys: pytest.CaptureFixture[str], photos: Path, tmp_path: Path
) -> None:
    out, there = tmp_path / "run", tmp_path / "there"
    assert fpdm("train", "--data", photos, "--out", out, *TINY) == 0
    shutil.copytree(photos, there)
    (there / "cat" / "3.png").unlink()
    capsys.readouterr()
    assert fpdm("train", "--data", there, "--out", out, *TINY, "--steps", 3) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"there has other images than the run's \S+photos: train \+ .* were 8 \+ 1 \+ 3, are 7", error)
    # Without the data card it is the recipe, under the checkpoint's hash, that knows the images.
    (out / "data.json").unlink()
    assert fpdm("train", "--data", there, "--out", out, *TINY, "--steps", 3) == 2
    assert re.search(r"run of another recipe \(images: \w{12} -> \w{12}\)", capsys.readouterr().err.splitlines()[-1])


def test_images_that_are_not_where_a_recipe_has_them_are_asked_for(
    capsys: pytest.CaptureFixture[str], photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert fpdm("train", "--data", photos, "--out", out, *TINY) == 0
    photos.rename(tmp_path / "there")
    capsys.readouterr()
    assert fpdm("train", out / "recipe.json", "--out", out, "--steps", 3) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "are not in" in error
    assert "photos; say where they are with --data" in error
    assert fpdm("train", out / "recipe.json", "--out", out, "--steps", 3, "--data", tmp_path / "there") == 0


def test_a_name_may_change_and_is_kept_otherwise(photos: Path, tmp_path: Path) -> None:
    command = ("train", "--data", photos, "--out", tmp_path / "run", *TINY)
    for words, name in ((("--name", "mine"), "mine"), ((), "mine"), (("--name", "other"), "other")):
        assert fpdm(*command, *words) == 0
        assert Recipe.read(tmp_path / "run" / "recipe.json").name == name


def test_a_folder_with_another_run_is_left_alone(
    capsys: pytest.CaptureFixture[str], photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    tiny = (*TINY[4:], "--patch-size", 4)
    assert fpdm("train", "digits", "--out", out, *tiny) == 0
    kept = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {"data.json", "data.png"} <= {path.name for path in kept}
    capsys.readouterr()
    assert fpdm("train", "--data", photos, "--out", out, *TINY) == 2
    assert "holds a run of another recipe" in capsys.readouterr().err.splitlines()[-1]
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == kept


def test_strict_stops_at_the_first_broken_image(
    capsys: pytest.CaptureFixture[str], photos: Path, tmp_path: Path
) -> None:
    command = ("train", "--data", photos, "--out", tmp_path / "run", *TINY, "--strict")
    assert fpdm(*command) == 2
    captured = capsys.readouterr()
    assert "cat/broken.png: not an image" in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "run").exists()
    (photos / "cat" / "broken.png").unlink()
    (photos / "red dog" / "empty.jpg").unlink()
    assert fpdm(*command, "--workers", 1) == 0


@pytest.mark.slow
def test_of_two_processes_one_speaks(photos: Path, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "fpdm"]
    command = [*launcher, "train", "--data", str(photos), "--out", str(tmp_path / "run"), *TINY, "--json"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["progress"]["step"] == 2
    assert done.stderr.count("8 images to train on") == 1
    (photos / "cat" / "3.png").unlink()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode != 0
    assert {line[:15] for line in done.stderr.splitlines() if line.startswith("fpdm: ")} == {"fpdm: the image"}


def test_recipes_are_named_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert fpdm("train", "--help") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in RECIPES)
