"""Make the model that comes with the package: an FPDM of the reproduction and its autoencoder, in half precision.

    python results/ship.py results/reproduction results/reproduction/weights/FPDM-0 \
        results/fashion-latents/autoencoder src/fpdm/shipped/fpdm-fashion

Its card is written from the records of Table 1. OUT must not exist, or hold a model that this made before.
"""

import shutil
import sys
from pathlib import Path
from textwrap import fill

import torch

from fpdm import FPDMPipeline
from fpdm.reproduce.models import FPDM, deep_dit
from fpdm.reproduce.pages import read_record
from fpdm.reproduce.scale import FULL
from fpdm.reproduce.study import Measurements, Table
from fpdm.reproduce.table1 import SAMPLERS, Table1
from fpdm.runs.model_card import classes_in_words, usage, with_front_matter
from fpdm.runs.run import Run, load_run
from fpdm.training.memory import training_memory


def figures(reproduction: Path) -> str:
    """Return the table of the card: the seed that is shipped beside DiT, at each budget."""
    record = read_record(reproduction, Table1())
    assert record is not None
    found, rows = Measurements([one for one in record.cells if one.seed == FULL.seeds[0]], {}), []
    for sampler in SAMPLERS:
        for model, name in ((FPDM, "this model"), (deep_dit(FULL), "DiT of 28 blocks, the same training compute")):
            line = [found.distance(model, budget=budget, sampler=sampler) for budget in FULL.budgets]
            rows.append([name, sampler.upper(), *(one.to_text() if one else "not measured" for one in line)])
    title = (
        "Fréchet distance to the 10,000 test images in the features of a small classifier of Fashion-MNIST, which does "
        f"not compare with FID; {FULL.images:,} images, plans chosen on validation images, 95 % bootstrap intervals "
        "over images. One training seed; measured before the weights were rounded to half precision."
    )
    return Table(title, ["", "sampler", *(f"{b} block passes" for b in FULL.budgets)], rows).to_markdown()


def card(run: Run, reproduction: Path, megabytes: float, name: str) -> str:
    """Return the text of the card."""
    model, train, progress = run.model, run.recipe.train, run.progress
    shape, cost = model.shape, model.cost()
    memory = training_memory(model, run.recipe.schedule, train.make_objective(), train.make_gradient())
    lines = [
        f"# {name}",
        "A Fixed Point Diffusion Model (Bai and Melas-Kyriazi, CVPR 2024) of Fashion-MNIST, with the autoencoder of "
        f"its latents: {megabytes:.1f} MB in half precision. It comes with the package fpdm, and is for trying the "
        "method, not for its pictures.",
        Table(
            "",
            ["", ""],
            [
                ["Images", f"28 x 28 pixels, grey, from latents of 4 x {shape.image_size} x {shape.image_size}"],
                ["Classes", classes_in_words(run.classes.names, shape.num_classes)],
                [
                    "Network",
                    f"{cost.total_parameters:,} parameters, width {shape.width}, {shape.heads} heads, "
                    f"{(shape.image_size // shape.patch_size) ** 2} tokens; {shape.pre_blocks} pre and "
                    f"{shape.post_blocks} post block, the published injection",
                ],
                ["Predicts", "v, over 1000 timesteps, ending in pure noise (zero terminal SNR)"],
            ],
        )
        .to_markdown()
        .strip(),
        "\n".join(usage(name, run.classes.names, shape.num_classes)),
        "## Training",
        "The 60,000 training images of Fashion-MNIST (Xiao et al. 2017, MIT licence) but for those kept to validate; "
        f"stochastic Jacobian-free backpropagation with N = {train.no_grad_iters}, M = {train.grad_iters}, "
        f"{progress.step:,} steps of {train.batch_size} images, {progress.macs:.2g} multiply-accumulates, learning "
        f"rate {train.learning_rate:g} with a decay to zero over the last fifth, labels dropped with probability "
        f"{train.label_dropout:g}; {memory.mean / 1e3:,.0f} kB saved for the backward pass per image, mean over "
        "the draws. It is seed 0 of Table 1 of the reproduction (`results/reproduction/table1` in the repository), "
        "made by `fpdm reproduce table1`.",
        "## Evaluation",
        figures(reproduction),
        "## Limits",
        "Sandals and bags with patterns are often broken, and clothes have blotches. From 560 block passes on, the DiT "
        "of 28 blocks is better. Small plain DiTs may be better at every budget: see `docs/reproduction.md`.",
    ]
    parts = "\n\n".join(lines).split("\n\n")
    wrapped = [part if "\n" in part or part.startswith("#") else fill(part, 120) for part in parts]
    return with_front_matter("\n" + "\n\n".join(wrapped) + "\n").replace("\ntags:", "\nlicense: mit\ntags:", 1)


def main(reproduction: Path, run_folder: Path, autoencoder: str, out: Path) -> None:
    """Write the model into the folder."""
    if out.exists() and "It comes with the package fpdm" not in (out / "README.md").read_text(encoding="utf-8"):
        sys.exit(f"{out} is not a shipped model; choose another folder")
    shutil.rmtree(out, ignore_errors=True)
    run = load_run(run_folder, autoencoder=autoencoder)
    pipe = FPDMPipeline.from_run(run)
    pipe.to(torch.float16)
    pipe.register_to_config(name=out.name)
    pipe.save_pretrained(out)
    size = sum(path.stat().st_size for path in out.rglob("*.safetensors")) / 1e6
    run = load_run(run_folder, autoencoder=autoencoder)  # in its own precision
    (out / "README.md").write_text(card(run, reproduction, size, out.name), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
