"""Benchmark of cold starts: time and memory from the start of a process to the first image, FPDM-XL/2 against DiT.

    python -m benchmarks.cold --out results/speed/cold.json

Both have random weights in float32 and 3 channels, so that no autoencoder is needed, and make one image with 28 block
passes, which is one step of the DiT. Each start is `fpdm sample` in a new process: it imports, loads the weights,
samples and writes one PNG. The limit is RLIMIT_DATA, on all private writable memory; the smallest that a model
survives is found by bisection, and `both` is the limit of the larger model, under which the times are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from benchmarks.steps import Ratio
from fpdm.diffusion.schedule import Schedule
from fpdm.models.config import preset
from fpdm.models.transformer import DiffusionTransformer
from fpdm.pipeline import FPDMPipeline
from fpdm.sampling.schedulers import default_scheduler

_CHILD = """
import resource, sys
limit = int(sys.argv[1]) << 20
if limit:
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
from fpdm.cli import main
sys.exit(main(sys.argv[2:]))
"""


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


def start(model: Path, limit: int) -> Start:
    """Make one image in a new process whose data may take `limit` MiB; 0 is no limit."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["sample", model, "--out", f"{folder}/images", "--num-images", 1, "--batch-size", 1, "--budget", 28]
        command = [sys.executable, "-c", _CHILD, str(limit), *map(str, words)]
        begun = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        return Start(time.perf_counter() - begun, usage.ru_maxrss / 1024, child.returncode == 0)


def smallest_limit(model: Path, most: int) -> int:
    """Return the smallest limit in MiB that a model survives, to 3 %."""
    low, high = 0, most
    while high - low > 0.03 * high:
        middle = (low + high) // 2
        low, high = (low, middle) if start(model, middle).survived else (middle, high)
    return high


def save_random(name: str, folder: Path) -> Path:
    """Save a pipeline of random weights."""
    shape = replace(preset(name), in_channels=3)
    scheduler, path = default_scheduler(Schedule(), clip=True), folder / name.replace("/", "-")
    FPDMPipeline(DiffusionTransformer.from_shape(shape), scheduler, name=name).save_pretrained(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", default="xl/2", help="size and patch of both models")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fpdm, dit = (save_random(f"{kind}-{arguments.size}", Path(folder)) for kind in ("fpdm", "dit"))
        limits = [smallest_limit(one, 16 * 2**10) for one in (fpdm, dit)]
        free = [start(one, 0) for one in (fpdm, dit)]
        taken: list[list[float]] = [[], []]
        for _ in range(arguments.rounds):
            for one, seconds in zip((fpdm, dit), taken, strict=True):
                seconds.append(start(one, max(limits)).seconds)
    record = {
        "command": f"python -m benchmarks.cold --size {arguments.size} --rounds {arguments.rounds}",
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "smallest_limit": dict(zip(("fpdm", "dit"), limits, strict=True)),
        "limit_ratio": round(limits[0] / limits[1], 4),
        "without_limit": {name: asdict(one) for name, one in zip(("fpdm", "dit"), free, strict=True)},
        "seconds": dict(zip(("fpdm", "dit"), taken, strict=True)),
        "dit_over_fpdm": asdict(Ratio.of(taken[1], taken[0])),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
