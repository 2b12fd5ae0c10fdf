"""Successive halving: many plans on few images, then ever fewer plans on ever more images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fpdm.compare.search import Trial
from fpdm.sampling.plan import Plan
from fpdm.tune.settings import TuneSettings
from fpdm.tune.space import Space


@dataclass(frozen=True)
class Round:
    """A round of the search.

    Attributes:
        images: Number of images that each plan was judged by.
        trials: The plans and their kernel distances, best first.
    """

    images: int
    trials: tuple[Trial, ...]


def halve(
    space: Space, untuned: Plan, settings: TuneSettings, distance: Callable[[Plan, int], float]
) -> tuple[Round, ...]:
    """Search the plan with the lowest distance.

    In each round, the best plans of the last one are joined by as many that differ from the best two in one choice;
    in the last but one, also by those with self-guidance; in the last, by none. The plan of the model without tuning is
    judged in the first and in the last round.

    Args:
        space: The plans.
        untuned: The plan of the model without tuning.
        settings: Numbers of plans and images.
        distance: Returns the distance of a plan's first images.

    Returns:
        The rounds. The first trial of the last is the best.
    """
    pool = space.different([untuned, *space.plans()[: settings.kept(0)]])
    rounds: list[Round] = []
    tried: set[object] = set()
    for number, images in enumerate(settings.sizes):
        if rounds:
            pool = [trial.plan for trial in rounds[-1].trials[: settings.kept(number)]]
            if number == len(settings.sizes) - 1:
                pool = space.different([*pool, untuned])
            else:
                pool = _joined(space, pool, settings, number, tried)
        trials = sorted((Trial(plan, distance(plan, images)) for plan in pool), key=lambda trial: trial.distance)
        tried |= {space.key(trial.plan) for trial in trials}
        rounds.append(Round(images, tuple(trials)))
    return tuple(rounds)


def _joined(space: Space, pool: Sequence[Plan], settings: TuneSettings, number: int, tried: set[object]) -> list[Plan]:
    """Return plans with those that join them in a round."""
    near = space.different(plan for plans in _in_turn(space, pool[:2], number) for plan in plans)
    fresh = [plan for plan in near if space.key(plan) not in tried][: settings.kept(number)]
    best = pool[: max(len(pool) // 4, 2)]
    guided = [plan for one in best for plan in space.guided(one)] if number == len(settings.sizes) - 2 else []
    return space.different([*pool, *fresh, *guided])


def _in_turn(space: Space, plans: Sequence[Plan], number: int) -> list[tuple[Plan, ...]]:
    """Return the neighbours of plans: the first of each, the second of each, and so on."""
    near = [space.neighbours(plan, number) for plan in plans]
    return [tuple(one[place] for one in near if place < len(one)) for place in range(max(map(len, near)))]


def most_images(settings: TuneSettings, plans: int, guided: int) -> int:
    """Return how many images a search draws at most.

    Args:
        settings: Numbers of plans and images.
        plans: Number of plans in the space, without self-guidance.
        guided: Number of kinds of self-guidance besides none.
    """
    sizes = settings.sizes
    total, before = sizes[-1], 0  # the untuned plan may be dropped in between, but not in the end
    for number, images in enumerate(sizes):
        kept = min(settings.kept(number), plans)
        total += kept * (images - before)
        if 0 < number < len(sizes) - 1:
            total += kept * images
        if number == len(sizes) - 2:
            total += max(kept // 4, 2) * guided * images
        before = images
    return total
