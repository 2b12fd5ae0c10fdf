"""Previews, the finished images, stopping, and mistakes, without a page."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fpdm.demo import stream as module
from fpdm.demo.stream import Request, stream
from tests import pipelines

PLAN = {"budget": 40, "iterations": 2}


def test_the_last_update_has_what_the_pipeline_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    pipe = pipelines.pixels()
    updates = [*stream(pipe, Request(1, 3, 5, 1.0, PLAN), threading.Event())]
    assert [update.step for update in updates] == [*range(1, 11)]
    expected = pipe([1] * 3, seed=5, **PLAN)
    last = updates[-1]
    assert (last.passes, last.macs, last.stopped) == (expected.passes, expected.macs, False)
    assert all(update.passes is None for update in updates[:-1])
    image = np.asarray(expected.images[0])
    # The pixels of the first image are somewhere in its square, enlarged without a change of the range.
    square = last.sheet[:64, :64, 0]
    assert abs(int(square.mean()) - int(image.mean())) < 8


def test_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    stop, seen = threading.Event(), []
    for update in stream(pipelines.pixels(), Request(None, 2, 0, 1.0, {"budget": 400, "iterations": 2}), stop):
        seen.append(update)
        stop.set()
    assert seen[-1].stopped
    assert 1 < seen[-1].step < seen[-1].steps == 100
    before = threading.active_count()
    going = stream(pipelines.pixels(), Request(None, 2, 0, 1.0, {"budget": 4000, "iterations": 2}), threading.Event())
    next(going)
    going.close()  # as when a visitor closes the page: the thread ends too
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(None, 1, 0, 1.0, {"budget": 1}), "a budget of 1 block passes is below one step"),
        (Request(7, 1, 0, 1.0, PLAN), "there is no class"),
        (Request(None, 1, -1, 1.0, PLAN), "seed is -1"),
    ],
)
def test_mistakes_are_told(request_: Request, message: str) -> None:
    pipe = pipelines.pixels()
    with pytest.raises(ValueError, match=message):
        [*stream(pipe, request_, threading.Event())]
    assert [*stream(pipe, Request(None, 1, 0, 1.0, PLAN), threading.Event())]  # the next one works
