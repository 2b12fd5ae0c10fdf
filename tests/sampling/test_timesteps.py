"""Grids against NumPy's formulas, for every number of steps."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fpdm.diffusion.schedule import Schedule
from fpdm.sampling.timesteps import custom, grid, linspace, phi_power, trailing
from tests.oracle.gaussian import levels

SCHEDULE = Schedule()
STEPS = range(1, 1001)


def holds(timesteps, steps):
    assert len(timesteps) == steps
    assert timesteps[0] == 999
    assert timesteps[-1] >= 0
    assert (np.diff(timesteps) < 0).all()
    assert all(type(t) is int for t in timesteps)


@pytest.mark.parametrize("name", ["trailing", "linspace"])
def test_even_grids_of_every_length(name):
    for steps in STEPS:
        timesteps = grid(SCHEDULE, steps, name)
        holds(timesteps, steps)
        if name == "trailing":
            want = np.round(1000 * (steps - np.arange(steps)) / steps) - 1  # (S,)
            assert list(timesteps) == want.tolist()
        else:
            want = np.linspace(999, 0, steps)  # (S,)
            assert np.abs(timesteps - want).max() <= 0.5 + 1e-9
            assert steps == 1 or timesteps[-1] == 0


@settings(deadline=None, max_examples=60)
@example(5, 1.5)
@example(40, 1.5)
@example(20, 2.0)
@example(1000, 3.0)
@given(st.integers(1, 1000), st.floats(0.05, 20.0))
def test_powers_of_phi_of_any_length(steps, power):
    timesteps = phi_power(SCHEDULE, steps, power)
    holds(timesteps, steps)
    phi = levels().phi[1:]  # (N,)
    wanted = np.pi / 2 * (1 - np.arange(steps) / steps) ** power  # (S,)
    nearest = [int(np.abs(phi - w).argmin()) for w in wanted]
    if all(low < high for high, low in itertools.pairwise(nearest)):
        assert list(timesteps) == nearest


def test_powers_above_one_are_denser_near_the_clean_image():
    low, high = (np.array(phi_power(SCHEDULE, 10, power)) for power in (1.0, 2.0))  # (S,) each
    assert (high[1:] < low[1:]).all()


def test_names():
    assert grid(SCHEDULE, 7) == trailing(SCHEDULE, 7) == (999, 856, 713, 570, 428, 285, 142)
    assert grid(SCHEDULE, 7, "linspace") == linspace(SCHEDULE, 7)
    assert grid(SCHEDULE, 7, "phi^1.5") == phi_power(SCHEDULE, 7, 1.5)
    assert grid(SCHEDULE, 7, "phi^2") == phi_power(SCHEDULE, 7, 2.0)
    assert grid(SCHEDULE, 7, "phi^.5") == phi_power(SCHEDULE, 7, 0.5)


def test_other_schedules_begin_at_their_own_last_timestep():
    for name in ("trailing", "linspace", "phi^1.5"):
        for steps in (1, 3, 50):
            timesteps = grid(Schedule(50, 1e-3, 0.2), steps, name)
            assert timesteps[0] == 49
            assert len(set(timesteps)) == steps


def test_custom_grids():
    assert custom(SCHEDULE, [999, 500, 3]) == (999, 500, 3)
    assert custom(SCHEDULE, np.array([999, 0])) == (999, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("timesteps", "message"),
    [
        ([], "begin at nothing; expected 999"),
        ([998, 3], "begin at 998; expected 999"),
        ([1000, 3], "begin at 1000; expected 999"),
        ([999, 500, 500], "do not decrease"),
        ([999, 400, 500], "do not decrease"),
        ([999, -1], "do not decrease strictly to 0"),
    ],
)
def test_refuses_other_lists(timesteps, message):
    with pytest.raises(ValueError, match=message):
        custom(SCHEDULE, timesteps)


@pytest.mark.parametrize("steps", [0, -1, 1001])
@pytest.mark.parametrize("name", ["trailing", "linspace", "phi^1.5"])
def test_refuses_numbers_of_steps(name, steps):
    with pytest.raises(ValueError, match=f"steps is {steps}; expected 1 to 1000"):
        grid(SCHEDULE, steps, name)


@pytest.mark.parametrize("name", ["leading", "phi", "phi^", "phi^-1", "phi^nan", "phi^1e400", "Trailing", "phi^1.5 "])
def test_refuses_names(name):
    with pytest.raises(ValueError, match=r"expected trailing, linspace or phi\^P"):
        grid(SCHEDULE, 5, name)


def test_refuses_powers():
    for power in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"the power of phi is {power}"):
            phi_power(SCHEDULE, 5, power)
    with pytest.raises(ValueError, match=r"the power of phi is 0\.0"):
        grid(SCHEDULE, 5, "phi^0")
