"""The stages of a comparison: a first answer soon, then better ones, up to the full protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fpdm.compare.settings import SHOWN, Settings

FIRST_ANSWER = 60.0  # seconds of sampling for the first answer; the page is there well within two minutes
SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
GROWTH = 3.0  # each stage takes at least so many times as long as the one before it, which so costs little besides
_FEW = 50  # images of a row that are not reduced any further


@dataclass(frozen=True)
class Stage:
    """A stage of a comparison.

    Attributes:
        name: Its name in the page.
        settings: How to compare in it.
        share: Its share of the images of the full protocol; 0 if no plans are searched.
    """

    name: str
    settings: Settings
    share: float

    @property
    def is_full(self) -> bool:
        """Whether it is the full protocol."""
        return self.share == 1.0


def full_protocol(settings: Settings) -> Stage:
    """Return the stage that does everything."""
    return Stage("full protocol", settings, 1.0)


def first_look(settings: Settings, seconds: float, available: float = FIRST_ANSWER) -> Stage:
    """Return the first stage: each model with the plan that is stored with it, and the first sampler.

    Args:
        settings: The full protocol.
        seconds: What one image of every row takes.
        available: Seconds that the stage may take.
    """
    images = max(SHOWN, min(int(available / max(seconds, 1e-9)), max(_FEW, min(settings.num_images) // 4)))
    images = min(images, min(settings.num_images))
    few = replace(settings, samplers=settings.samplers[:1], num_images=(images,), sweep=())
    return Stage("first look", few, 0.0)


def scaled(settings: Settings, share: float) -> Stage:
    """Return a stage with a share of the images of the full protocol, and all of its choices."""

    def part(images: int) -> int:
        return min(images, max(round(share * images), _FEW))

    reduced = replace(
        settings,
        num_images=tuple(map(part, settings.num_images)),
        choosing_images=part(settings.choosing_images),
        sweep=settings.sweep if share == 1.0 else (),
    )
    if reduced == settings:
        return full_protocol(settings)
    return Stage(f"{share:.0%} of the images" if share >= 0.1 else f"{share:.1%} of the images", reduced, share)


def next_stage(
    settings: Settings, last: Stage, cost: Callable[[Stage], float], spent: float, available: float | None
) -> Stage | None:
    """Return the stage that follows another one; None if nothing better fits into the time.

    Args:
        settings: The full protocol.
        last: The stage before.
        cost: Returns how many seconds a stage is going to take.
        spent: Seconds that the stage before took.
        available: Seconds that are left; None for no limit.
    """
    stages = [stage for share in SHARES if (stage := scaled(settings, share)).share > last.share]
    stages = [one for place, one in enumerate(stages) if one.settings not in [two.settings for two in stages[:place]]]
    fitting = [one for one in stages if available is None or cost(one) <= available]
    worthwhile = [one for one in fitting if one.is_full or cost(one) >= GROWTH * spent]
    if not worthwhile:
        return None
    if not worthwhile[-1].is_full:
        return worthwhile[-1]  # the best that fits
    # One in between, if there is time for both.
    first, full = worthwhile[0], worthwhile[-1]
    return first if available is None or cost(first) + cost(full) <= available else full
