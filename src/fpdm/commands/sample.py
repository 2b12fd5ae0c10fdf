"""`fpdm sample`: images from a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from fpdm.commands.options import Fields, Result
from fpdm.configuration import BatchSize, NoiseSeed, PositiveInt
from fpdm.runs.layout import SAMPLED, folders_of
from fpdm.sampling.plan import DEFAULT_BUDGET, Plan

MAIN_OPTIONS = ("out", "budget", "num_images", "class_", "guidance", "seed")
PLAN = Plan(budget=DEFAULT_BUDGET)


def sample(
    run: str,
    *,
    out: Path,
    budget: str = str(DEFAULT_BUDGET),
    num_images: PositiveInt = 64,
    seed: NoiseSeed = 0,
    batch_size: BatchSize = 64,
    class_: str | None = None,
    scheduler: str = "",
    autoencoder: str = "",
    compile_: bool = False,
    overwrite: bool = False,
    plan: Annotated[Plan, Fields(without=("budget",))] = PLAN,
) -> Result:
    """Generate images with a trained model under a budget of block passes.

    Args:
        run: Folder written by fpdm train or fpdm import, which may still be training; folder written by
            FPDMPipeline.save_pretrained; or name of such a model on the hub (owner/model), which is downloaded.
        out: Folder for the images. The same command finishes an interrupted one.
        budget: Budget per image: block passes (280), MACs (30GMAC), or seconds of one image by itself (0.5s), for which
            the model is measured first, each time anew. DiT-XL spends 28 block passes per step.
        num_images: Number of images to generate.
        seed: Seed of the noise and the labels. Image i depends on the seed and i alone.
        batch_size: Images generated at once; affects speed and memory only.
        class_: Generate images of this class only, given by its name, or by its number in the data
            (default: all classes in turn).
        scheduler: Scheduler of diffusers that makes the steps, such as UniPCMultistep, instead of --sampler and --grid.
        autoencoder: Path or hub id of the autoencoder, if it is no longer where the run recorded it.
        compile_: Compile the model, which takes a minute or more and then makes every step faster.
        overwrite: Replace the images in the folder if an earlier sampling with other settings made them.
        plan: How to spend the budget.
    """
    SAMPLED.check(out, folders_of(Path(run)))
    from fpdm.data.labels import class_label
    from fpdm.runs.pretrained import load_model
    from fpdm.runs.price import resolve
    from fpdm.runs.samples import sample_to_folder
    from fpdm.sampling.price import Amount

    amount = Amount.parse(budget)
    loaded, label = load_model(run, autoencoder=autoencoder), None
    if class_ is not None:
        label = class_label(class_, loaded.classes.names, loaded.model.shape.num_classes, loaded.classes.numbers)
    SAMPLED.check(out, {"image folder": loaded.recipe.data.folder})
    if compile_:
        loaded.model.compile_iterations()
    plan, own = _scheduled(plan, scheduler, loaded.recipe)
    plan = replace(plan, budget=resolve(loaded, amount, plan))
    return sample_to_folder(
        loaded,
        plan,
        num_images,
        out,
        seed=seed,
        batch_size=batch_size,
        label=label,
        scheduler=own,
        overwrite=overwrite,
    )


def _scheduled(plan: Plan, name: str, recipe: Any) -> tuple[Plan, Any]:
    """Return the plan and the scheduler with this name, or the plan with the sampler of ours that it stands for."""
    if not name:
        return plan, None
    from fpdm.sampling.schedulers import OWN_SAMPLERS, scheduler_by_name

    scheduler = scheduler_by_name(name, recipe.schedule, clip=not recipe.autoencoder.source)
    ours = OWN_SAMPLERS.get(type(scheduler).__name__)
    if ours is None:
        return plan, scheduler
    if plan.sampler not in (PLAN.sampler, ours):
        raise ValueError(f"--sampler is {plan.sampler}, but --scheduler {name} stands for {ours}; give only one")
    return replace(plan, sampler=ours), None
