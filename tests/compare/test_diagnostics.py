import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fpdm.compare.diagnostics import IMAGES, ITERATIONS, _losses, diagnose, residuals
from fpdm.fixed_point.solve import Solution
from fpdm.models.config import as_dit
from fpdm.models.transformer import DiffusionTransformer
from fpdm.randomness import Stream, normal
from fpdm.runs.progress import Progress
from fpdm.runs.run import Run
from tests.training.small import SHAPE, data, recipe


def run(**changes: object) -> Run:
    torch.manual_seed(0)
    model = DiffusionTransformer.from_shape(replace(SHAPE, **changes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return Run(recipe(), model.eval(), Progress(7, 1.0, 2.0), "")


def test_residuals_are_the_relative_changes_of_plain_iteration() -> None:
    one, images = run(), data()
    found = residuals(one, images, (999, 499))
    assert len(images) < IMAGES
    x0, y = images.batch(range(len(images)))
    for row, timestep in zip(found, (999, 499), strict=True):
        eps = normal(images.shape, seed=0, stream=Stream.VALIDATION, indices=range(len(images)), step=timestep)
        t = torch.full((len(images),), timestep)
        seen: list[float] = []

        def plain(f, z0, seen=seen):
            z = z0
            for _ in range(ITERATIONS):
                new = f(z)
                seen.append(float(((new - z).flatten(1).norm(dim=1) / new.flatten(1).norm(dim=1)).mean()))
                z = new
            return Solution(z, ITERATIONS)

        with torch.no_grad():
            one.model(one.recipe.schedule.add_noise(x0, eps, t), t, y, solver=plain)
        assert row == pytest.approx(seen, rel=1e-4, abs=1e-7)


def test_a_stack_has_no_residuals() -> None:
    stack = run()
    stack = replace(stack, model=DiffusionTransformer.from_shape(as_dit(SHAPE, 3)).eval())
    assert residuals(stack, data(), (999,)) == ()


def test_diagnosis_of_an_unconditional_run_without_metrics(tmp_path: Path) -> None:
    found = diagnose("one", tmp_path, run(num_classes=0), data())
    assert found.losses == ()
    assert len(found.residuals) == len(found.residual_timesteps) == 10
    assert found.residual_timesteps[0] == 999
    assert len(found.validation) == 10
    assert found.images_seen == 7 * recipe().train.batch_size
    assert 0 < found.saved_bytes <= found.saved_bytes_max
    json.dumps(found.recipe)


def test_losses_are_thinned_to_means_and_end_with_the_run(tmp_path: Path) -> None:
    rows = [{"step": 20 * i, "macs": 5.0 * i, "loss": float(i % 2)} for i in range(1, 1201)]
    rows[3]["loss"] = None
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 2')
    found = _losses(tmp_path, 20_000)
    assert 200 <= len(found) <= 400
    assert found[-1][:2] == (20_000, 5000.0)
    assert sum(loss for _, _, loss in found[5:]) / len(found[5:]) == pytest.approx(0.5, abs=0.02)
