"""Build the package and try it in clean environments, one for each Python: `make package`.

What is tried is what a user does first: install the wheel, `fpdm --help`, `fpdm sample` of the shipped model, and the
pipeline in three lines. The record says how long each took and what the environment weighs. This file needs nothing
but the standard library, so that any Python can run it; `--wheel` takes a wheel that is built already.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PIPELINE = """
from fpdm import FPDMPipeline
pipe = FPDMPipeline.from_pretrained("fpdm-fashion")
pipe(0, budget=140).images[0].save("pipeline.png")
"""
_SHOWN = (
    "torch",
    "torchvision",
    "diffusers",
    "accelerate",
    "numpy",
    "scikit-learn",
    "matplotlib",
    "pillow",
    "pydantic",
)


def build(source: Path, out: Path) -> Path:
    """Build the source distribution and, from it, the wheel, which is returned."""
    run([sys.executable, "-m", "build", "--outdir", str(out), str(source)], out)
    return next(out.glob("*.whl"))


def missing(wheel: Path, source: Path) -> list[str]:
    """Return the files of the package, as git has them, that a wheel lacks."""
    listed = run(["git", "ls-files", "src/fpdm"], source).stdout.splitlines()
    return sorted({name.removeprefix("src/") for name in listed} - {*zipfile.ZipFile(wheel).namelist()})


def run(words: Sequence[str], folder: Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, without what this environment would lend to it."""
    lent = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
    surroundings = {name: value for name, value in os.environ.items() if name not in lent}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=surroundings, check=False)
    if check and done.returncode:
        raise SystemExit(f"{shlex.join(words)} exited {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done


def cpu_seconds() -> float:
    """Return the CPU time of all commands so far."""
    times = os.times()
    return times.children_user + times.children_system


def try_python(python: str, wheel: Path, install: str, folder: Path) -> dict[str, Any]:
    """Install a wheel in a new environment of a Python and use it there.

    Args:
        python: The interpreter.
        wheel: The wheel.
        install: Command that installs it, with `PYTHON` and `WHEEL` for the environment's interpreter and the wheel.
        folder: Where the environment is made; it is empty.

    Returns:
        Versions, seconds and seconds of CPU of each step, and megabytes of the environment.
    """
    environment, work = folder / "environment", folder / "work"
    work.mkdir()
    run([python, "-m", "venv", str(environment)], work)
    inside = environment / ("Scripts" if os.name == "nt" else "bin")
    words = [
        word.replace("PYTHON", str(inside / "python")).replace("WHEEL", str(wheel)) for word in shlex.split(install)
    ]
    steps = {
        "install": words,
        "fpdm --help": [str(inside / "fpdm"), "--help"],
        "fpdm sample, first time": [str(inside / "fpdm"), "sample", "fpdm-fashion", "--num-images", "4", "--out", "a"],
        "fpdm sample, second time": [
            str(inside / "fpdm"),
            "sample",
            "fpdm-fashion",
            "--num-images",
            "40",
            "--out",
            "b",
        ],
        "pipeline in three lines": [str(inside / "python"), "-c", PIPELINE],
    }
    seconds, of_cpu = {}, {}  # what else the machine does makes the first longer, and hardly the second
    for name, step in steps.items():
        begin, used = time.monotonic(), cpu_seconds()
        run(step, work)
        seconds[name], of_cpu[name] = round(time.monotonic() - begin, 1), round(cpu_seconds() - used, 1)
    made = [*work.glob("a/*.png"), *work.glob("b/*.png"), work / "pipeline.png"]
    assert len(made) == 4 + 1 + 40 + 1 + 1, made
    versions = json.loads(run([str(inside / "python"), "-c", _VERSIONS], work).stdout)
    size = sum(path.lstat().st_size for path in environment.rglob("*") if path.is_file() and not path.is_symlink())
    return {**versions, "megabytes": size // 10**6, "seconds": seconds, "cpu_seconds": of_cpu}


_VERSIONS = f"""
import importlib.metadata as m, json, platform
print(json.dumps({{"python": platform.python_version(), "versions": {{name: m.version(name) for name in {_SHOWN!r}}}}}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", nargs="+", default=[sys.executable], help="interpreters")
    parser.add_argument("--install", default="PYTHON -m pip install --quiet WHEEL", help="how the wheel is installed")
    parser.add_argument("--wheel", type=Path, help="a wheel; by default it is built")
    parser.add_argument("--note", default="", help="what to record about the machine")
    parser.add_argument("--out", type=Path, help="record, as JSON, to which rows are added")
    settings = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        wheel = settings.wheel
        if wheel is None:
            wheel = build(ROOT, Path(temporary))
            if lacks := missing(wheel, ROOT):
                raise SystemExit(f"the wheel lacks {lacks}")
        about = {
            "wheel": wheel.name,
            "wheel_megabytes": round(wheel.stat().st_size / 1e6, 2),
            "install": settings.install,
            "machine": f"{platform.system()}, {platform.machine()}, {os.cpu_count()} cores",
            "note": settings.note,
        }
        for python in settings.python:
            with tempfile.TemporaryDirectory(dir=temporary) as folder:
                row = {**try_python(python, wheel.resolve(), settings.install, Path(folder)), **about}
            print(json.dumps(row), flush=True)
            if settings.out:
                rows = json.loads(settings.out.read_text()) if settings.out.exists() else []
                settings.out.write_text(json.dumps([*rows, row], indent=1) + "\n")


if __name__ == "__main__":
    main()
