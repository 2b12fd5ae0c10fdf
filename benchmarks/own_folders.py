"""The study behind the choices of `fpdm train --data FOLDER`: two folders of different kinds, a few ways to train.

    python -m benchmarks.own_folders make emoji FOLDER          # npm: emoji-datasource-google 15.1.2
    python -m benchmarks.own_folders make photographs FOLDER    # Debian 12: mate-backgrounds, lomiri-wallpapers-*
    python -m benchmarks.own_folders study FOLDER --work WORK --out study.json
    python -m benchmarks.own_folders judge FOLDER RUN ... --out runs.json  # of fpdm train --data FOLDER
    python -m benchmarks.own_folders gallery RUN --out gallery.png

A way to train is tried for so many seconds of one core: the clock of the training counts the CPU time of the process,
so that a busy machine changes nothing. The autoencoder's training counts too, its encoding of the images does not. Each
way is judged by 192 images of the averaged weights, all resized to 64 pixels, against the test images: kernel distance
(KID) in the features that a comparison uses, and the Fréchet distance in the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tarfile
import tempfile
import time
import types
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.autoencoder.vae import VAE
from fpdm.data.config import CacheSettings, DataConfig
from fpdm.data.loading import load_dataset, load_images
from fpdm.data.prepare import prepare
from fpdm.drawing.images import save_png, tile
from fpdm.evaluation.evaluator import Evaluator
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.recipe import Recipe
from fpdm.runs.recipes import make_recipe
from fpdm.runs.run import load_run
from fpdm.sampling.images import ImageSampler
from fpdm.sampling.plan import Plan
from fpdm.training import timer
from fpdm.training.autoencoder.config import AutoencoderRecipe, AutoencoderShape, AutoencoderTrainConfig
from fpdm.training.autoencoder.finalise import reconstructed, reconstruction_error, save_scaled
from fpdm.training.autoencoder.trainer import AutoencoderTrainer
from fpdm.training.trainer import Trainer

EMOJI = "emoji-datasource-google@15.1.2"
DEBIAN = ("mate-backgrounds", "lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04")
CROPS = 60  # of each photograph
NOT_PHOTOGRAPHS = ("desktop", "abstract")  # folders of mate-backgrounds
SIZE = 64  # at which images are judged
JUDGED = 192  # images


def make_emoji(out: Path) -> None:
    """Unpack the emoji of 64 pixels with alpha, without skin tones, in a folder for each category."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", EMOJI], cwd=folder, check=True, capture_output=True)
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as packed:
            members = {one.name: one for one in packed.getmembers()}

            def content(name: str) -> bytes:
                read = packed.extractfile(members[name])
                assert read is not None
                return read.read()

            for emoji in json.loads(content("package/emoji.json")):
                if emoji["has_img_google"]:
                    category = emoji["category"].lower().replace(" & ", "-and-").replace(" ", "-")
                    (out / category).mkdir(parents=True, exist_ok=True)
                    (out / category / emoji["image"]).write_bytes(content(f"package/img/google/64/{emoji['image']}"))


def make_photographs(out: Path) -> None:
    """Cut crops of mixed sizes from the photographs in Debian's packages of wallpapers."""
    out.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", *DEBIAN], cwd=folder, check=True, capture_output=True)
        for package in sorted(Path(folder).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", package, Path(folder) / "files"], check=True)
        for path in sorted((Path(folder) / "files").rglob("*.jpg")):
            if path.parent.name in NOT_PHOTOGRAPHS:
                continue
            with Image.open(path) as opened:
                photograph = opened.convert("RGB")
            photograph.thumbnail((1600, 1600))
            for place in range(CROPS):
                width = int(min(photograph.size) * rng.uniform(0.3, 0.9))
                height = int(width * rng.uniform(0.75, 1.0))
                left = int(rng.integers(photograph.width - width))
                top = int(rng.integers(photograph.height - height))
                crop = photograph.crop((left, top, left + width, top + height))
                crop.save(out / f"{path.stem}-{place:02d}.jpg", quality=90)


@dataclass(frozen=True)
class Way:
    """A way to train.

    Attributes:
        size: Pixels along a side.
        patch: Pixels or latents along a side of a patch.
        model: As in a recipe.
        batch_size: Images per step.
        learning_rate: Learning rate.
        decay: Last share of the training over which it falls to zero.
        width: Width of the model.
        stages: Channels of the autoencoder's stages; none for pixels.
    """

    size: int = 32
    patch: int = 4
    model: str = "fpdm-elastic"
    batch_size: int = 16
    learning_rate: float = 1e-3
    decay: float = 0.5
    width: int = 128
    stages: tuple[int, ...] = ()


PIXELS, LATENTS = Way(), Way(size=64, patch=2, stages=(8, 16, 32))
WAYS = {
    "latents": LATENTS,
    "pixels": PIXELS,
    "latents, plain FPDM": replace(LATENTS, model="fpdm"),
    "latents, DiT-4": replace(LATENTS, model="dit-4"),
    "latents, 64 images a step": replace(LATENTS, batch_size=64),
    "latents, constant rate": replace(LATENTS, decay=0.0),
    "64 pixels in patches of 8": Way(size=64, patch=8),
    "latents of factor 8": replace(LATENTS, patch=1, stages=(8, 16, 32, 32)),
    "pixels, 128 images a step": replace(PIXELS, batch_size=128),
    "latents, width 64": replace(LATENTS, width=64),
}


def study(folder: Path, names: Sequence[str], seconds: float, share: float, work: Path, out: Path) -> None:
    """Try ways to train on a folder, and record each in a JSON file as soon as it is done."""
    torch.set_num_threads(1)
    timer.time = types.SimpleNamespace(monotonic=time.process_time)  # type: ignore[assignment]
    splits = load_images(DataConfig(str(folder), size=SIZE)).splits
    judge = Evaluator(splits)
    for name in names:
        way, start = WAYS[name], time.time()
        row = {"folder": folder.name, "way": name, "seconds": seconds, **asdict(way)}
        row |= _try(way, folder, seconds, share, judge, work)
        row["wall_seconds"] = round(time.time() - start)
        rows = json.loads(out.read_text()) if out.exists() else []
        out.write_text(json.dumps([*rows, row], indent=1))
        print(json.dumps(row), flush=True)


def _try(way: Way, folder: Path, seconds: float, share: float, judge: Evaluator, work: Path) -> dict[str, Any]:
    data, spent, psnr = DataConfig(str(folder), size=way.size), 0.0, None
    if way.stages:
        spent = share * seconds
        data, psnr = _latents(way, data, spent, work / f"{folder.name}-{'-'.join(map(str, way.stages))}-{spent:.0f}")
    dataset = load_dataset(data)
    made = make_recipe("folder", way.model, data=data)
    train = replace(
        made.train,
        steps=0,
        seconds=seconds - spent,
        batch_size=way.batch_size,
        learning_rate=way.learning_rate,
        decay=way.decay,
        warmup=30,
        validate_every=10**9,
        sample_every=0,
        checkpoint_every=0,
        tracker="none",
    )
    shape = replace(made.model, patch_size=way.patch, width=way.width)
    recipe = replace(made, train=train, model=shape).fitted(dataset.splits.train)
    run = Path(tempfile.mkdtemp(dir=work, prefix="run-"))
    trainer = Trainer(recipe, dataset.splits.train, run, validation=dataset.splits.validation)
    done = trainer.train()
    loss = json.loads((run / "validation.jsonl").read_text().splitlines()[-1])["loss"]
    trainer.ema.copy_to(trainer.model.parameters())
    return {
        "images_seen": done.step * way.batch_size,
        "steps": done.step,
        "autoencoder_psnr": psnr,
        "validation_loss": loss,
        **_judged(trainer.model.eval(), recipe, judge, run.with_suffix(".png")),
        "sheet": run.name,
    }


def _judged(model: DiffusionTransformer, recipe: Recipe, judge: Evaluator, picture: Path) -> dict[str, float]:
    """Judge images of a model, and draw the first of them."""
    cost = model.cost()
    iterations = 2 if cost.middle.adjustable else cost.middle.iterations.start
    plan = Plan(20 * cost.passes(iterations), iterations)
    sampler = ImageSampler(
        model, recipe.schedule, plan, seed=0, device=torch.device("cpu"), autoencoder=recipe.autoencoder.load()
    )
    labels = judge.labels(JUDGED) if recipe.model.num_classes else [0] * JUDGED
    images = sampler(range(JUDGED), labels).pixels  # (N, C, H, W)
    large = torch.stack([_resized(image) for image in images])  # (N, C, 64, 64)
    save_png(tile(large[:48], 12, gap=2), picture)
    return {key: value for key, value in judge.measure(large, seed=0).items() if isinstance(value, float)}


def judge_runs(folder: Path, runs: Sequence[Path], out: Path) -> None:
    """Judge runs that `fpdm train --data` has trained on a folder, as the ways of the study are."""
    torch.set_num_threads(1)
    judge = Evaluator(load_images(DataConfig(str(folder), size=SIZE)).splits)
    for run in runs:
        found = load_run(run)
        rows = json.loads(out.read_text()) if out.exists() else []
        row = {"folder": folder.name, "run": run.name, "steps": found.progress.step, "seconds": found.progress.seconds}
        row |= _judged(found.model, found.recipe, judge, out.with_name(f"{run.name}.png"))
        out.write_text(json.dumps([*rows, row], indent=1))


def gallery(run: Path, out: Path) -> None:
    """Draw the averaged weights' half of each sheet of samples of a run side by side, in the order of their steps."""
    sheets = [Image.open(path) for path in sorted((run / "samples").glob("step-*.png"))]
    halves = [sheet.crop((0, 0, (sheet.width - 8) // 2, sheet.height)) for sheet in sheets]
    picture = Image.new("RGB", (sum(half.width + 8 for half in halves), max(half.height for half in halves)), "white")
    left = 0
    for half in halves:
        picture.paste(half, (left, 0))
        left += half.width + 8
    picture.save(out, optimize=True)


def _latents(way: Way, data: DataConfig, seconds: float, out: Path) -> tuple[DataConfig, float]:
    """Train an autoencoder and encode the images, unless that was done already."""
    splits = load_images(data).splits
    if not (out / "latents").exists():
        config = AutoencoderTrainConfig(steps=0, seconds=seconds, batch_size=16, warmup=20, checkpoint_every=0)
        shape = AutoencoderShape(stage_channels=way.stages)
        trainer = AutoencoderTrainer(AutoencoderRecipe(data, shape, config, ""), splits.train, out / "autoencoder")
        trainer.train()
        save_scaled(trainer, splits.train)
        encoder = AutoencoderConfig(str(out / "autoencoder")).load()
        assert isinstance(encoder, VAE)
        prepare(data, encoder, out / "latents", CacheSettings())
    encoder = AutoencoderConfig(str(out / "autoencoder")).load()
    images = splits.validation.images[:100]  # (N, C, H, W)
    made = reconstructed(encoder, images)  # (N, C, H, W)
    save_png(tile(torch.cat([images[:12], made[:12]]), 12, gap=2), out / "reconstructions.png")
    return DataConfig(str(out / "latents")), reconstruction_error(images, made).psnr


def _resized(image: torch.Tensor) -> torch.Tensor:
    """Resize an image (C, H, W) uint8 to the size at which all are judged."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    resized = picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)  # (C, 64, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make")
    make.add_argument("kind", choices=["emoji", "photographs"])
    make.add_argument("out", type=Path)
    tried = commands.add_parser("study")
    tried.add_argument("folder", type=Path)
    tried.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    tried.add_argument("--seconds", type=float, default=150.0)
    tried.add_argument("--share", type=float, default=0.4, help="of the seconds for the autoencoder")
    tried.add_argument("--work", type=Path, required=True)
    tried.add_argument("--out", type=Path, required=True)
    judged = commands.add_parser("judge")
    judged.add_argument("folder", type=Path)
    judged.add_argument("runs", type=Path, nargs="+")
    judged.add_argument("--out", type=Path, required=True)
    drawn = commands.add_parser("gallery")
    drawn.add_argument("run", type=Path)
    drawn.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.command == "make":
        {"emoji": make_emoji, "photographs": make_photographs}[given.kind](given.out)
    elif given.command == "judge":
        judge_runs(given.folder.resolve(), given.runs, given.out)
    elif given.command == "gallery":
        gallery(given.run, given.out)
    else:
        given.work.mkdir(parents=True, exist_ok=True)
        study(given.folder.resolve(), given.ways, given.seconds, given.share, given.work, given.out)


if __name__ == "__main__":
    main()
