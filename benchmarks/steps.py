"""Benchmark of time and memory: training and sampling steps of FPDM, of DiT, and of a straightforward FPDM.

    python -m benchmarks.steps --out benchmarks/steps.json

The benchmark measures three models of one width on one batch: FPDM as in `fpdm.models` (one block before, one after,
one iterated), the same function with the same weights as `straightforward.py` computes it, and the DiT of 28 blocks.
The results are the ratios FPDM / straightforward and FPDM / DiT; absolute values depend on the machine.

The rows are:

- saved bytes of a training step: the storages that autograd keeps for the backward pass, per image, without the
  parameters. The mean is over all draws of n and m in S-JFB; the largest draw is m = M. Exact, without spread.
- seconds of a training step: forward, loss and backward. The optimiser is left out, because its time grows with the
  number of parameters and would favour FPDM. Time is linear in n and in m, so two steps are timed whose mean n and m
  are those of S-JFB.
- seconds of a sampling step: one evaluation of the network without gradient. It is checked to save 0 bytes.
- peak bytes of a sampling step: the maximum that tensors hold during the step, per image, without the parameters and
  the noisy images (`live.py`). An FPDM starts from the previous step's solution, which is counted; a DiT has nothing
  to reuse. Exact, without spread.

Times are measured in rounds, one step of each model in turn (A B C A B C ...), so that other load on the machine
affects all models alike. A ratio is the median over the rounds, with its quartiles `low` and `high`; seconds are
medians.
"""

from __future__ import annotations

import abc
import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.live import peak_bytes
from benchmarks.straightforward import StraightforwardFPDM
from fpdm.diffusion.objective import Objective
from fpdm.diffusion.schedule import Schedule
from fpdm.fixed_point.gradients import stochastic_jfb
from fpdm.fixed_point.solve import Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.models.config import TransformerConfig, as_dit, preset
from fpdm.models.transformer import DiffusionTransformer
from fpdm.training.memory import TrainingMemory, saved_bytes

DEPTH = 28  # blocks of the DiT
LIMITS = (3, 6, 12)  # N = M of S-JFB
ITERATIONS = (1, 5, 26)  # per sampling step


@dataclass(frozen=True)
class Ratio:
    """Median of a ratio over the rounds, with its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, over: Sequence[float], under: Sequence[float]) -> Ratio:
        low, median, high = np.quantile(np.divide(over, under), (0.25, 0.5, 0.75)).round(4).tolist()
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Row:
    """One measurement of the three models, and its two ratios."""

    what: str
    fpdm: float
    straightforward: float
    dit: float
    over_straightforward: Ratio
    over_dit: Ratio

    @classmethod
    def of(cls, what: str, values: Sequence[Sequence[float]]) -> Row:
        """Summarise the values of FPDM, the straightforward FPDM and DiT, one per round or a single one each."""
        fpdm, straightforward, dit = values
        a, b, c = (round(float(np.median(each)), 6) for each in values)
        return cls(what, a, b, c, Ratio.of(fpdm, straightforward), Ratio.of(fpdm, dit))


@dataclass(frozen=True)
class Batch:
    """The batch that all models are measured on."""

    x0: Tensor  # (B, C, H, W)
    eps: Tensor  # (B, C, H, W)
    x: Tensor  # (B, C, H, W)
    t: Tensor  # (B,)
    y: Tensor  # (B,)

    @classmethod
    def random(cls, shape: TransformerConfig, size: int, device: torch.device) -> Batch:
        rng = torch.Generator().manual_seed(0)
        images = (2, size, shape.in_channels, shape.image_size, shape.image_size)
        x0, eps = torch.randn(images, generator=rng).to(device)  # (B, C, H, W) each
        t = torch.randint(0, 1000, (size,), generator=rng).to(device)  # (B,)
        return cls(x0, eps, Schedule().add_noise(x0, eps, t), t, torch.zeros_like(t))


class Subject(abc.ABC):
    """A model that is measured."""

    model: nn.Module

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    @abc.abstractmethod
    def value(self, n: int, m: int) -> Tensor:
        """Predict v (B, C, H, W) with n iterations without gradient and m with gradient."""

    @abc.abstractmethod
    def solution(self, iterations: int, z0: Tensor | None) -> Tensor:
        """Evaluate the whole network and return the middle's solution (B, T, D), started from `z0`."""

    def loss(self, n: int, m: int) -> Tensor:
        b = self.batch
        return Objective().loss(Schedule(), self.value(n, m), None, b.x, b.x0, b.eps, b.t).total.mean()

    def train(self, draws: Sequence[tuple[int, int]]) -> None:
        for n, m in draws:
            self.loss(n, m).backward()
            self.model.zero_grad()

    def sample(self, iterations: int, z0: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            return self.solution(iterations, z0)

    @property
    def images(self) -> int:
        return len(self.batch.x)

    def saved_bytes(self, n: int, m: int) -> float:
        return saved_bytes(self.model, partial(self.loss, n, m)) / self.images


class Ours(Subject):
    """An FPDM or DiT of `fpdm.models`."""

    def __init__(self, model: DiffusionTransformer, batch: Batch) -> None:
        super().__init__(batch)
        self.model = model

    def value(self, n: int, m: int) -> Tensor:
        solver = partial(stochastic_jfb(n, m).solve, n=n, m=m)
        return self.model(self.batch.x, self.batch.t, self.batch.y, solver=solver).value

    def solution(self, iterations: int, z0: Tensor | None) -> Tensor:
        solver = partial(solve, solver=Picard(), stop=Stop(iterations))
        return self.model(self.batch.x, self.batch.t, self.batch.y, solver=solver, z0=z0).solution.z


class Straightforward(Subject):
    """The same FPDM in a straightforward implementation."""

    def __init__(self, model: StraightforwardFPDM, batch: Batch) -> None:
        super().__init__(batch)
        self.model = model

    def value(self, n: int, m: int) -> Tensor:
        return self.model(self.batch.x, self.batch.t, self.batch.y, n=n, m=m)[0]

    def solution(self, iterations: int, z0: Tensor | None) -> Tensor:
        return self.model(self.batch.x, self.batch.t, self.batch.y, n=0, m=iterations, start=z0)[1]


RENAMED = {
    "x_embedder.proj": "patch_embedder",
    "t_embedder.mlp": "timestep_embedder",
    "y_embedder.embedding_table": "label_embedder",
    "middle.injection.project": "projection",
    "middle.injection.fc1": "fixed_point.combine.0",
    "middle.injection.fc2": "fixed_point.combine.2",
    "middle.cell.0": "fixed_point.block",
    "head.adaLN_modulation": "final_modulation",
    "head.linear": "final",
    "adaLN_modulation": "modulation",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
}


def renamed(name: str) -> str:
    """Return the straightforward FPDM's name of one of our weights."""
    for ours, theirs in RENAMED.items():
        name = name.replace(ours, theirs)
    return name


def straightforward_twin(model: DiffusionTransformer) -> StraightforwardFPDM:
    """Create the straightforward FPDM with the weights of `model`, which must have the paper's architecture."""
    shape = model.shape
    assert (shape.middle_blocks, shape.injection, shape.timestep_everywhere) == (1, "mlp", False)
    twin = StraightforwardFPDM(
        image_size=shape.image_size,
        in_channels=shape.in_channels,
        out_channels=shape.in_channels * (2 if shape.learn_variance else 1),
        patch_size=shape.patch_size,
        width=shape.width,
        heads=shape.heads,
        num_classes=shape.num_classes,
        pre_blocks=shape.pre_blocks,
        post_blocks=shape.post_blocks,
    ).to(model.device, model.dtype)
    twin.load_state_dict({renamed(name): weight for name, weight in model.state_dict().items()})
    return twin


class Models(NamedTuple):
    """The models to compare."""

    fpdm: Subject
    straightforward: Subject
    dit: Subject


def models(shape: TransformerConfig, batch_size: int, device: torch.device) -> Models:
    """Create the FPDM of this shape and the two models to compare it with, with random nonzero weights."""
    batch = Batch.random(shape, batch_size, device)
    rng = torch.Generator().manual_seed(0)
    fpdm, dit = (DiffusionTransformer.from_shape(s) for s in (shape, as_dit(shape, DEPTH)))
    for parameter in (*fpdm.parameters(), *dit.parameters()):
        nn.init.normal_(parameter, std=0.02, generator=rng)
    for model in (fpdm, dit):
        nn.Module.to(model, device)
    ours, theirs = Ours(fpdm, batch), Straightforward(straightforward_twin(fpdm), batch)
    # The ratios are meaningful only if both models compute the same function.
    torch.testing.assert_close(ours.value(1, 2), theirs.value(1, 2), rtol=1e-4, atol=1e-5)
    return Models(ours, theirs, Ours(dit, batch))


def in_turn(steps: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Time each step once per round, after a warm-up round: seconds, (steps, rounds)."""
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds + 1):
        for step, taken in zip(steps, seconds, strict=True):
            start = time.perf_counter()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
    return [taken[1:] for taken in seconds]


def memory_of_stochastic_jfb(subject: Subject, limit: int) -> TrainingMemory:
    """Measure the saved bytes over all draws of S-JFB with N = M = `limit`.

    Of n it only matters whether it is 0, which has the probability 1 / (N + 1).
    """
    none, some = ([subject.saved_bytes(n, m) for m in range(1, limit + 1)] for n in (0, 1))
    assert subject.saved_bytes(limit, limit) == some[-1], "the iterations without gradient saved something"
    mean = (sum(none) + limit * sum(some)) / (limit + 1) / limit
    return TrainingMemory(mean, max(none + some))


def training_rows(compared: Models, limit: int, rounds: int) -> list[Row]:
    """Measure a training step with N = M = `limit`."""
    fpdm, plain = (memory_of_stochastic_jfb(subject, limit) for subject in compared[:2])
    deep = compared.dit.saved_bytes(0, 1)
    # The means of n and m are N / 2 and (M + 1) / 2.
    draws = ((limit // 2, (limit + 1) // 2), ((limit + 1) // 2, (limit + 2) // 2))
    seconds = np.divide(in_turn([partial(subject.train, draws) for subject in compared], rounds), len(draws))
    name = f"a training step, N = M = {limit}"
    return [
        Row.of(f"saved bytes of {name}, mean over draws", [[fpdm.mean], [plain.mean], [deep]]),
        Row.of(f"saved bytes of {name}, largest draw", [[fpdm.largest], [plain.largest], [deep]]),
        Row.of(f"seconds of {name}, at the mean draw", seconds.tolist()),
    ]


def sampling_rows(compared: Models, iterations: int, rounds: int) -> list[Row]:
    """Measure a sampling step with this many iterations."""
    steps = [partial(subject.sample, iterations) for subject in compared]
    for subject, step in zip(compared, steps, strict=True):
        assert saved_bytes(subject.model, step) == 0, "sampling saved something for a backward pass"
    runs = [*(partial(sample_with_reuse, subject, iterations) for subject in compared[:2]), steps[2]]
    peaks = [[peak_bytes(run) / subject.images] for subject, run in zip(compared, runs, strict=True)]
    name = f"a sampling step, {iterations} iteration{'s' if iterations > 1 else ''}"
    return [Row.of(f"seconds of {name}", in_turn(steps, rounds)), Row.of(f"peak bytes of {name}", peaks)]


def sample_with_reuse(subject: Subject, iterations: int) -> None:
    """Take two sampling steps, the second from the solution of the first."""
    subject.sample(iterations, subject.sample(iterations))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=21)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = replace(preset("fpdm-fashion"), width=arguments.width)
    compared, rounds = models(shape, arguments.batch, device), arguments.rounds
    rows = [row for limit in LIMITS for row in training_rows(compared, limit, rounds)]
    rows += [row for iterations in ITERATIONS for row in sampling_rows(compared, iterations, rounds)]
    print(f"{'':<66}{'/ straightforward':<24}/ DiT")
    for row in rows:
        print(f"{row.what:<66}{row.over_straightforward!s:<24}{row.over_dit}")
    record = {
        "command": f"python -m benchmarks.steps --width {arguments.width} --batch {arguments.batch}"
        f" --rounds {arguments.rounds}",
        "machine": torch.cuda.get_device_name()
        if device.type == "cuda"
        else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rows": [asdict(row) for row in rows],
    }
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
