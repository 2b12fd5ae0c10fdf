"""Schedulers of diffusers: the same as in diffusers' own loop, and those that do not fit a model are refused."""

from __future__ import annotations

import contextlib
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from fpdm.diffusion.schedule import Schedule
from fpdm.models.transformer import Prediction
from fpdm.sampling.schedulers import (
    check_scheduler,
    default_scheduler,
    scheduler_by_name,
    with_evaluations,
    with_steps,
)
from fpdm.sampling.steps import DiffusersStep
from tests.oracle.gaussian import Exact, Gaussian, Levels, Mixture, quantile_noise
from tests.sampling.helpers import trajectory

ZERO, EPSILON = Schedule(), Schedule(zero_terminal_snr=False, prediction="epsilon")
SAFE = ("EulerDiscrete", "EulerAncestralDiscrete", "DPMSolverMultistep", "UniPCMultistep", "LCM", "TCD")
LOSING = ("PNDM", "HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DEISMultistep", "LMSDiscrete")
LOSING = (*LOSING, "DPMSolverSinglestep", "SASolver")
MODES = Mixture((-0.8, 0.8), (0.3, 0.7), 0.1)


class Denoiser(Exact):
    """The best denoiser, also at timesteps that are not whole numbers as a type, such as 999.0."""

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None = None, /, **given: Any) -> Prediction:
        return super().__call__(x, t.round().long(), y, **given)


def denoiser(schedule: Schedule, data: Any) -> Denoiser:
    abar = schedule.alphas_bar.numpy()  # (N + 1,)
    a, s = np.sqrt(abar), np.sqrt(1.0 - abar)  # (N + 1,) each
    return Denoiser(data, Levels(a, s, np.arctan2(s, a)))


def ours(scheduler: Any, schedule: Schedule, steps: int, start: np.ndarray, data: Any = MODES) -> np.ndarray:
    """Samples (B, D) of our loop from noise `start` (B, D)."""
    own = with_steps(scheduler, schedule, steps)

    def noise(k: int) -> np.ndarray:
        return np.random.default_rng(k + 1).standard_normal(start.shape)  # (B, D)

    timesteps = own.timesteps.tolist()
    return trajectory(denoiser(schedule, data), start, timesteps, DiffusersStep(own), schedule=schedule, noise=noise)[
        -1
    ]  # (B, D)


def theirs(scheduler: Any, schedule: Schedule, steps: int, start: np.ndarray) -> np.ndarray:
    """The loop of the documentation of diffusers, with no line of ours."""
    network = denoiser(schedule, MODES)
    scheduler.set_timesteps(steps)
    x = torch.from_numpy(start)[:, :, None, None]  # (B, D, 1, 1)
    if scheduler.init_noise_sigma != 1.0:  # which leaves out the data's own variance: nothing at T, 1 in 12,000 else
        x = x * (scheduler.init_noise_sigma**2 + 1) ** 0.5
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)  # (B, D, 1, 1)
        batch = torch.full((len(x),), float(t))  # (B,)
        v = network(scaled, batch, solver=lambda f, z: None).value  # (B, D, 1, 1)
        if schedule.prediction == "epsilon":
            a, s = schedule.signal(batch, x.dtype)
            v = s * scaled + a * v  # (B, D, 1, 1): epsilon
        x = scheduler.step(v, t, x).prev_sample  # (B, D, 1, 1)
    return x.flatten(1).numpy()


def of(name: str, schedule: Schedule) -> Any:
    return scheduler_by_name(name, schedule, clip=False)


@pytest.mark.parametrize("steps", [7, 20])
@pytest.mark.parametrize(
    ("schedule", "name"),
    [
        *((ZERO, name) for name in ("EulerDiscrete", "DPMSolverMultistep", "UniPCMultistep", "DDIM")),
        *((EPSILON, name) for name in ("EulerDiscrete", "UniPCMultistep", "DEISMultistep", "PNDM", "LMSDiscrete")),
        *((EPSILON, name) for name in ("HeunDiscrete", "KDPM2Discrete", "DPMSolverSinglestep")),
    ],
)
def test_a_scheduler_gives_what_it_gives_in_the_loop_of_diffusers(schedule: Schedule, name: str, steps: int) -> None:
    start = quantile_noise(50)[:, None]  # (B, 1)
    expected = theirs(of(name, schedule), schedule, steps, start)
    np.testing.assert_allclose(ours(of(name, schedule), schedule, steps, start), expected, atol=2e-5)


@pytest.mark.parametrize("name", SAFE)
def test_schedulers_that_keep_zero_terminal_snr_sample_a_gaussian(name: str) -> None:
    data = Gaussian(np.array([0.5]), np.array([[0.25**2]]))
    found = ours(of(name, ZERO), ZERO, 40, quantile_noise(4000)[:, None], data)
    assert found.mean() == pytest.approx(0.5, abs=0.01)
    assert found.std() == pytest.approx(0.25, abs=0.1 if name == "LCM" else 0.06)


@pytest.mark.parametrize("name", ["EulerAncestralDiscrete", "LCM", "TCD"])
def test_what_a_scheduler_draws_is_a_function_of_each_samples_noise(name: str) -> None:
    start = quantile_noise(4)[:, None]  # (B, 1)
    together = ours(of(name, ZERO), ZERO, 9, start)
    assert np.unique(together).size == 4

    def alone(i: int) -> np.ndarray:
        own = with_steps(of(name, ZERO), ZERO, 9)

        def noise(k: int) -> np.ndarray:
            return np.random.default_rng(k + 1).standard_normal(start.shape)[i : i + 1]  # (1, 1)

        return trajectory(
            denoiser(ZERO, MODES), start[i : i + 1], own.timesteps.tolist(), DiffusersStep(own), noise=noise
        )[-1]

    np.testing.assert_allclose(np.concatenate([alone(i) for i in range(4)]), together, atol=1e-12)


def test_a_step_again_from_the_same_past_is_the_same() -> None:
    first, again = (ours(of("DPMSolverMultistep", ZERO), ZERO, 6, quantile_noise(8)[:, None]) for _ in range(2))
    assert (first == again).all()


@pytest.mark.parametrize("name", LOSING)
def test_what_drops_zero_terminal_snr_is_refused_with_what_does_not(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}Scheduler does not end in pure noise .*; expected DDIM, .* UniPC"):
        of(name, ZERO)
    assert type(of(name.upper(), EPSILON)) is type(of(f"{name}Scheduler", EPSILON))
    assert of(name, EPSILON).config.beta_end == EPSILON.beta_end


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("unipcmultstep", "there is no scheduler 'unipcmultstep'; .* did you mean UniPCMultistepScheduler?"),
        ("unpic", "there is no scheduler 'unpic'; .* did you mean UniPCMultistepScheduler?"),
        ("euler", "there is no scheduler 'euler'; expected EulerAncestralDiscreteScheduler or EulerDiscreteScheduler"),
        ("", "there is no scheduler ''; expected the name of one of diffusers"),
        ("FlowMatchEulerDiscreteScheduler", "is not for models of this kind; expected DDIM"),
        ("EDMEulerScheduler", "EDMEulerScheduler cannot be used here|is not for models of this kind"),
        ("RePaint", "is not for models of this kind"),
        ("VQDiffusion", "is not for models of this kind"),
        ("CogVideoXDDIM", "has other noise levels than this model was trained with"),
    ],
)
def test_what_is_no_scheduler_of_ours_is_refused(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        of(name, ZERO)


def test_every_scheduler_of_diffusers_is_taken_or_refused() -> None:
    names = [one for one in dir(diffusers) if one.endswith("Scheduler")]
    taken = set()
    for name in names:
        with contextlib.suppress(ValueError):
            with_steps(of(name, ZERO), ZERO, 10)
            taken.add(name.removesuffix("Scheduler"))
    assert {*SAFE, "DDIM", "DDPM"} <= taken
    assert not taken & {*LOSING, "DDIMInverse", "FlowMatchEulerDiscrete"}


def test_a_scheduler_made_without_our_configuration_is_refused() -> None:
    right = default_scheduler(ZERO, clip=True).config
    check_scheduler(diffusers.UniPCMultistepScheduler.from_config(right), ZERO)
    for kind, changes, says in (
        (diffusers.UniPCMultistepScheduler, {"rescale_betas_zero_snr": False}, r"make it by UniPC\w+\.from_config"),
        (diffusers.UniPCMultistepScheduler, {"beta_end": 0.012}, "has other noise levels"),
        (diffusers.UniPCMultistepScheduler, {"num_train_timesteps": 500}, "has other noise levels"),
        (diffusers.EulerDiscreteScheduler, {"prediction_type": "epsilon"}, "this model predicts 'v_prediction'"),
        (diffusers.DPMSolverMultistepScheduler, {"final_sigmas_type": "sigma_min"}, "leaves noise in the images"),
    ):
        with pytest.raises(ValueError, match=says):
            check_scheduler(kind.from_config(right, **changes), ZERO)
    karras = diffusers.DPMSolverMultistepScheduler.from_config(right, use_karras_sigmas=True)
    with pytest.raises(ValueError, match=r"begins at timestep 99\d, .* expected 999, as without use_karras_sigmas"):
        with_steps(karras, ZERO, 10)
    leading = diffusers.DPMSolverMultistepScheduler.from_config(right, timestep_spacing="leading")
    with pytest.raises(ValueError, match=r"begins at timestep 9\d\d, .* as with timestep_spacing='trailing'"):
        with_steps(leading, ZERO, 10)


def test_steps_are_counted_by_evaluations() -> None:
    assert len(with_evaluations(of("UniPCMultistep", ZERO), ZERO, 20).timesteps) == 20
    heun = of("HeunDiscrete", EPSILON)
    for evaluations in (1, 2, 20, 21):
        found = len(with_evaluations(heun, EPSILON, evaluations).timesteps)
        assert found in (evaluations, evaluations - 1)
        assert found == 2 * ((evaluations + 1) // 2) - 1
    assert len(with_evaluations(of("PNDM", EPSILON), EPSILON, 30).timesteps) == 30
    with pytest.raises(ValueError, match=r"PNDMScheduler cannot (make \d steps|sample in 5 evaluations)"):
        with_evaluations(of("PNDM", EPSILON), EPSILON, 5)
    with pytest.raises(ValueError, match="steps is 1001; expected 1 to 1000"):
        with_steps(of("UniPCMultistep", ZERO), ZERO, 1001)
    with pytest.raises(ValueError, match="LCMScheduler cannot make 60 steps"):
        with_steps(of("LCM", ZERO), ZERO, 60)
