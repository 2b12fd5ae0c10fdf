"""Benchmark of cold starts: time and memory from the start of a process to the first image, FPDM-XL/2 against DiT.

    python -m benchmarks.cold --out results/speed/cold.json

Both have random weights in float32 and 3 channels, so that no autoencoder is needed, and make one image with 28 block
passes, which is one step of the DiT. Each start is `fpdm sample` in a new process: it imports, loads the weights,
samples and writes one PNG. The limit is RLIMIT_DATA, on all private writable memory; the smallest that a model
survives is found by bisection, and the times are compared under that of the larger model.

Then both start with weights of 32, 16 and 8 bits in memory (see `bits.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.bits import BITS
from benchmarks.steps import Ratio
from fpdm.diffusion.schedule import Schedule
from fpdm.drawing.plots import Curve, Curves, Panel, save_svg_and_png
from fpdm.models.config import TransformerConfig, preset
from fpdm.models.transformer import DiffusionTransformer

_LIMITED = """
import resource, sys
limit = int(sys.argv[1]) << 20
if limit:
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
"""
_SAMPLE = f"""{_LIMITED}
from fpdm.cli import main
out, model = sys.argv[2:]
sys.exit(main(["sample", model, *"--num-images 1 --batch-size 1 --budget 28 --out".split(), out]))
"""
_SAMPLE_BITS = f"""{_LIMITED}
from benchmarks.bits import sample_bits
out, model, bits = sys.argv[2:]
sample_bits(model, int(bits), out)
"""
KINDS = ("fpdm", "dit")
MOST = 16 * 2**10  # MiB


@dataclass(frozen=True)
class Start:
    """One cold start.

    Attributes:
        seconds: Seconds from the start of the process to its end.
        mebibytes: Peak resident memory.
        survived: Whether it made the image.
    """

    seconds: float
    mebibytes: float
    survived: bool


def start(script: str, limit: int, *words: object) -> Start:
    """Make one image in a new process whose data may take `limit` MiB; 0 is no limit.

    Args:
        script: What the process runs. Its arguments are the limit, a folder for the image, and `words`.
        limit: The limit.
        words: Other arguments.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "images"
        begun = time.perf_counter()
        command = [sys.executable, "-c", script, str(limit), str(out), *map(str, words)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - begun
        survived = child.returncode == 0 and (out / "000000.png").exists()
        return Start(seconds, usage.ru_maxrss / 1024, survived)


def smallest_limit(begin: Callable[[int], Start], most: int = MOST) -> int:
    """Return the smallest limit in MiB that a start survives, to 3 %.

    Raises:
        RuntimeError: It does not even survive `most`.
    """
    if not begin(most).survived:
        raise RuntimeError(f"no image with {most:,} MiB")
    low, high = 0, most
    while high - low > 0.03 * high:
        middle = (low + high) // 2
        low, high = (low, middle) if begin(middle).survived else (middle, high)
    return high


def shape_of(name: str) -> TransformerConfig:
    """Return the shape of a model of pixels of this size."""
    return replace(preset(name), in_channels=3)


def save_random(name: str, folder: Path) -> Path:
    """Save a pipeline of random weights."""
    from fpdm.pipeline import FPDMPipeline
    from fpdm.sampling.schedulers import default_scheduler

    scheduler, path = default_scheduler(Schedule(), clip=True), folder / name.replace("/", "-")
    FPDMPipeline(DiffusionTransformer.from_shape(shape_of(name)), scheduler, name=name).save_pretrained(path)
    return path


def by_bits(model: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Measure starts with weights of 32, 16 and 8 bits: their smallest limit, and seconds and memory without one."""
    found = {}
    for bits in BITS:
        limit = smallest_limit(lambda limit, bits=bits: start(_SAMPLE_BITS, limit, model, bits))
        free = [start(_SAMPLE_BITS, 0, model, bits) for _ in range(rounds)]
        seconds, memory = (statistics.median(getattr(one, name) for one in free) for name in ("seconds", "mebibytes"))
        found[str(bits)] = {"smallest_limit": limit, "seconds": seconds, "mebibytes": memory}
    return found


def plot(record: dict[str, Any]) -> Curves:
    """Return seconds over the smallest limit of both models, a dot for each number of bits."""
    rows = {kind: [record["bits"][kind][str(bits)] for bits in BITS] for kind in KINDS}
    curves = [
        Curve(kind, [row["smallest_limit"] for row in found], [row["seconds"] for row in found])
        for kind, found in rows.items()
    ]
    panel = Panel("smallest memory limit, MiB", curves)
    return Curves([panel], KINDS, ("FPDM", "DiT"), "seconds to the first image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", default="xl/2", help="size and patch of both models")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = [save_random(f"{kind}-{arguments.size}", Path(folder)) for kind in KINDS]
        limits = [smallest_limit(lambda limit, one=one: start(_SAMPLE, limit, one)) for one in models]
        free = [start(_SAMPLE, 0, one) for one in models]
        taken: list[list[float]] = [[], []]
        for _ in range(arguments.rounds):
            for one, seconds in zip(models, taken, strict=True):
                seconds.append(start(_SAMPLE, max(limits), one).seconds)
        bits = {kind: by_bits(model, arguments.rounds) for kind, model in zip(KINDS, models, strict=True)}
    record = {
        "command": f"python -m benchmarks.cold --size {arguments.size} --rounds {arguments.rounds}",
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "smallest_limit": dict(zip(KINDS, limits, strict=True)),
        "limit_ratio": round(limits[0] / limits[1], 4),
        "without_limit": {name: asdict(one) for name, one in zip(KINDS, free, strict=True)},
        "seconds": dict(zip(KINDS, taken, strict=True)),
        "dit_over_fpdm": asdict(Ratio.of(taken[1], taken[0])),
        "bits": bits,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    save_svg_and_png(plot(record), arguments.out)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
