"""Sample a run to a folder of PNG files; the same call completes an interrupted one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from fpdm.configuration import Record
from fpdm.data.labels import balanced_labels
from fpdm.data.splits import counted
from fpdm.drawing.images import enlarged, save_png, tile, to_array
from fpdm.files import check_regular, files_in, read_json, write_json
from fpdm.memory import check_disk, check_memory
from fpdm.runs.layout import SAMPLED, SAMPLING
from fpdm.runs.run import Run
from fpdm.sampling.images import ImageSampler, draw_images
from fpdm.sampling.plan import Plan

GRID = "grid.png"
_SMALLEST = 67  # bytes of a PNG
_OPTIONAL = ("scheduler",)  # settings that are recorded only where there are any


@dataclass(frozen=True)
class Sampled(Record):
    """Summary of a call of `sample_to_folder`.

    Attributes:
        out: The folder.
        images: Number of images in it.
        drawn: Number of images drawn by this call; the others were there already.
        steps: Number of sampling steps.
        budget: Block passes available for each image.
        passes: Mean number of block passes spent per image; None if no image was drawn, as are those below.
        macs: Mean number of multiply-accumulates per image.
        seconds: Seconds of sampling, in total.
        plan: Where the plan comes from, and the plan, in words; empty if it was not tuned and has no self-guidance that
            nobody asked for.
    """

    out: Path
    images: int
    drawn: int
    steps: int
    budget: int
    passes: float | None
    macs: float | None
    seconds: float | None
    plan: str = ""

    def to_text(self) -> str:
        """Return the summary in a line, and a plan that may surprise in another."""
        return "\n".join([self._summary(), *([f"the plan is {self.plan}"] if self.plan else [])])

    def _summary(self) -> str:
        if self.passes is None or self.macs is None:
            return f"nothing left to do: {self.images} images are in {self.out}"
        kept = f" ({self.images - self.drawn} were there already)" if self.drawn < self.images else ""
        return (
            f"{self.drawn} images in {self.out}{kept}: {self.steps} steps, {self.passes:.1f} of {self.budget} block "
            f"passes and {self.macs / 1e9:.3f} GMACs each, {self.seconds:.1f} s; {GRID} shows the first of them"
        )


def sample_to_folder(
    run: Run,
    plan: Plan,
    num_images: int,
    out: Path,
    *,
    seed: int,
    batch_size: int,
    label: int | None = None,
    scheduler: Any = None,
    origin: str = "",
    guided: bool = False,
    overwrite: bool = False,
) -> Sampled:
    """Write `num_images` PNGs, a grid of the first 64 and the settings into a folder; images already there are kept.

    Args:
        run: The run to sample.
        plan: How to spend the budget.
        num_images: Number of images.
        out: The folder.
        seed: The seed; image i is a function of the seed and i.
        batch_size: Images at once.
        label: The class of all images; None takes the classes in turn.
        scheduler: Scheduler of diffusers to make the steps; None for the plan's own sampler.
        origin: Where the plan comes from, for the summary; empty for nothing to say.
        guided: Whether the plan has self-guidance that nobody asked for, for the summary.
        overwrite: Replace images of other settings that an earlier call wrote to the folder.

    Raises:
        ValueError: A count is below 1 or more than fits in memory or on the disk, the class is out of range, or the
            folder has images of other settings or other files.
    """
    if num_images < 1 or batch_size < 1:
        raise ValueError(f"num_images {num_images} and batch_size {batch_size}; expected 1 or more of each")
    what, missing = f"a folder of {counted(num_images, 'image')}", num_images - files_in(out)
    check_memory(44 * missing, what, "fewer --num-images")  # indices of 28 bytes in a list, and a list of labels
    check_disk(_SMALLEST * missing, out, what)
    run.check_fits(min(batch_size, num_images), plan.guidance)
    sampler = run.sampler(plan, seed=seed, scheduler=scheduler)
    with SAMPLED.hold(out):
        if overwrite:
            _discard(out)
        claim(out, {**settings_of(run, sampler), "class": label}, overwrite=overwrite)
        found = _complete(run, sampler, num_images, out, batch_size=batch_size, label=label)
        if not origin and not guided:
            return found
        off = "; --self-guidance 0 turns self-guidance off" if guided else ""
        return replace(found, plan=f"{origin or 'the default of this model'}: {sampler.plan.in_words()}{off}")


def _complete(
    run: Run, sampler: ImageSampler, num_images: int, out: Path, *, batch_size: int, label: int | None
) -> Sampled:
    """Draw the images that are missing, and the grid."""
    todo = [index for index in range(num_images) if not _whole(_path(out, index), run.image_shape)]
    labels = balanced_labels(todo, run.model.shape.num_classes) if label is None else [label] * len(todo)

    def save(places: Sequence[int], pixels: torch.Tensor) -> None:
        grey = pixels.shape[1] == 1
        for place, image in zip(places, to_array(pixels), strict=True):
            save_png(image[..., 0] if grey else image, _path(out, todo[place]))

    cost = draw_images(sampler, todo, labels, batch_size=batch_size, keep=save)
    first = range(min(num_images, 64))
    save_png(tile(enlarged(torch.stack([_read(_path(out, index)) for index in first])), 8, gap=4), out / GRID)
    n = len(todo)
    spent = (cost.passes / n, cost.macs / n, cost.seconds) if todo else (None, None, None)
    return Sampled(out, num_images, n, len(sampler.timesteps), sampler.plan.budget, *spent)


def _discard(out: Path) -> None:
    """Delete what an earlier call wrote."""
    for path in out.iterdir():
        if re.fullmatch(r"\d{6,}\.png", path.name) or path.name in (GRID, SAMPLING):
            path.unlink()


def settings_of(run: Run, sampler: ImageSampler) -> dict[str, Any]:
    """Return everything that the images of a sampler depend on besides their labels, as JSON values."""
    plan = sampler.plan
    return {
        "plan": plan.values(),
        "seed": sampler.seed,
        "run": run.recipe.name,
        "trained_steps": run.progress.step,
        "weights_sha256": run.weights,
        "autoencoder_sha256": run.autoencoder.sha256,
        **({"scheduler": sampler.scheduler} if sampler.scheduler else {}),
        "timesteps": list(sampler.timesteps),
        "iterations": None if plan.adaptive else list(sampler.table),
        "unspent_passes": sampler.unspent,
    }


def claim(out: Path, settings: dict[str, Any], *, overwrite: bool = False) -> None:
    """Write the settings of a folder's images into it, replacing settings of which it has no images.

    With `overwrite`, other settings are replaced too.

    Raises:
        ValueError: The folder has images of other settings.
    """
    path, images = out / SAMPLING, (one for one in out.rglob("*") if one.is_file() and not one.name.startswith("."))
    if not overwrite and path.exists() and any(one != path for one in images):
        check_claim(out, settings)
    else:
        write_json(path, settings)


def check_claim(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Check that a folder does not have other settings.

    Names may be others where hashes say that it is the same run and the same extractor.

    Returns:
        The folder's settings; if it has none, those given.

    Raises:
        ValueError: It does, or they cannot be read.
    """
    path = out / SAMPLING
    if not path.exists():
        return settings
    try:
        old = read_json(path)
    except ValueError:
        old = None
    if not isinstance(old, dict):
        raise ValueError(f"{path} holds no settings of samples; choose another folder")
    keys = [*settings, *(key for key in _OPTIONAL if key in old and key not in settings)]
    changed = [key for key in keys if _content(old, key) != _content(settings, key)]
    if changed:
        raise ValueError(
            f"{out} holds samples made with another {' and '.join(changed[:3])}; choose another folder, or replace "
            "them with --overwrite"
        )
    return old


def _content(settings: dict[str, Any], key: str) -> Any:
    """Return a setting without names."""
    value = settings.get(key)
    if key == "run" and "weights_sha256" in settings:
        return None
    return value.rpartition(", ")[2] if key == "extractor" and isinstance(value, str) else value  # "name, hash"


def _path(out: Path, index: int) -> Path:
    return out / f"{index:06d}.png"


def _whole(path: Path, shape: tuple[int, int, int]) -> bool:
    """Whether an image was drawn already; one that is there but damaged is drawn again.

    Raises:
        ValueError: It is no file, or another image than the model draws, so that someone else put it there.
    """
    try:
        with _open(path) as image:
            found = (len(image.getbands()), image.height, image.width)
            if found != shape:
                raise ValueError(
                    f"{path} is an image of {' x '.join(map(str, found))}, and not one of this model's, which are "
                    f"{' x '.join(map(str, shape))}; move it away, or choose another folder"
                )
            image.load()
        return True
    except (OSError, SyntaxError):  # the latter is raised by Pillow for broken PNGs
        return False


def _open(path: Path) -> Image.Image:
    check_regular(path)
    try:
        return Image.open(path)
    except Image.DecompressionBombError:
        raise ValueError(f"{path} is an image of far too many pixels; move it away, or choose another folder") from None


def _read(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        array = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)  # (H * W * C,)
        return array.view(image.height, image.width, -1).permute(2, 0, 1)  # (C, H, W)
