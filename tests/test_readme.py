"""Every command of README.md runs, in the order in which it stands, beginning in a folder that has photos.

What would take long or need a network is shortened by `SHORTER`; everything else runs as it is written. The
installation itself is tried by `make package`, in environments of its own.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fpdm.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
QUICK = "--num-images 60 --choosing-images 20 --grids trailing --iterations 2 --allocations constant"
SHORTER = {
    r"--num-images \d+": "--num-images 3",
    r"--seconds \d+": "--seconds 2",
    r"--minutes \d+": "--minutes 1",
    r"git clone --depth 1 REPOSITORY fpdm": f"git clone --quiet --depth 1 'file://{ROOT}' fpdm",
    # The environment of this test stands for the new one.
    r"python3 -m venv \.venv && .*": f"mkdir .venv && ln -s '{BIN}' .venv/bin && touch .venv/runtime && mv ../photos .",
    r"pip install .*": "true",
    r"make quickstart": f"make quickstart SECONDS_EACH=2 COMPARE='--budgets 56 {QUICK}'",
    r"--budgets 140 280": f"--budgets 56 {QUICK}",
}
"""Expressions and what replaces them."""


def steps() -> list[tuple[str, str]]:
    """Return the kind and the text of every step: a block of Python, or a line of shell, shortened."""
    found = []
    for language, block in re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL):
        for text in [block] if language == "python" else re.sub(r"\s*\\\n\s*", " ", block).splitlines():
            for expression, shorter in SHORTER.items() if language == "sh" else ():
                text = re.sub(expression, lambda _, shorter=shorter: shorter, text)
            found.append((language, text))
    return found


def test_all_blocks_are_shell_or_python_and_every_replacement_is_used() -> None:
    assert {*re.findall(r"^```(.*)$", README, re.MULTILINE)} == {"sh", "python", ""}
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    assert all(re.search(expression, shell) for expression in SHORTER)
    assert {re.match(r"[a-z]+", text)[0] for kind, text in steps() if kind == "sh"} == {  # type: ignore[index]
        "git",
        "mkdir",
        "true",
        "fpdm",
        "make",
    }


@pytest.mark.slow
def test_every_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):  # blots of two colours
        path = tmp_path / "photos" / ("red", "blue")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 99, (40, 48, 3), dtype=np.uint8)  # (H, W, C)
        pixels[8:32, 8:40, 2 * (number % 2)] += 150
        Image.fromarray(pixels).save(path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for language, text in steps():
        print(f"README: {text}", flush=True)  # shown with a failure
        if text.startswith("fpdm export ") and find_spec("onnx") is None:  # the extra that README installs before
            continue
        if language == "python":
            exec(text, names)
        elif text.startswith("fpdm "):
            assert main(shlex.split(text, comments=True)[1:]) == 0, text
        else:
            done = subprocess.run(["bash", "-ec", f"{text.partition('  #')[0]} && pwd"], capture_output=True, text=True)
            assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            os.chdir(done.stdout.split("\n")[-2])
    samples = ("clothes", "digits", "sharper-digits", "photos-samples")
    reports = ("quickstart/compare", "comparison")
    made = [*(f"{name}/grid.png" for name in samples), *(f"{name}/report.html" for name in reports)]
    made += ["sneaker.png", "latent-model/recipe.json"]
    assert [name for name in made if not (tmp_path / "fpdm" / name).is_file()] == []
