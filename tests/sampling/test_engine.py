"""Slots that refill: the images of the plain loop, from no more rows than the samples' own iterations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fpdm.diffusion.schedule import Schedule
from fpdm.models.transformer import DiffusionTransformer
from fpdm.sampling.allocation import Adaptive, Probed
from fpdm.sampling.images import ImageSampler
from fpdm.sampling.plan import Plan
from tests.sampling.helpers import SCHEDULE, small_model

COUNT = 13
LABELS = [place % 3 for place in range(COUNT)]
MODEL = small_model()
PLAN = Plan(42, 5, allocation="adaptive")


def sampler(threshold: float = 0.01, schedule: Schedule = SCHEDULE, **changes: Any) -> ImageSampler:
    """A sampler of an adaptive plan, with a threshold at which samples take different numbers of iterations."""
    known = Probed(Adaptive(threshold), 0.0, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fpdm.sampling.images.probe", lambda *_: known)
        return ImageSampler(MODEL, schedule, replace(PLAN, **changes), device=torch.device("cpu"))


def in_a_batch(one: ImageSampler) -> tuple[Tensor, list[float]]:
    """Samples and their iterations from the plain loop, the yardstick."""
    *_, last = one.trajectory(range(COUNT), LABELS)
    spent = torch.as_tensor(last.spent).float().expand(COUNT if one.table and not one.plan.adaptive else -1)
    return last.x, spent.view(-1, COUNT).mean(0).tolist()


def in_slots(one: ImageSampler, slots: int) -> tuple[Tensor, list[float], list[int]]:
    """Samples, their iterations and the order in which they finished."""
    x, spent, order = torch.empty(COUNT, 3, 4, 4), [0.0] * COUNT, list[int]()
    for drawn in one.draw(range(COUNT), LABELS, batch_size=slots):
        x[drawn.places] = drawn.x
        for place, iterations in zip(drawn.places, drawn.iterations, strict=True):
            spent[place] = iterations
        order += drawn.places
    return x, spent, order


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[int]]]:
    """The number of rows in every call of the parts of the network."""
    calls: dict[str, list[int]] = {}

    def counting(kind: type, name: str) -> Any:
        method, rows = getattr(kind, name), calls.setdefault(name, [])

        def call(self: Any, first: Tensor, *rest: Any) -> Any:
            rows.append(len(first))
            return method(self, first, *rest)

        return call

    with monkeypatch.context() as patch:
        for kind, name in (
            (DiffusionTransformer, "start"),
            (type(MODEL.middle), "iterate"),
            (DiffusionTransformer, "finish"),
        ):
            patch.setattr(kind, name, counting(kind, name))
        yield calls


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"guidance": 2.0},
        {"solver": "anderson"},
        {"solver": "anderson", "guidance": 2.0, "reuse": False},
        {"sampler": "ddpm", "reuse": False},
        {"sampler": "second-order"},
        {"sampler": "unipc"},
    ],
    ids=str,
)
@pytest.mark.parametrize("slots", [1, 4, COUNT])
def test_the_images_of_the_plain_loop(changes: dict[str, Any], slots: int) -> None:
    one = sampler(**changes)
    expected, iterations = in_a_batch(one)
    x, spent, order = in_slots(one, slots)
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-4)
    assert spent == iterations
    assert sorted(order) == list(range(COUNT))


def test_of_a_network_that_predicts_eps() -> None:
    one = sampler(schedule=Schedule(prediction="epsilon", zero_terminal_snr=False))
    torch.testing.assert_close(in_slots(one, 4)[0], in_a_batch(one)[0], rtol=0, atol=1e-4)


def test_one_at_a_time_is_the_plain_loop_bit_for_bit() -> None:
    one = sampler()
    x, *_ = in_slots(one, 1)
    for place in range(COUNT):
        *_, last = one.trajectory([place], [LABELS[place]])
        assert torch.equal(last.x[0], x[place])


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_every_row_that_is_evaluated_is_one_that_counts(monkeypatch: pytest.MonkeyPatch, guidance: float) -> None:
    one, evaluations = sampler(guidance=guidance), 1 if guidance == 1.0 else 2
    with counted(monkeypatch) as rows:
        _, spent, order = in_slots(one, 4)
    steps = len(one.timesteps)
    assert sum(rows["iterate"]) == evaluations * sum(spent)
    assert sum(rows["start"]) == sum(rows["finish"]) == evaluations * steps * COUNT
    assert order != sorted(order)  # samples overtake each other
    assert len(set(spent)) > 1
    # In batches of the same size, every sample waits for the slowest of each step.
    plain = 0
    for start in range(0, COUNT, 4):
        chosen = range(start, min(start + 4, COUNT))
        for state in one.trajectory(chosen, [LABELS[place] for place in chosen]):
            plain += int(torch.as_tensor(state.solution.iters).max()) * evaluations * len(chosen)
    assert sum(rows["iterate"]) < plain


def test_the_slots_stay_full_until_no_sample_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    one = sampler()
    with counted(monkeypatch) as rows:
        _, spent, _ = in_slots(one, 4)
    full = [size for size in rows["iterate"] if size == 4]
    assert rows["iterate"][: len(full)] == full  # then only fewer
    assert len(full) >= (sum(spent) - 4 * max(spent)) / 4


def test_fixed_plans_and_self_guidance_draw_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in (sampler(allocation="constant"), sampler(self_guidance=0.5)):
        with counted(monkeypatch) as rows:
            places = [drawn.places for drawn in one.draw(range(COUNT), LABELS, batch_size=5)]
        assert places == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12]]
        assert rows["start"] == [size for size in (5, 5, 3) for _ in one.timesteps]
        torch.testing.assert_close(in_slots(one, 5)[0], in_a_batch(one)[0], rtol=0, atol=1e-4)
        assert in_slots(one, 5)[1] == in_a_batch(one)[1]


def test_labels_are_checked_before_anything_is_drawn() -> None:
    with pytest.raises(ValueError, match="class 3 is out of range"):
        next(sampler().draw([0], [3], batch_size=1))
