"""Timestep grids: the timesteps that a sampler visits, noisiest first.

All grids begin at T, because zero terminal SNR would otherwise be lost.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from fractions import Fraction

from fpdm.diffusion.schedule import Schedule
from fpdm.errors import did_you_mean

PHI = (
    "phi^P is a timestep grid: the noise angle phi = atan2(sigma, alpha) falls as (1 - k/steps)^P, so that P above 1 "
    "puts more steps near the clean image"
)


def trailing(schedule: Schedule, steps: int) -> tuple[int, ...]:
    """Space timesteps evenly down from T; the last step goes from about T / steps to the clean image."""
    _check(schedule, steps)
    total = schedule.num_timesteps
    return tuple(round(Fraction(total * (steps - k), steps)) - 1 for k in range(steps))


def linspace(schedule: Schedule, steps: int) -> tuple[int, ...]:
    """Space timesteps evenly from T down to 0, both included. A single step is T."""
    _check(schedule, steps)
    last = schedule.num_timesteps - 1
    return tuple(round(Fraction(last * (steps - 1 - k), max(steps - 1, 1))) if k else last for k in range(steps))


def phi_power(schedule: Schedule, steps: int, power: float) -> tuple[int, ...]:
    """Space timesteps by a power of the angle phi = atan2(s, a): phi_k = phi_T (1 - k / steps)^power, rounded.

    Powers above 1 put more steps near the clean image.

    Raises:
        ValueError: `power` is not positive and finite.
    """
    _check(schedule, steps)
    _check_power(power)
    import torch  # a plan checks its grid, and a plan is read without PyTorch

    angles = schedule.angle(torch.arange(schedule.num_timesteps)).flatten()  # (N,)
    wanted = angles[-1] * (1.0 - torch.arange(steps, dtype=torch.float64) / steps) ** power  # (steps,)
    # One after the other: of a million timesteps, the table of all differences would not fit in memory.
    closest = [int((angles - angle).abs().argmin()) for angle in wanted]  # steps ints
    grid: list[int] = []
    for k, t in enumerate(closest):
        # Timesteps must be distinct and leave room for those that follow.
        below = grid[-1] - 1 if grid else schedule.num_timesteps - 1
        grid.append(max(min(t, below), steps - 1 - k))
    return tuple(grid)


def custom(schedule: Schedule, timesteps: Sequence[int]) -> tuple[int, ...]:
    """Check the given timesteps and return them as a grid.

    Raises:
        ValueError: The timesteps do not begin at T, do not decrease, leave 0..T, or are not whole numbers.
    """
    if any(t != int(t) for t in timesteps):
        raise ValueError(f"the timesteps {tuple(timesteps)} are not all whole numbers")
    grid = tuple(int(t) for t in timesteps)
    last = schedule.num_timesteps - 1
    if not grid or grid[0] != last:
        raise ValueError(
            f"the timesteps begin at {grid[0] if grid else 'nothing'}; expected {last}, where the images are pure noise"
        )
    if any(a <= b for a, b in itertools.pairwise(grid)) or grid[-1] < 0:
        raise ValueError(f"the timesteps {grid} do not decrease strictly to 0 or above")
    return grid


def grid(schedule: Schedule, steps: int, name: str = "trailing") -> tuple[int, ...]:
    """Create the grid with this name: "trailing", "linspace" or "phi^P" with a number P, such as "phi^1.5".

    Raises:
        ValueError: The name is unknown, or `steps` is not between 1 and the number of timesteps.
    """
    check_grid(name)
    if name in GRIDS:
        return GRIDS[name](schedule, steps)
    return phi_power(schedule, steps, float(name.removeprefix("phi^")))


def check_grid(name: str) -> str:
    """Return the name of a grid as it is.

    Raises:
        ValueError: There is no such grid.
    """
    if match := re.fullmatch(r"phi\^(\d+\.?\d*|\.\d+)", name):
        _check_power(float(match[1]))
    elif name not in GRIDS:
        raise ValueError(
            f"the timestep grid is {name!r}; expected trailing, linspace or phi^P, such as phi^1.5"
            + did_you_mean(name, GRIDS)
        )
    return name


GRIDS = {"trailing": trailing, "linspace": linspace}
"""Grids without a parameter, by name."""


def _check(schedule: Schedule, steps: int) -> None:
    if not 1 <= steps <= schedule.num_timesteps:
        raise ValueError(
            f"steps is {steps}; expected 1 to {schedule.num_timesteps}, the number of timesteps in training"
        )


def _check_power(power: float) -> None:
    if not 0.0 < power < float("inf"):
        raise ValueError(f"the power of phi is {power}; expected a positive number")
