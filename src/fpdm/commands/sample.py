"""`fpdm sample`: images from a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fpdm.commands.options import Fields, Result
from fpdm.configuration import BatchSize, NoiseSeed, PositiveInt
from fpdm.runs.layout import SAMPLED, folders_of
from fpdm.sampling.plan import Plan

PLAN = Plan(budget=140)


def sample(
    run: Path,
    *,
    out: Path,
    num_images: PositiveInt = 64,
    seed: NoiseSeed = 0,
    batch_size: BatchSize = 64,
    class_: str | None = None,
    autoencoder: str = "",
    overwrite: bool = False,
    plan: Annotated[Plan, Fields()] = PLAN,
) -> Result:
    """Generate images with a trained model under a budget of block passes.

    Args:
        run: Folder written by fpdm train or fpdm import. The run may still be training.
        out: Folder for the images. The same command finishes an interrupted one.
        num_images: Number of images to generate.
        seed: Seed of the noise and the labels. Image i depends on the seed and i alone.
        batch_size: Images generated at once; affects speed and memory only.
        class_: Generate images of this class only, given by its name, or by its number in the data
            (default: all classes in turn).
        autoencoder: Path or hub id of the autoencoder, if it is no longer where the run recorded it.
        overwrite: Replace the images in the folder if an earlier sampling with other settings made them.
        plan: How to spend the budget. DiT-XL spends 28 block passes per step.
    """
    SAMPLED.check(out, folders_of(run))
    from fpdm.data.labels import class_label
    from fpdm.runs.data_card import read_data_card
    from fpdm.runs.run import load_run
    from fpdm.runs.samples import sample_to_folder

    loaded, label = load_run(run, autoencoder=autoencoder), None
    if class_ is not None:
        card = read_data_card(run)
        classes, numbers = (card.classes, card.numbers) if card else ((), ())
        label = class_label(class_, classes, loaded.model.shape.num_classes, numbers)
    SAMPLED.check(out, {"image folder": loaded.recipe.data.folder})
    return sample_to_folder(
        loaded, plan, num_images, out, seed=seed, batch_size=batch_size, label=label, overwrite=overwrite
    )
