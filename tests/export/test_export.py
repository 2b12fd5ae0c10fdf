"""An exported model, run by numpy and onnxruntime, draws what `fpdm sample` draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fpdm.export.export as export
from fpdm.diffusion.schedule import Schedule
from fpdm.errors import RunError
from fpdm.export.export import Exported, export_model
from fpdm.export.graphs import Graph
from fpdm.models.config import as_dit
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.pretrained import load_model, recipe_without_data
from fpdm.runs.progress import Progress
from fpdm.runs.run import Run
from fpdm.sampling.plan import Plan
from tests.pipelines import SHAPE, network


def run_of(model: DiffusionTransformer, schedule: Schedule | None = None) -> Run:
    from fpdm.autoencoder.config import AutoencoderConfig

    recipe = recipe_without_data("tiny", model.shape, schedule or Schedule(), AutoencoderConfig())
    return Run(recipe, model, Progress(), "0" * 64)


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    out = tmp_path_factory.mktemp("fashion") / "out"
    export_model(load_model("fpdm-fashion"), Plan(budget=140), out)
    return out


@pytest.fixture(scope="module")
def dit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    out = tmp_path_factory.mktemp("dit") / "out"
    schedule = Schedule(prediction="epsilon", zero_terminal_snr=False)
    export_model(run_of(network(as_dit(SHAPE, 4)), schedule), Plan(budget=16, sampler="second-order"), out)
    return out


def drawn(run: Run, plan: Plan, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """What PyTorch draws: images (B, C, H, W) before they are rounded, and as pixels."""
    sampler, indices = run.sampler(plan, seed=seed, device=torch.device("cpu")), range(count)
    labels = [index % 3 for index in indices]
    *_, last = sampler.trajectory(indices, labels)
    return sampler.decode(last.x).numpy(), sampler(indices, labels).pixels.numpy()


def as_pixels(images: np.ndarray) -> np.ndarray:
    return np.round((images.clip(-1, 1) + 1) * 127.5)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("iterations", [1, 5, 20])
def test_it_draws_what_pytorch_draws(fashion: Path, iterations: int, batch: int) -> None:
    from tests.oracle.onnx_sampler import OnnxSampler

    run, other = load_model("fpdm-fashion"), OnnxSampler(fashion)
    plan = Plan(budget=4 * (2 + iterations), iterations=iterations)
    sampler = run.sampler(plan)
    expected, pixels = drawn(run, plan, seed=3, count=batch)
    labels = [index % 3 for index in range(batch)]
    settled = {"timesteps": [*sampler.timesteps], "table": [*sampler.table]}
    found = other(3, [*range(batch)], labels, **settled)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert other.evaluations == 4 * iterations
    assert np.abs(as_pixels(found) - pixels).max() <= 1


CHANGES: list[dict[str, Any]] = [
    {"reuse": False, "allocation": "increasing"},
    {"guidance": 2.0, "sampler": "second-order", "allocation": "decreasing"},
    {"self_guidance": 1.0, "grid": "phi^1.5"},
    {"self_guidance": 0.5, "weak_depth": 0, "guidance": 1.5, "grid": "linspace"},
]


@pytest.mark.slow
@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_its_record_of_a_plan_is_enough_to_follow_it(fashion: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """The graphs are the same for every plan, so that only the record is made again."""
    from tests.oracle.onnx_sampler import OnnxSampler

    run, plan = load_model("fpdm-fashion"), Plan(budget=70, iterations=5, **changes)
    record = json.loads((fashion / "model.json").read_text())
    assert next(iter(record)) == "fpdm"  # its version, as in every file
    record |= export._describe(run, run.sampler(plan, device=torch.device("cpu")))
    for path in fashion.glob("*.onnx"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "model.json").write_text(json.dumps(record))
    expected, _ = drawn(run, plan, seed=0, count=2)
    np.testing.assert_allclose(OnnxSampler(tmp_path)(0, [0, 1], [0, 1]), expected, atol=1e-3)


@pytest.mark.slow
def test_a_dit_is_exported_with_its_stack_applied_once(dit: Path) -> None:
    from tests.oracle.onnx_sampler import OnnxSampler

    other, model = OnnxSampler(dit), network(as_dit(SHAPE, 4))
    run = run_of(model, Schedule(prediction="epsilon", zero_terminal_snr=False))
    assert other.record["cost"]["applications"] == 1
    assert other.record["cost"]["passes_per_application"] == 2
    assert other.record["plan"]["table"] == [1] * 4
    expected, _ = drawn(run, Plan(budget=16, sampler="second-order"), seed=0, count=2)
    # Where a DiT's schedule begins, x0 is its prediction divided by 0.006.
    np.testing.assert_allclose(other(0, [0, 1], [0, 1]), expected, atol=1e-3)


@pytest.mark.slow
def test_a_folder_keeps_an_export_of_other_settings(dit: Path) -> None:
    run = run_of(network(as_dit(SHAPE, 4)), Schedule(prediction="epsilon", zero_terminal_snr=False))
    before = {path.name: path.read_bytes() for path in dit.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match="an export with another plan; choose another folder, or replace it with"):
        export_model(run, Plan(budget=20), dit)
    assert {path.name: path.read_bytes() for path in dit.iterdir() if path.is_file()} == before
    done = export_model(run, Plan(budget=20), dit, weights="int8", overwrite=True)
    assert json.loads((dit / "model.json").read_text())["plan"]["budget"] == 20
    assert done.sizes == {path.stem: path.stat().st_size for path in dit.glob("*.onnx")}
    assert "weights of int8" in done.to_text()


@pytest.mark.slow
def test_graphs_that_are_wrong_are_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    write = export.write_graph

    def wrong(graph: Graph, folder: Path, weights: Any) -> Path:
        for weight in graph.module.parameters():
            weight.data *= 1.01
        return write(graph, folder, weights)

    before = network(SHAPE)
    monkeypatch.setattr(export, "write_graph", wrong)
    monkeypatch.setattr(export, "evaluate", lambda graphs, x, t, y, count: before(x, t, y).value)
    with pytest.raises(RunError, match="the exported graphs differ from the model by"):
        export_model(run_of(network(SHAPE)), Plan(budget=14), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_stack_has_no_answer_of_half_its_blocks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="weak_depth is 1, but the graphs of a stack of blocks end with all of it"):
        export_model(run_of(network(as_dit(SHAPE, 4))), Plan(budget=16, self_guidance=1.0, weak_depth=1), tmp_path)
    assert not [*tmp_path.iterdir()]


def test_the_summary_gives_every_size(tmp_path: Path) -> None:
    text = Exported(tmp_path, "float32", {"start": 1_500_000, "finish": 500_000}, 1e-6).to_text()
    assert "2.00 MB with weights of float32 (start 1.50 MB, finish 0.50 MB)" in text
