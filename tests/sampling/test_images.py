"""Drawing in batches: every image once, in order, and costs that add up."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import cast

import diffusers
import pytest
import torch
from torch import Tensor

from fpdm.data.images import to_uint8
from fpdm.sampling.engine import Drawn
from fpdm.sampling.images import ImageSampler, draw_images, draw_in_order
from fpdm.sampling.plan import Plan
from fpdm.sampling.schedulers import default_scheduler
from tests.sampling.helpers import SCHEDULE, small_model

CPU = torch.device("cpu")
UNIPC = diffusers.UniPCMultistepScheduler.from_config(default_scheduler(SCHEDULE, clip=True).config)


class Fake:
    """A sampler whose image i is i everywhere, which takes 10 iterations for each and does not sleep."""

    timesteps, refills = (999, 499), False

    def __init__(self, found: list[Drawn]) -> None:
        self.found, self.decoded = found, list[int]()

    def draw(self, indices: Sequence[int], labels: Sequence[int], *, batch_size: int) -> Iterator[Drawn]:
        yield from self.found

    def decode(self, x: Tensor) -> Tensor:
        self.decoded.append(len(x))
        return x

    def cost_of(self, steps: int, iterations: float) -> tuple[float, float]:
        return steps + iterations, 100 * iterations


def drawn(*places: int) -> Drawn:
    """Samples at these places: black, or white at place 0."""
    x = torch.tensor([1.0 if place == 0 else -1.0 for place in places]).view(-1, 1, 1, 1)  # (B, 1, 1, 1)
    return Drawn([*places], x, [10.0 + place for place in places])


def test_keeps_what_is_drawn_and_adds_up_the_costs() -> None:
    fake, kept = Fake([drawn(2, 0), drawn(1)]), list[tuple[list[int], list[int]]]()
    cost = draw_images(
        cast(ImageSampler, fake),
        [4, 5, 7],
        [0, 1, 2],
        batch_size=2,
        keep=lambda places, pixels: kept.append(([*places], pixels.flatten().tolist())),
    )
    assert kept == [([2, 0], [0, 255]), ([1], [0])]
    assert (cost.images, cost.passes, cost.macs) == (3, 3 * 2 + 33, 3300)
    assert len(cost.batches) == 2
    assert min(cost.batches) == cost.seconds_per_image
    assert cost.batches[0] * 2 + cost.batches[1] <= cost.seconds
    pixels, again = draw_in_order(cast(ImageSampler, fake), [4, 5, 7], [0, 1, 2], batch_size=2)
    assert pixels.flatten().tolist() == [255, 0, 0]
    assert (again.passes, again.macs) == (cost.passes, cost.macs)


def test_what_is_kept_overlaps_with_sampling() -> None:
    started, finished = threading.Event(), threading.Event()

    class Slow(Fake):
        def draw(self, indices: Sequence[int], labels: Sequence[int], *, batch_size: int) -> Iterator[Drawn]:
            yield drawn(0)
            assert started.wait(60)  # the first is being kept while the second is drawn
            finished.set()
            yield drawn(1)

    def keep(places: Sequence[int], _: Tensor) -> None:
        started.set()
        assert finished.wait(60)

    draw_images(cast(ImageSampler, Slow([])), [0, 1], [0, 0], batch_size=1, keep=keep)


def test_an_error_in_keeping_ends_the_sampling() -> None:
    asked = []

    class Counting(Fake):
        def draw(self, indices: Sequence[int], labels: Sequence[int], *, batch_size: int) -> Iterator[Drawn]:
            for place in indices:
                asked.append(place)
                yield drawn(place)

    def keep(*_: object) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        draw_images(cast(ImageSampler, Counting([])), range(9), [0] * 9, batch_size=1, keep=keep)
    assert len(asked) <= 2


def test_no_images_cost_nothing() -> None:
    def never(*_: object) -> None:
        raise AssertionError

    found = draw_images(cast(ImageSampler, Fake([])), [], [], batch_size=2, keep=never)
    assert (found.images, found.passes, found.macs) == (0, 0, 0)


def test_a_call_is_one_batch_in_order() -> None:
    for plan in (Plan(42, 5), Plan(42, 5, allocation="adaptive")):
        sampler = ImageSampler(small_model(), SCHEDULE, plan, seed=3, device=CPU)
        found, (pixels, cost) = (
            sampler([5, 0, 5], [0, 1, 2]),
            draw_in_order(sampler, [5, 0, 5], [0, 1, 2], batch_size=3),
        )
        *_, last = sampler.trajectory([5, 0, 5], [0, 1, 2])
        assert (found.pixels.int() - to_uint8(last.x).int()).abs().max() <= 1
        assert torch.equal(found.pixels, pixels)
        assert (found.passes, found.macs) == pytest.approx(sampler.spent(last))
        assert cost.passes == pytest.approx(3 * found.passes)


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
