"""The programs in examples/ run."""

from __future__ import annotations

import json
import os
import re
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.trained import train_fpdm_and_dit

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_fpdm_and_dit(tmp_path_factory.mktemp("runs"))["fpdm"]


SAYS = {
    "pipeline": "20 steps, 140 block passes\nrelative change",
    "scheduler": "UniPCMultistepScheduler: 10 evaluations, 70 block passes",
    "own_allocation": f"iterations by step: {(*[1] * 15, *[17] * 5)}; 140 block passes for each of 10 images",
    "deq_classifier": r"(9\d)% of 297 new digits are right, after \d\.\d iterations",
    "training_loop": r"step 60: loss 0\.[3-8]\d\d, [1-6] iterations",
    "own_data": "",
}
"""What each program prints: a text, or for those that train, an expression."""
IMAGES = {
    "pipeline": [f"pipeline-{i}.png" for i in range(10)],
    "scheduler": ["scheduler.png"],
    "own_data": ["square.png", "shapes"],
}
TRAIN = {"deq_classifier", "training_loop", "own_data"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in TRAIN else name for name in SAYS]
)
def test_an_example_runs(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, str(model)])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert re.search(SAYS[name], said) if name in TRAIN else SAYS[name] in said
    assert {path.name for path in tmp_path.iterdir()} == {*IMAGES.get(name, ())}
    assert all(Image.open(path).size == (8, 8) for path in tmp_path.glob("*.png"))


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*SAYS}


NOTEBOOK = EXAMPLES / "first-steps.ipynb"


def test_the_notebook_shows_what_its_cells_make_and_is_small() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    run = [cell for cell in cells if cell["cell_type"] == "code" and cell["metadata"].get("tags") != ["skip-execution"]]
    assert [cell["execution_count"] for cell in run] == [*range(1, len(run) + 1)]
    outputs = [output for cell in run for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 5
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert NOTEBOOK.stat().st_size < 300_000


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        cell.source = re.sub(r"--steps \d+", "--steps 2", cell.source)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any("image/png" in output.get("data", {}) for output in notebook.cells[-2].outputs)
