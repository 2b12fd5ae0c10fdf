"""`fpdm sample`: images from a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fpdm.commands.folders import writable
from fpdm.commands.options import Fields, Result
from fpdm.sampling.plan import Plan

if TYPE_CHECKING:
    from fpdm.models.transformer import DiffusionTransformer

PLAN = Plan(budget=140)


def sample(
    run: Path,
    *,
    out: Path,
    num_images: int = 64,
    seed: int = 0,
    batch_size: int = 64,
    class_: str | None = None,
    autoencoder: str = "",
    plan: Annotated[Plan, Fields()] = PLAN,
) -> Result:
    """Generate images with a trained model under a budget of block passes.

    Args:
        run: Folder written by fpdm train or fpdm import. The run may still be training.
        out: Folder for the images. The same command finishes an interrupted one.
        num_images: Number of images to generate.
        seed: Seed of the noise and the labels. Image i depends on the seed and i alone.
        batch_size: Images generated at once; affects speed and memory only.
        class_: Generate images of this class only, given by name or number (default: all classes in turn).
        autoencoder: Path or hub id of the autoencoder, if it is no longer where the run recorded it.
        plan: How to spend the budget. DiT-XL spends 28 block passes per step.
    """
    writable(out)
    from fpdm.data.labels import class_label
    from fpdm.runs.data_card import read_data_card
    from fpdm.runs.run import load_run
    from fpdm.runs.samples import sample_to_folder

    loaded, label = load_run(run, autoencoder=autoencoder), None
    plan = with_iterations(plan, loaded.model)
    if class_ is not None:
        card = read_data_card(run)
        label = class_label(class_, card.classes if card else (), loaded.model.shape.num_classes)
    return sample_to_folder(loaded, plan, num_images, out, seed=seed, batch_size=batch_size, label=label)


def with_iterations(plan: Plan, model: DiffusionTransformer) -> Plan:
    """Set 5 iterations where neither the user nor the model decides."""
    if plan.iterations or not model.cost().middle.adjustable:
        return plan
    return replace(plan, iterations=5)
