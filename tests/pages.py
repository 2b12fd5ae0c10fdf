"""The code in the pages for people: what it is, what is made shorter for a test, and how it runs.

A block that no test can run says above itself what it needs: `*Needs ImageNet and 8 GPUs.*`
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from fpdm.cli import main

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
_BLOCK = re.compile(r"(?:^\*Needs ([^*\n]+)\.\*\n\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: What is written behind its fence.
        text: What it holds.
        needs: What the page says that it needs, which a test has not; empty for a block that runs.
    """

    language: str
    text: str
    needs: str

    @property
    def lines(self) -> list[str]:
        """The commands of a block of shell, each on one line without its comment; of Python, the whole block."""
        if self.language == "python":
            return [self.text]
        joined = re.sub(r"\s*\\\n\s*", " ", self.text).splitlines()
        return [re.sub(r"\s+# .*", "", line) for line in joined if line and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(language, code, needs) for needs, language, code in _BLOCK.findall(text)]


def shortened(text: str, shorter: Mapping[str, str]) -> str:
    """Replace expressions by what takes less time or is at hand."""
    for expression, replacement in shorter.items():
        text = re.sub(expression, replacement, text)
    return text


def run(page: str, steps: Iterable[tuple[str, str]]) -> None:
    """Run the steps of a page, each a language and a text, one after the other in the working folder."""
    names: dict[str, Any] = {}
    for language, text in steps:
        print(f"{page}: {text}", flush=True)  # shown with a failure
        words = shlex.split(text) if language == "sh" else []
        if language == "python":
            exec(text, names)
        elif words[0] == "fpdm":
            assert main(words[1:]) == 0, text
        elif words[0] == "python":
            with mock.patch.object(sys, "argv", words[1:]):
                runpy.run_path(words[1], run_name="__main__")
        else:
            _run_shell(text)


def _run_shell(text: str) -> None:
    """Run a line of shell, and stay in the folder that it has changed to."""
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
        "ACCELERATE_USE_CPU": "1",
    }
    done = subprocess.run(["bash", "-ec", f"{text} && pwd"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    os.chdir(done.stdout.split("\n")[-2])


def make_photos(folder: Path) -> None:
    """Write 60 images of 48 x 40 pixels: blots of two colours, with a sub-folder for each."""
    for number in range(60):
        path = folder / ("red", "blue")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 99, (40, 48, 3), dtype=np.uint8)  # (H, W, C)
        pixels[8:32, 8:40, 2 * (number % 2)] += 150
        Image.fromarray(pixels).save(path)
