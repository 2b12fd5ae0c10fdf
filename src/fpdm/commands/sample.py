"""`fpdm sample`: images from a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from fpdm.commands.options import Fields, Result, plan_options
from fpdm.configuration import BatchSize, NoiseSeed, PositiveInt
from fpdm.runs.layout import SAMPLED, folders_of
from fpdm.sampling.plan import DEFAULT_BUDGET, Plan

MAIN_OPTIONS = ("out", "budget", "num_images", "class_", "guidance", "seed")
PLAN = Plan(budget=DEFAULT_BUDGET)
_NOTHING: Mapping[str, Any] = MappingProxyType({})


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
    given: Mapping[str, Any] = _NOTHING,
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
        compile_: Compile the model, which takes a minute or more and then makes every step faster on a GPU. On a CPU,
            packed weights, which nothing compiles, are about as fast.
        overwrite: Replace the images in the folder if an earlier sampling with other settings made them.
        plan: How to spend the budget. What is left out is as the sampling.json beside the model has it, for instance as
            fpdm tune found it for this budget.
        given: The options that are given, by name.
    """
    SAMPLED.check(out, folders_of(Path(run)))
    from fpdm.data.labels import class_label
    from fpdm.runs.pretrained import load_model
    from fpdm.runs.price import complete
    from fpdm.runs.samples import sample_to_folder
    from fpdm.sampling.price import Amount

    amount = Amount.parse(budget)  # raises before anything is loaded
    loaded, label = load_model(run, autoencoder=autoencoder), None
    if class_ is not None:
        label = class_label(class_, loaded.classes.names, loaded.model.shape.num_classes, loaded.classes.numbers)
    SAMPLED.check(out, {"image folder": loaded.recipe.data.folder})
    if compile_:
        loaded.model.compile_iterations()
    asked, own = _scheduled(plan_options(given), scheduler, loaded.recipe)
    chosen = complete(loaded, amount if "budget" in given else None, asked)
    return sample_to_folder(
        loaded,
        chosen.plan,
        num_images,
        out,
        seed=seed,
        batch_size=batch_size,
        label=label,
        scheduler=own,
        origin=chosen.origin,
        guided=chosen.guided,
        overwrite=overwrite,
    )


def _scheduled(asked: dict[str, Any], name: str, recipe: Any) -> tuple[dict[str, Any], Any]:
    """Return the fields of the plan and the scheduler with this name, or the fields with our sampler for it."""
    if not name:
        return asked, None
    from fpdm.sampling.schedulers import OWN_SAMPLERS, scheduler_by_name

    scheduler = scheduler_by_name(name, recipe.schedule, clip=not recipe.autoencoder.source)
    ours = OWN_SAMPLERS.get(type(scheduler).__name__)
    if ours is None:  # which makes the steps itself, whatever sampler and grid were tuned
        return {"sampler": Plan.sampler, "grid": Plan.grid, **asked}, scheduler
    if asked.get("sampler", ours) != ours:
        raise ValueError(f"--sampler is {asked['sampler']}, but --scheduler {name} stands for {ours}; give only one")
    return {**asked, "sampler": ours}, None
