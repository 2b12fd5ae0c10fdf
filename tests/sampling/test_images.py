"""Drawing in batches: every image once, in order, and costs that add up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import diffusers
import pytest
import torch

from fpdm.sampling.images import Images, ImageSampler, SamplingCost, draw_images
from fpdm.sampling.plan import Plan
from fpdm.sampling.schedulers import default_scheduler
from tests.sampling.helpers import SCHEDULE, small_model

CPU = torch.device("cpu")
UNIPC = diffusers.UniPCMultistepScheduler.from_config(default_scheduler(SCHEDULE, clip=True).config)


def test_draws_every_image_with_its_label_and_adds_up_the_costs() -> None:
    asked: list[tuple[list[int], list[int]]] = []

    def sampler(indices: Sequence[int], labels: Sequence[int]) -> Images:
        asked.append(([*indices], [*labels]))
        pixels = torch.tensor(indices, dtype=torch.uint8).view(-1, 1, 1, 1)  # (B, 1, 1, 1)
        return Images(pixels, passes=10.0 + len(indices), macs=100.0, seconds=0.5)

    kept: list[tuple[list[int], list[int]]] = []
    cost = draw_images(
        cast(ImageSampler, sampler),
        [4, 5, 7, 8, 9],
        [0, 1, 2, 0, 1],
        batch_size=2,
        keep=lambda indices, pixels: kept.append(([*indices], pixels.flatten().tolist())),
    )
    assert asked == [([4, 5], [0, 1]), ([7, 8], [2, 0]), ([9], [1])]
    assert kept == [([4, 5], [4, 5]), ([7, 8], [7, 8]), ([9], [9])]
    assert cost == SamplingCost(images=5, passes=2 * 12 + 2 * 12 + 11, macs=500, seconds=1.5)


def test_no_images_cost_nothing() -> None:
    def never(*_: object) -> Images:
        raise AssertionError

    assert draw_images(cast(ImageSampler, never), [], [], batch_size=2, keep=never) == SamplingCost(0, 0, 0, 0)


def test_seeds_of_the_images_take_the_place_of_the_samplers() -> None:
    model, indices, labels = small_model(), [0, 5, 0], [0, 1, 2]
    together = list(
        ImageSampler(model, SCHEDULE, Plan(28, 5), seed=8, device=CPU).trajectory(indices, labels, seeds=[3, 4, 5])
    )[-1]
    for i, seed in enumerate([3, 4, 5]):
        alone = list(ImageSampler(model, SCHEDULE, Plan(28, 5), seed=seed, device=CPU).trajectory(*[[indices[i]]], [i]))
        torch.testing.assert_close(alone[-1].x[0], together.x[i], rtol=0, atol=1e-4)


def test_the_threshold_of_an_adaptive_allocation_is_the_same_for_all_seeds() -> None:
    plan = Plan(42, 5, allocation="adaptive")
    found = [ImageSampler(small_model(), SCHEDULE, plan, seed=seed, device=CPU).probed for seed in (0, 1)]
    assert found[0] == found[1]


def test_a_scheduler_makes_the_steps_within_the_budget() -> None:
    model = small_model()
    plain = ImageSampler(model, SCHEDULE, Plan(70, 5, sampler="unipc"), device=CPU)
    found = ImageSampler(model, SCHEDULE, Plan(70, 5), device=CPU, scheduler=UNIPC)
    assert (found.timesteps, found.table, found.unspent) == (plain.timesteps, plain.table, 0)
    images = [sampler([0, 1], [0, 1]) for sampler in (plain, found)]
    assert images[0].passes == images[1].passes == 70
    assert (images[0].pixels.int() - images[1].pixels.int()).abs().max() <= 1
    with pytest.raises(ValueError, match="sampler is 'ddpm', but UniPCMultistepScheduler makes the steps"):
        ImageSampler(model, SCHEDULE, Plan(70, 5, sampler="ddpm"), device=CPU, scheduler=UNIPC)
    with pytest.raises(ValueError, match="grid is 'linspace', but UniPCMultistepScheduler"):
        ImageSampler(model, SCHEDULE, Plan(70, 5, grid="linspace"), device=CPU, scheduler=UNIPC)


@pytest.mark.parametrize("scheduler", [None, UNIPC])
def test_a_number_of_steps_divides_the_whole_budget(scheduler: object) -> None:
    sampler = ImageSampler(small_model(), SCHEDULE, Plan(140), device=CPU, scheduler=scheduler, steps=18)
    assert (len(sampler.timesteps), sum(sampler.table), sampler.unspent) == (18, 140 - 2 * 18, 0)
    with pytest.raises(ValueError, match="too small for 50 steps; expected at least 150"):
        ImageSampler(small_model(), SCHEDULE, Plan(140), device=CPU, scheduler=scheduler, steps=50)
