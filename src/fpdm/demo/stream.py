"""A call of a pipeline as a stream of what it has made so far."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fpdm.data.images import to_uint8
from fpdm.drawing.images import enlarged, tile
from fpdm.pipeline import FPDMPipeline
from fpdm.sampling.images import sample_shape

_PAUSE = 0.4  # seconds between two previews, which take time of their own
_SIDE = 448  # pixels of a sheet of images on the page, at least


@dataclass(frozen=True)
class Request:
    """The images that somebody asks for.

    Attributes:
        label: The class of all; None takes the classes in turn.
        count: Number of images.
        seed: Their seed.
        guidance: Scale of classifier-free guidance.
        plan: The other fields of the plan.
    """

    label: int | None
    count: int
    seed: int
    guidance: float
    plan: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Update:
    """The images of a call that is under way.

    Attributes:
        sheet: The images, or the estimates of them, in one picture (h, w, 3) uint8.
        step: Number of steps made.
        steps: Number of steps in all.
        seconds: Seconds that they took, without previews.
        passes: Block passes for each image; None before the end.
        macs: Multiply-accumulates for each image; None before the end.
        stopped: Whether it was stopped.
    """

    sheet: np.ndarray
    step: int
    steps: int
    seconds: float
    passes: float | None = None
    macs: float | None = None
    stopped: bool = False


def stream(pipe: FPDMPipeline, request: Request, stop: threading.Event) -> Iterator[Update]:
    """Draw images and yield previews, at last the images.

    Args:
        pipe: The pipeline.
        request: What to draw.
        stop: Ends the sampling when it is set; what there is by then is yielded.

    Raises:
        ValueError: The request is not possible.
    """
    sampler = pipe.sampler(request.guidance, **request.plan)
    updates: queue.Queue[Update | Exception | None] = queue.Queue()
    sampler.autoencoder.decoding_macs(sample_shape(pipe.transformer))  # counted once, and not part of the seconds
    begin, previews, last = time.perf_counter(), 0.0, 0.0
    steps, gone = len(sampler.timesteps), threading.Event()  # set when the caller goes away

    def look(pipe: Any, index: int, timestep: float, tensors: dict[str, Any]) -> dict[str, Any]:
        nonlocal previews, last
        now = time.perf_counter()
        if stop.is_set() or gone.is_set():
            pipe._interrupt = True
        elif index + 1 < steps and now - last > _PAUSE:
            sheet = _sheet(to_uint8(sampler.decode(tensors["denoised"])))
            updates.put(Update(sheet, index + 1, steps, now - begin - previews))
            last = time.perf_counter()
            previews += last - now
        return tensors

    def work() -> None:
        try:
            done: Any = pipe(
                request.label,
                request.guidance,
                num_images=request.count,
                seed=request.seed,
                output_type="pt",
                callback_on_step_end=look,
                callback_on_step_end_tensor_inputs=("latents", "denoised"),
                **request.plan,
            )
            seconds, made = time.perf_counter() - begin - previews, len(done.timesteps)
            sheet = _sheet(to_uint8(2.0 * done.images - 1.0))
            updates.put(Update(sheet, made, steps, seconds, done.passes, done.macs, stopped=made < steps))
        except Exception as error:  # the page answers it
            updates.put(error)
        updates.put(None)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (update := updates.get()) is not None:
            if isinstance(update, Exception):
                raise update
            yield update
    finally:
        gone.set()
        thread.join()


def _sheet(images: Any) -> np.ndarray:
    """Arrange images (B, C, H, W) uint8 in a picture in which pixels can be seen."""
    columns = min(4, len(images))
    images = enlarged(images)  # (B, C, H', W')
    factor = max(1, _SIDE // (columns * images.shape[-1]))
    return tile(images.repeat_interleave(factor, 2).repeat_interleave(factor, 3), columns, gap=4)
