"""Benchmark of speed: ratios against a floor, a straightforward FPDM, and what a user would pick instead.

    python -m benchmarks.speed --out results/speed/speed.json

Rows and their bounds are those of docs/performance.md, which `python -m benchmarks.page` writes from the record.

- The floor computes only the matrix products and the attention of a sampling step, in a chain, with the same shapes: 12
  D^2 per token and block, 4 D^2 more per iteration, without biases, norms, modulation or embeddings. Its products are
  PyTorch's. On a CPU ours are packed unless they are compiled, as when images are drawn (`sampling/packed.py`), and may
  be faster than the floor; so a note gives the plain layers over the floor, and the packed ones over a packed floor.
- The straightforward FPDM is that of `straightforward.py`, not compiled.
- diffusers' `DiTTransformer2DModel` has random weights that `fpdm.importing` converts; both give the same output.
- torchdeq's solvers (PyPI, `pip install -e '.[bench]'`) iterate the same map from the same start.
- The engine and the folder of images are measured with the model that comes with the package.

In each round every subject runs once, in turn, so that other load on the machine meets all alike. A ratio is the median
over the rounds, with its quartiles; beside it stands the ratio of the fastest rounds of each (`best`), which is closer
to the truth where other load is heavy.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from torch import Tensor, nn

from benchmarks.steps import Batch, Ours, Ratio, Straightforward, in_turn, straightforward_twin
from fpdm.data.images import ImageSet
from fpdm.data.labels import balanced_labels
from fpdm.fixed_point.solve import Map, Stop, solve
from fpdm.fixed_point.solvers import Anderson, Picard
from fpdm.importing.foreign import read_foreign_checkpoint
from fpdm.importing.layouts import Hints, convert
from fpdm.models.config import TransformerConfig, as_dit, preset
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.pretrained import load_model
from fpdm.runs.progress import Progress
from fpdm.runs.recipes import make_recipe
from fpdm.runs.samples import sample_to_folder
from fpdm.sampling.images import ImageSampler, sample_shape
from fpdm.sampling.packed import PackedLinear, can_be_packed, packed
from fpdm.sampling.plan import Plan
from fpdm.training.trainer import Trainer

ITERATIONS = 5
DEPTH = 28  # blocks of the DiT


@dataclass(frozen=True)
class Row:
    """A measured ratio, and the bound that it should keep.

    Attributes:
        what: What is divided by what.
        ratio: Median over the rounds, and quartiles.
        best: Ratio of the fastest of each.
        bound: The bound.
        at_most: Whether it is an upper bound.
        note: Anything else that was measured.
    """

    what: str
    ratio: Ratio
    best: float
    bound: float
    at_most: bool
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether the median keeps the bound."""
        return self.ratio.median <= self.bound if self.at_most else self.ratio.median >= self.bound

    @classmethod
    def of(cls, what: str, over: list[float], under: list[float], bound: float, **rest: Any) -> Row:
        """Divide seconds by seconds; a bound is an upper one unless `at_most` says otherwise."""
        best = round(min(over) / min(under), 4)
        return cls(what, Ratio.of(over, under), best, bound, **{"at_most": True, **rest})


@dataclass(frozen=True)
class Size:
    """A size at which a sampling step is measured, with its bounds.

    Attributes:
        name: Its name.
        shape: Architecture of the FPDM.
        batch: Number of images.
        compiled: Upper bound on the step over the floor, compiled.
        eager: The same, not compiled.
        gain: Lower bound on the straightforward FPDM over ours, compiled.
    """

    name: str
    shape: TransformerConfig
    batch: int
    compiled: float
    eager: float
    gain: float


SIZES = (
    Size("XL/2, batch 1", preset("fpdm-xl/2"), 1, 1.04, 1.10, 1.15),
    Size("width 384, batch 4", preset("fpdm-s/2"), 4, 1.08, 1.17, 1.2),
    Size("width 128, batch 64", preset("fpdm-fashion"), 64, 1.20, 1.45, 1.35),
)


class Floor(nn.Module):
    """The matrix products and the attention of a sampling step, in a chain."""

    def __init__(self, shape: TransformerConfig, batch: int) -> None:
        super().__init__()
        D, hidden, self.heads = shape.width, int(shape.width * shape.mlp_ratio), shape.heads
        self.register_buffer("x", torch.randn(batch, shape.tokens, D))
        self.x: Tensor
        scale = D**-0.5
        for name, size in {"qkv": (3 * D, D), "proj": (D, D), "fc1": (hidden, D), "fc2": (D, hidden)}.items():
            self.register_buffer(name, torch.randn(size) * scale)
        self.register_buffer("wide", torch.randn(2 * D, D) * scale)
        self.register_buffer("narrow", torch.randn(D, 2 * D) * scale)

    def product(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.get_buffer(name))  # (B, T, O)

    def block(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.product(x, "qkv").view(batch, tokens, 3, self.heads, -1)  # (B, T, 3, heads, d)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # 3 of (B, heads, T, d)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)  # (B, T, D)
        x = self.product(x, "proj")  # (B, T, D)
        return self.product(self.product(x, "fc1"), "fc2")  # (B, T, D)

    @torch.no_grad()
    def forward(self, blocks: int, iterations: int) -> Tensor:
        x = self.x  # (B, T, D)
        for _ in range(blocks):
            x = self.block(x)  # (B, T, D)
        for _ in range(iterations):
            x = self.block(self.product(self.product(x, "wide"), "narrow"))  # (B, T, D)
        return x


class PackedFloor(Floor):
    """The floor with the products that sampling uses on a CPU."""

    def __init__(self, shape: TransformerConfig, batch: int) -> None:
        super().__init__(shape, batch)
        self.packed = {name: PackedLinear(one, None) for name, one in self.named_buffers() if name != "x"}

    def product(self, x: Tensor, name: str) -> Tensor:
        return self.packed[name](x)  # (B, T, O)


def random_weights(model: nn.Module) -> None:
    rng = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02, generator=rng)


def step_rows(size: Size, rounds: int, device: torch.device, *, compiled: bool) -> Iterator[Row]:
    """Compare a sampling step with the floor and with the straightforward FPDM."""
    batch = Batch.random(size.shape, size.batch, device)
    model = DiffusionTransformer.from_shape(size.shape)
    random_weights(model)
    nn.Module.to(model, device)
    blocks = size.shape.pre_blocks + size.shape.post_blocks
    floor = functools.partial(Floor(size.shape, size.batch).to(device), blocks, ITERATIONS)
    straightforward = functools.partial(Straightforward(straightforward_twin(model), batch).sample, ITERATIONS)
    sampled, plain = (functools.partial(Ours(one, batch).sample, ITERATIONS) for one in (packed(model), model))
    name, note = f"sampling step of {ITERATIONS} iterations, {size.name}", ""
    if can_be_packed(model):
        packed_floor = functools.partial(PackedFloor(size.shape, size.batch), blocks, ITERATIONS)
        lowest, eager, straight, layers, packed_lowest = in_turn(
            [floor, sampled, straightforward, plain, packed_floor], rounds
        )
        note = f"plain layers: {Ratio.of(layers, lowest)}; over a packed floor: {Ratio.of(eager, packed_lowest)}"
    else:
        lowest, eager, straight = in_turn([floor, sampled, straightforward], rounds)
    yield Row.of(f"{name}, over the floor, not compiled", eager, lowest, size.eager, note=note)
    if compiled:
        model.compile_iterations()
        lowest, ours, compared = in_turn([floor, plain, straightforward], rounds)
        yield Row.of(f"{name}, over the floor, compiled", ours, lowest, size.compiled)
        yield Row.of(f"straightforward FPDM over ours, compiled: {name}", compared, ours, size.gain, at_most=False)
    yield Row.of(f"straightforward FPDM over ours, not compiled: {name}", straight, eager, 1.0, at_most=False)


def _over_and_under(steps: Sequence[Callable[[], object]], rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of two steps that are timed in turn."""
    over, under = in_turn(steps, rounds)
    return over, under


def their_dit() -> tuple[DiTTransformer2DModel, DiffusionTransformer]:
    """Return diffusers' DiT-S/2 with random weights, and ours with the same."""
    theirs = DiTTransformer2DModel(
        num_attention_heads=6, attention_head_dim=64, num_layers=12, out_channels=8, sample_size=32
    ).eval()
    random_weights(theirs)
    emb = theirs.transformer_blocks[0].norm1.emb.state_dict()  # type: ignore[union-attr]
    for block in theirs.transformer_blocks:
        block.norm1.emb.load_state_dict(emb)  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        found = convert(read_foreign_checkpoint(folder), Hints(prediction="epsilon"))
    ours = DiffusionTransformer.from_shape(found.shape).eval()
    ours.load_state_dict(found.weights)
    return theirs, ours


@torch.no_grad()
def diffusers_rows(rounds: int, device: torch.device, *, compiled: bool, batch: int = 4) -> Iterator[Row]:
    """Compare one evaluation of DiT-S/2 with that of diffusers, with the same weights."""
    theirs, ours = their_dit()
    nn.Module.to(theirs, device)
    nn.Module.to(ours, device)
    x = torch.randn(batch, 4, 32, 32, device=device)  # (B, C, H, W)
    t = torch.full((batch,), 500, device=device)  # (B,)
    y = torch.arange(batch, device=device)  # (B,)
    sampled = packed(ours)
    steps = [lambda: theirs(x, timestep=t, class_labels=y).sample, lambda: sampled(x, t, y)]
    answer = sampled(x, t, y)
    assert answer.variance is not None
    apart = (torch.cat([answer.value, answer.variance], 1) - theirs(x, timestep=t, class_labels=y).sample).abs().max()
    note = f"outputs differ by at most {apart:.1e}"
    assert apart < 1e-4, note
    what = f"diffusers' DiT over ours, one evaluation of DiT-S/2, batch {batch}"
    yield Row.of(f"{what}, not compiled", *_over_and_under(steps, rounds), 1.25, at_most=False, note=note)
    if compiled:
        ours.compile_iterations()
        sampled = ours
        yield Row.of(f"{what}, ours compiled", *_over_and_under(steps, rounds), 1.3, at_most=False, note=note)


@torch.no_grad()
def solver_rows(rounds: int, device: torch.device, *, most: int = 20, tol: float = 1e-3) -> Iterator[Row]:
    """Compare solves with those of torchdeq: width 384, batch 4."""
    from torchdeq.solver.anderson import anderson_solver  # type: ignore[import-not-found]
    from torchdeq.solver.fp_iter import fixed_point_iter  # type: ignore[import-not-found]

    f, z0 = contraction(device)
    common = {"max_iter": most, "stop_mode": "rel"}
    for name, theirs, solver, bounds in (
        ("plain iteration", fixed_point_iter, Picard(), (1.4, 1.8)),
        ("Anderson", functools.partial(anderson_solver, m=5, lam=1e-6), Anderson(memory=5), (1.0, 1.7)),
    ):
        fixed: list[Callable[[], object]] = [
            functools.partial(theirs, f, z0, tol=0.0, return_final=True, **common),
            functools.partial(solve, f, z0, solver=solver, stop=Stop(most)),
        ]
        yield _solver_row(f"{name} of fixed count", fixed, rounds, bounds[0])
        free: list[Callable[[], object]] = [
            functools.partial(theirs, f, z0, tol=tol, **common),
            functools.partial(solve, f, z0, solver=solver, stop=Stop(most, tol=tol)),
        ]
        yield _solver_row(f"{name} with tolerance", free, rounds, bounds[1])


def _solver_row(name: str, steps: list[Callable[[], object]], rounds: int, bound: float) -> Row:
    return Row.of(
        f"torchdeq's {name} over ours, width 384, batch 4", *_over_and_under(steps, rounds), bound, at_most=False
    )


def contraction(device: torch.device) -> tuple[Map, Tensor]:
    """Return the map of an untrained FPDM of width 384 with the linear injection, and a start, (B, T, D)."""
    shape = replace(preset("fpdm-s/8"), injection="linear")  # 16 tokens: the solver, not the map, shall count
    model = DiffusionTransformer.from_shape(shape).to(device)  # type: ignore[arg-type]
    batch = Batch.random(shape, 4, device)
    h, everything, _ = model.start(batch.x, batch.t, batch.y)  # (B, T, D), (B, D)
    return functools.partial(model.middle.iterate, context=model.middle.prepare(h, everything)), h


def training_rows(rounds: int, device: torch.device) -> Iterator[Row]:
    """Compare a training step with DiT's, width 128, batch 32, at the mean draw."""
    shape = preset("fpdm-fashion")
    batch = Batch.random(shape, 32, device)
    fpdm, dit = (DiffusionTransformer.from_shape(one) for one in (shape, as_dit(shape, DEPTH)))
    subjects = []
    for model in (fpdm, dit):
        random_weights(model)
        nn.Module.to(model, device)
        subjects.append(Ours(model, batch))
    for limit, bound in ((12, 0.47), (3, 0.21)):
        draws = ((limit // 2, (limit + 1) // 2), ((limit + 1) // 2, (limit + 2) // 2))  # their mean is that of S-JFB
        ours, theirs = in_turn([functools.partial(one.train, draws) for one in subjects], rounds)
        yield Row.of(
            f"training step over DiT's (L = {DEPTH}), N = M = {limit}, width 128, batch 32", ours, theirs, bound
        )


def overhead_row(rounds: int) -> Row:
    """Compare whole training steps of the trainer with their forward and backward passes, width 128, batch 128.

    What is left is the optimiser, the averages, preparing and waiting for batches, and reading the losses.
    """
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4096, 1, 28, 28), generator=rng).to(torch.uint8)  # (N, C, H, W)
    data = ImageSet("random", images, torch.arange(4096) % 10, 10)
    recipe = make_recipe("fashion-mnist", "fpdm", steps=1, batch_size=128, no_grad_iters=3, grad_iters=3)
    recipe = replace(recipe, model=preset("fpdm-fashion"))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, data, Path(folder) / "run")
        passes = Ours(trainer.model, Batch.random(recipe.model, 128, trainer.accelerator.device))
        draws = [trainer.gradient.draw(recipe.train.seed, step) for step in range(6)]  # type: ignore[attr-defined]

        def whole() -> None:
            for step in range(6):
                trainer.step(Progress(step=step))

        taken, alone = in_turn([whole, functools.partial(passes.train, draws)], rounds)
    row = Row.of("training step over its forward and backward passes, width 128, batch 128", taken, alone, 1.11)
    return replace(row, note=f"own overhead {1 - 1 / row.ratio.median:.1%} of a step")


@torch.no_grad()
def equal_macs_row(rounds: int, device: torch.device) -> Row:
    """Compare the seconds of FPDM and DiT per MAC, where both spend almost the same: width 384, batch 4."""
    shape = preset("fpdm-s/2")
    fpdm, dit = (DiffusionTransformer.from_shape(one) for one in (shape, as_dit(shape, DEPTH)))
    batch = Batch.random(shape, 4, device)
    for model in (fpdm, dit):
        random_weights(model)
        nn.Module.to(model, device)
    ours, theirs = fpdm.cost(), dit.cost().evaluation_macs(DEPTH - 2)
    count = round((theirs - ours.evaluation_macs(0)) / ours.middle.iterate)
    steps = [functools.partial(Ours(packed(model), batch).sample, count) for model in (fpdm, dit)]
    fast, slow = in_turn(steps, rounds)
    share = ours.evaluation_macs(count) / theirs
    note = f"{count} iterations, whose MACs are {share:.3f} of DiT's; the seconds are divided by that"
    what = f"seconds over DiT's (L = {DEPTH}) for the same MACs, width 384, batch 4"
    return Row.of(what, [taken / share for taken in fast], slow, 1.0, note=note)


def engine_row(rounds: int, images: int, budget: int = 140) -> Row:
    """Compare sampling with an adaptive allocation in batches and in slots that refill; the images are the same."""
    sampler = load_model("fpdm-fashion").sampler(Plan(budget, 5, allocation="adaptive"))
    rows = [0, 0]

    def in_batches() -> None:
        rows[0] = 0
        for start in range(0, images, 64):
            chosen = range(start, min(start + 64, images))
            for state in sampler.trajectory(chosen, _labels(sampler, chosen)):
                rows[0] += int(torch.as_tensor(state.solution.iters).max()) * len(chosen)

    def in_slots() -> None:
        drawn = sampler.draw(range(images), _labels(sampler, range(images)), batch_size=64)
        rows[1] = round(sum(spent for some in drawn for spent in some.iterations))

    without, within = in_turn([in_batches, in_slots], rounds)
    note = f"rows of the iteration evaluated: {rows[0]:,} over {rows[1]:,}, {rows[0] / rows[1]:.3f}"
    what = (
        f"the engine: seconds without over with, adaptive allocation, fpdm-fashion, {images:,} images, budget {budget}"
    )
    return Row.of(what, without, within, 1.3, at_most=False, note=note)


def folder_row(rounds: int, images: int, budget: int = 140) -> Row:
    """Compare `fpdm sample` of many images with its denoiser alone."""
    run = load_model("fpdm-fashion")
    plan = Plan(budget, 5)
    sampler = run.sampler(plan)

    def to_folder() -> None:
        with tempfile.TemporaryDirectory() as folder:
            sample_to_folder(run, plan, images, Path(folder) / "images", seed=0, batch_size=64)

    def denoiser_alone() -> None:
        for start in range(0, images, 64):
            chosen = range(start, min(start + 64, images))
            for _ in sampler.trajectory(chosen, _labels(sampler, chosen)):
                pass

    latents = torch.randn(64, *sample_shape(sampler.model))  # (B, C, h, w)

    def decoder_alone() -> None:
        for start in range(0, images, 64):
            sampler.decode(latents[: min(64, images - start)])

    what = f"{images:,} images through fpdm sample over the denoiser alone, fpdm-fashion, budget {budget}"
    whole, denoiser, decoder = in_turn([to_folder, denoiser_alone, decoder_alone], rounds)
    both = Ratio.of(whole, [a + b for a, b in zip(denoiser, decoder, strict=True)])
    return Row.of(what, whole, denoiser, 1.05, note=f"over the denoiser and the decoder of its latents: {both}")


def _labels(sampler: ImageSampler, chosen: range) -> list[int]:
    return balanced_labels(chosen, sampler.model.shape.num_classes)


def price_rows(images: int) -> Iterator[Row]:
    """Compare what sampling takes with what `fpdm describe --budget` predicts, in the same minute."""
    from fpdm.sampling.price import price

    sampler = load_model("fpdm-fashion").sampler(Plan(280, 5))
    found = price(sampler, batch_size=64)
    alone, together = [], []
    for _ in range(5):
        start = time.perf_counter()
        sampler([0], [0])
        alone.append(time.perf_counter() - start)
    for _ in range(max(images // 64, 1)):
        start = time.perf_counter()
        sampler(range(64), _labels(sampler, range(64)))
        together.append(time.perf_counter() - start)
    for what, taken, predicted in (
        ("one image", alone, found.latency),
        ("64 images", together, 64 / found.throughput),
    ):
        wrong = [max(one / predicted, predicted / one) for one in taken]
        note = f"predicted {predicted:.3g} s, took {statistics.median(taken):.3g} s"
        yield Row.of(
            f"seconds of {what} over the prediction, or the other way round", wrong, [1.0] * len(wrong), 1.15, note=note
        )


PARTS = ("steps", "diffusers", "solvers", "training", "overhead", "macs", "engine", "folder", "price")


def measure(parts: list[str], rounds: int, images: int, *, compiled: bool, sizes: int) -> Iterator[Row]:
    """Measure the rows of some parts."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if "steps" in parts:
        for size in SIZES[-sizes:]:
            yield from step_rows(size, rounds, device, compiled=compiled)
    if "diffusers" in parts:
        yield from diffusers_rows(rounds, device, compiled=compiled)
    if "solvers" in parts:
        yield from solver_rows(rounds, device)
    if "training" in parts:
        yield from training_rows(rounds, device)
    if "macs" in parts:
        yield equal_macs_row(rounds, device)
    if "overhead" in parts:
        yield overhead_row(rounds)
    if "engine" in parts:
        yield engine_row(max(rounds // 7, 1), images)
    if "folder" in parts:
        yield folder_row(max(rounds // 7, 1), images)
    if "price" in parts:
        yield from price_rows(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sizes", type=int, choices=(1, 2, 3), default=3, help="how many sizes, the smallest first")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    parser.add_argument("--note", default="", help="anything to record about the machine, such as other load")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for row in measure(
        arguments.parts, arguments.rounds, arguments.images, compiled=not arguments.eager, sizes=arguments.sizes
    ):
        rows.append(row)
        sign = "<=" if row.at_most else ">="
        print(f"{row.what}: {row.ratio}, best {row.best:.3f}, bound {sign} {row.bound:g}; {row.note}", flush=True)
    gpu = torch.cuda.is_available()
    record = {
        "command": f"python -m benchmarks.speed --rounds {arguments.rounds} --images {arguments.images}"
        f" --parts {' '.join(arguments.parts)}" + (" --eager" if arguments.eager else ""),
        "machine": torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "note": arguments.note,
        "rows": [{**asdict(row), "holds": row.holds} for row in rows],
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
