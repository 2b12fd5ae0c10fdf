"""What is said at the end of a training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fpdm.data.images import ImageSet, to_float
from fpdm.diffusion.schedule import Schedule
from fpdm.runs.progress import Progress
from fpdm.training.outcome import Outcome, noise_loss, outcome
from fpdm.training.validation import middles
from tests.training.small import recipe


def pixels(count: int = 400) -> ImageSet:
    """Independent pixels, of another spread each."""
    rng = np.random.default_rng(0)
    spread = rng.uniform(0, 127, (1, 1, 4, 4))
    values = (127 + spread * rng.uniform(-1, 1, (count, 1, 4, 4))).astype(np.uint8)  # (N, C, H, W)
    return ImageSet("pixels", torch.from_numpy(values), torch.zeros(count).long(), 0)


def test_loss_of_noise_is_that_of_the_best_line_through_each_pixel() -> None:
    data, schedule, rng = pixels(), Schedule(num_timesteps=100), torch.Generator().manual_seed(0)
    x0, losses = to_float(data.images).double().repeat(100, 1, 1, 1), []  # (N, C, H, W)
    for t in middles(schedule):
        eps = torch.randn(x0.shape, dtype=torch.float64, generator=rng)  # (N, C, H, W)
        times = torch.full((len(x0),), t)  # (N,)
        x, v = schedule.add_noise(x0, eps, times), schedule.velocity(x0, eps, times)  # (N, C, H, W) each
        x, v = x - x.mean(0), v - v.mean(0)
        slope = (x * v).mean(0) / (x * x).mean(0)  # (C, H, W), least squares
        losses.append((v - slope * x).square().mean().item())
    assert noise_loss(schedule, data) == pytest.approx(np.mean(losses), rel=0.02)


@pytest.mark.parametrize(("loss", "noise"), [(0.5, True), (0.91, True), (0.2, False), (float("nan"), True)])
def test_a_model_no_better_than_noise_is_said_to_be_none(tmp_path: Path, loss: float, noise: bool) -> None:
    found = Outcome(10, 160, loss, 0.5 if loss < 0.9 else 1.0, tmp_path)
    assert found.still_noise == noise
    assert ("still noise" in found.to_text()) == noise
    assert "10 steps, which saw 160 images" in found.to_text()
    assert f"fpdm sample {tmp_path} --out {tmp_path}-images" in found.to_text()


def test_outcome_reads_the_last_validation(tmp_path: Path) -> None:
    settings, data = recipe(), pixels()
    found = outcome(tmp_path, settings, Progress(step=7), data)
    assert (found.validation_loss, found.noise_loss, found.still_noise) == (None, None, False)
    rows = [{"step": step, "loss": loss, "by_timestep": []} for step, loss in ((3, 0.5), (7, 0.25))]
    (tmp_path / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = outcome(tmp_path, settings, Progress(step=7), data)
    assert (found.steps, found.images_seen) == (7, 7 * settings.train.batch_size)
    assert found.validation_loss == 0.25
    if not settings.model.learn_variance:
        assert found.noise_loss == noise_loss(settings.schedule, data)
