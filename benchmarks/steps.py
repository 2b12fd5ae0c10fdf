"""Seconds and saved bytes of a training step, and seconds of a sampling step: FPDM over DiT, as ratios within one run.

    python benchmarks/steps.py --out benchmarks/steps.json

The models have one width; the DiT has 28 blocks, the FPDM one before, one after and one iterated. Saved bytes are what
autograd keeps for the backward pass, each storage counted once, without the parameters: the part of training memory
that the network decides.
Every (n, m) of stochastic JFB is measured once for bytes, so that the mean and the maximum over draws are exact.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from fpdm.diffusion import Objective, Schedule
from fpdm.fixed_point import FixedPointSolver, JacobianFree, Picard, Stop, solve, stochastic_jfb
from fpdm.models import DiffusionTransformer, as_dit, preset

BATCH = 32
REPEATS = 7


@dataclass(frozen=True)
class Ratio:
    """A measurement of FPDM beside DiT's: `fpdm / dit` is the claim, the absolute values are this machine's."""

    what: str
    fpdm: float
    dit: float

    @property
    def ratio(self) -> float:
        return self.fpdm / self.dit


class Case:
    """A model with a batch to train on."""

    def __init__(self, model: DiffusionTransformer, device: torch.device) -> None:
        self.model = model.to(device)  # type: ignore[arg-type]
        for parameter in self.model.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        shape, rng = model.shape, torch.Generator().manual_seed(0)
        size = (BATCH, shape.in_channels, shape.image_size, shape.image_size)
        self.x0 = torch.randn(size, generator=rng).to(device)  # (B, C, H, W)
        self.eps = torch.randn(size, generator=rng).to(device)  # (B, C, H, W)
        self.t = torch.randint(0, 1000, (BATCH,), generator=rng).to(device)  # (B,)
        self.y = torch.zeros(BATCH, dtype=torch.long, device=device)  # (B,)

    def loss(self, solver: FixedPointSolver) -> Tensor:
        schedule = Schedule()
        x = schedule.add_noise(self.x0, self.eps, self.t)  # (B, C, H, W)
        p = self.model(x, self.t, self.y, solver=solver)
        return Objective().loss(schedule, p.value, p.variance, x, self.x0, self.eps, self.t).total.mean()

    def train(self, solver: FixedPointSolver) -> None:
        self.loss(solver).backward()
        self.model.zero_grad()

    def evaluate(self, iterations: int) -> None:
        with torch.no_grad():
            self.model(self.x0, self.t, self.y, solver=partial(solve, solver=Picard(), stop=Stop(iterations)))

    def saved_bytes(self, solver: FixedPointSolver) -> int:
        kept = {p.untyped_storage().data_ptr() for p in self.model.parameters()}
        found: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in kept:
                found[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = self.loss(solver)  # alive while its storages are counted
        total = sum(found.values())
        del loss
        return total


def seconds(run: Callable[[], None], device: torch.device) -> float:
    """The median over repeats, after one to warm up."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def measure(width: int, device: torch.device) -> list[Ratio]:
    shape = replace(preset("fpdm-fashion"), width=width)
    fpdm = Case(DiffusionTransformer.from_shape(shape), device)
    dit = Case(DiffusionTransformer.from_shape(as_dit(shape, 28)), device)
    rows: list[Ratio] = []
    plain = stochastic_jfb(0, 1).bind(0, 0)
    dit_bytes, dit_seconds = dit.saved_bytes(plain), seconds(lambda: dit.train(plain), device)
    for N in (3, 6, 12):
        gradient: JacobianFree = stochastic_jfb(N, N)
        kept = [fpdm.saved_bytes(partial(gradient.solve, n=0, m=m)) for m in range(1, N + 1)]
        deep = fpdm.saved_bytes(partial(gradient.solve, n=N, m=N))
        assert deep == kept[-1], "the iterations without gradient saved something"
        rows.append(
            Ratio(f"saved bytes of a training step, N = M = {N}, mean over draws", statistics.mean(kept), dit_bytes)
        )
        rows.append(Ratio(f"saved bytes of a training step, N = M = {N}, largest draw", max(kept), dit_bytes))
        # The cost is linear in n and in m, so the step at their means costs the mean.
        low, high = N // 2, -(-N // 2)
        times = [
            seconds(partial(fpdm.train, partial(gradient.solve, n=n, m=m)), device)
            for n, m in ((low, (N + 1) // 2), (high, (N + 2) // 2))
        ]
        rows.append(
            Ratio(f"seconds of a training step, N = M = {N}, at the mean draw", statistics.mean(times), dit_seconds)
        )
    evaluation = seconds(partial(dit.evaluate, 1), device)
    for iterations in (1, 5, 26):
        mine = seconds(partial(fpdm.evaluate, iterations), device)
        rows.append(Ratio(f"seconds of a sampling step, {iterations} iterations", mine, evaluation))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--width", type=int, default=128)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = measure(arguments.width, device)
    for row in rows:
        print(f"{row.what:<66}{row.ratio:>8.3f}")
    record = {
        "command": f"python benchmarks/steps.py --width {arguments.width}",
        "machine": torch.cuda.get_device_name()
        if device.type == "cuda"
        else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "batch": BATCH,
        "rows": [{**asdict(row), "ratio": round(row.ratio, 4)} for row in rows],
    }
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
