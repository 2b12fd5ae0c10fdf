"""The speed of the machine, extrapolated from a few steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import fpdm.training.speed as module
from fpdm.models.cost import model_cost
from fpdm.training.autoencoder.config import AutoencoderShape
from fpdm.training.dry_run import Step
from fpdm.training.speed import MeasuredSpeed
from tests.training.small import recipe


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let every step take two seconds for its compute, and return how many were made."""
    made: list[int] = []

    def step(trainer: Any, number: int, images: int) -> Step:
        result = trainer.step(trainer.progress, micro_batch=images)
        made.append(images)
        return Step(2.0 if number else 99.0, result.macs)

    monkeypatch.setattr(module, "time_step", step)
    return made


def test_networks_are_slower_by_their_compute_and_measured_once(timed: list[int]) -> None:
    plain = recipe(gradient="jfb", no_grad_iters=0, batch_size=4)
    speed, wide = MeasuredSpeed(plain), replace(plain, model=replace(plain.model, width=2 * plain.model.width))
    first, second = speed.images_per_second(plain), speed.images_per_second(wide)
    assert first == pytest.approx(module.IMAGES / 2.0)  # a fixed number of iterations: what was timed is the mean
    ratio = [model_cost(one.model).training_macs(1, 0) for one in (plain, wide)]
    assert first / second == pytest.approx(ratio[1] / ratio[0])
    assert len(timed) == module.TIMED + 1


def test_autoencoders_are_slower_by_their_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    speed, shape = MeasuredSpeed(recipe()), AutoencoderShape(stage_channels=(4, 4))
    monkeypatch.setattr(module, "SIDE", 16)
    rates = [speed.autoencoder_images_per_second(shape, (3, side, side)) for side in (16, 32)]
    assert rates[0] > 0
    assert rates[0] == pytest.approx(4 * rates[1])


def test_the_machine_is_named() -> None:
    assert MeasuredSpeed(recipe()).machine
