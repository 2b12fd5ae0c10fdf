"""What was tried for the rows of `benchmarks.speed` that miss their bounds, and where their time goes.

    python -m benchmarks.attempts --out results/speed/attempts.json

A sampling step is compared with its floor as in `benchmarks.speed`: with the plain layers, with packed ones as on a CPU
(`sampling/packed.py`), compiled as `--compile` does, and in ways that the package does not offer. "Frozen" takes the
weights as constants, which Inductor packs; "tuned" besides chooses among C++ templates of matrix products that end with
what follows them. In these two, weights that change later are ignored.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed import ITERATIONS, SIZES, Floor, Size, random_weights
from benchmarks.steps import Batch, Ours, Ratio, in_turn
from fpdm.models.middle import FixedPointLayer
from fpdm.models.transformer import DiffusionTransformer
from fpdm.sampling.packed import packed

_TUNED = {"freezing": True, "max_autotune": True, "max_autotune_gemm_backends": "CPP,ATEN"}


class _Alone(nn.Module):
    """One iteration as a module whose parameters are constants to the compiler."""

    def __init__(self, layer: FixedPointLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, z: Tensor, context: Any) -> Tensor:
        return self.layer._iterate(z, context)  # (B, T, D)


def compiled(model: DiffusionTransformer) -> DiffusionTransformer:
    model.compile_iterations()
    return model


def frozen(model: DiffusionTransformer, options: dict[str, Any]) -> DiffusionTransformer:
    layer = model.middle
    assert isinstance(layer, FixedPointLayer)
    model.compile_iterations()  # of the pre and the post blocks
    layer.iterate = torch.compile(_Alone(layer).eval(), options=options)  # type: ignore[method-assign]
    return model


@torch.no_grad()
def tried(size: Size, rounds: int, *, compilers: bool = True) -> dict[str, dict[str, float]]:
    """Return the ratio of a step over the floor in each way."""
    batch = Batch.random(size.shape, size.batch, torch.device("cpu"))
    ways: dict[str, Callable[[DiffusionTransformer], DiffusionTransformer]] = {
        "plain": lambda model: model,
        "packed": packed,
    }
    if compilers:
        ways["compiled"] = compiled
        ways["frozen"] = functools.partial(frozen, options={"freezing": True})
        ways["tuned"] = functools.partial(frozen, options=_TUNED)
    steps: list[Callable[[], object]] = [
        functools.partial(Floor(size.shape, size.batch), size.shape.pre_blocks + size.shape.post_blocks, ITERATIONS)
    ]
    answers: list[Tensor] = []
    for change in ways.values():
        model = DiffusionTransformer.from_shape(size.shape).eval()
        random_weights(model)
        subject = Ours(change(model), batch)
        answers.append(subject.sample(ITERATIONS))
        steps.append(functools.partial(subject.sample, ITERATIONS))
    for name, answer in zip(ways, answers, strict=True):
        torch.testing.assert_close(answer, answers[0], rtol=1e-3, atol=1e-4, msg=f"{name} gives other values")
    floor, *taken = in_turn(steps, rounds)
    return {name: asdict(Ratio.of(seconds, floor)) for name, seconds in zip(ways, taken, strict=True)}


@torch.no_grad()
def profiled(
    size: Size, change: Callable[[DiffusionTransformer], DiffusionTransformer], *, most: int = 6
) -> dict[str, float]:
    """Return the shares of the time of the operators that take most of it."""
    model = DiffusionTransformer.from_shape(size.shape).eval()
    random_weights(model)
    subject = Ours(change(model), Batch.random(size.shape, size.batch, torch.device("cpu")))
    for _ in range(3):
        subject.sample(ITERATIONS)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(5):
            subject.sample(ITERATIONS)
    events = sorted(found.key_averages(), key=lambda one: -one.self_cpu_time_total)
    total = sum(one.self_cpu_time_total for one in events)
    names = {one: "fused by the compiler" if one.key.startswith("## Call") else one.key for one in events}
    shares: dict[str, float] = {}
    for one in events:
        shares[names[one]] = shares.get(names[one], 0.0) + one.self_cpu_time_total / total
    return {name: round(share, 4) for name, share in list(shares.items())[:most]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--sizes", type=int, choices=(1, 2, 3), default=2, help="how many sizes, the smallest first")
    arguments = parser.parse_args()
    record: dict[str, Any] = {
        "command": f"python -m benchmarks.attempts --rounds {arguments.rounds} --sizes {arguments.sizes}",
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "sizes": {},
    }
    for size in SIZES[-arguments.sizes :]:
        record["sizes"][size.name] = {
            "over_floor": tried(size, arguments.rounds),
            "profile": {"packed": profiled(size, packed), "compiled": profiled(size, compiled)},
        }
        print(size.name, json.dumps(record["sizes"][size.name], indent=1), flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
