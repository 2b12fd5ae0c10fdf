"""The schedule against its formulas in NumPy, and against diffusers, which computes it in float32."""

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from fpdm.diffusion.schedule import Schedule, log_variance, posterior
from tests.oracle.gaussian import alphas_bar, levels

SCHEDULE = Schedule()
EVERY = torch.arange(1000)  # (N,)


@pytest.mark.parametrize("arguments", [(1000, 1e-4, 0.02), (50, 1e-3, 0.2), (2, 0.1, 0.2)])
def test_table_follows_the_formula(arguments):
    table = Schedule(*arguments).alphas_bar  # (N + 1,)
    assert table.dtype == torch.float64
    np.testing.assert_allclose(table, alphas_bar(*arguments), rtol=1e-11, atol=1e-15)
    assert table[0] == 1.0
    assert table[-1] == 0.0
    assert (table[1:] < table[:-1]).all()


def test_last_beta_is_one():
    t = torch.tensor([999])  # (1,)
    assert posterior(SCHEDULE, t, t - 1).beta.item() == 1.0


def test_without_rescaling_the_betas_are_the_given_ones():
    table = Schedule(zero_terminal_snr=False).alphas_bar  # (N + 1,)
    np.testing.assert_allclose(1.0 - table[1:] / table[:-1], np.linspace(1e-4, 0.02, 1000), rtol=1e-9)


def test_agrees_with_diffusers():
    theirs = DDIMScheduler(
        num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear", rescale_betas_zero_snr=True
    ).alphas_cumprod  # (N,)
    torch.testing.assert_close(SCHEDULE.alphas_bar[1:].float(), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler])
@pytest.mark.parametrize("schedule", [SCHEDULE, Schedule(200, 1e-3, 0.05), Schedule(zero_terminal_snr=False)])
def test_scheduler_config_makes_diffusers_schedulers(kind, schedule):
    config = schedule.scheduler_config()
    scheduler = kind(**config)
    assert {key: scheduler.config[key] for key in config} == config
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), schedule.alphas_bar[1:], rtol=0, atol=1e-5)
    scheduler.set_timesteps(10)
    assert scheduler.timesteps[0] == schedule.num_timesteps - 1
    assert scheduler.config.prediction_type == "v_prediction"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_conversions_are_inverse_at_every_timestep(dtype):
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 1000, 2, 3, 3, generator=generator, dtype=dtype)  # (N, C, H, W) each
    a, s = (torch.from_numpy(level[1:, None, None, None]).to(dtype) for level in levels()[:2])  # (N, 1, 1, 1) each
    x, v = SCHEDULE.add_noise(x0, eps, EVERY), SCHEDULE.velocity(x0, eps, EVERY)  # (N, C, H, W) each
    torch.testing.assert_close(x, a * x0 + s * eps)
    torch.testing.assert_close(v, a * eps - s * x0)
    exact = 1e-5 if dtype is torch.float32 else 1e-14
    torch.testing.assert_close(SCHEDULE.x0_from_v(x, v, EVERY), x0, rtol=0, atol=exact)
    torch.testing.assert_close(SCHEDULE.eps_from_v(x, v, EVERY), eps, rtol=0, atol=exact)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_conversions_at_pure_noise_and_at_the_clean_image(dtype):
    x, v = torch.randn(2, 4, 1, 2, 2, generator=torch.Generator().manual_seed(0)).to(dtype)  # (B, C, H, W) each
    last, clean = torch.full((4,), 999), torch.full((4,), -1)  # (B,) each
    assert torch.equal(SCHEDULE.x0_from_v(x, v, last), -v)
    assert torch.equal(SCHEDULE.eps_from_v(x, v, last), x)
    assert torch.equal(SCHEDULE.x0_from_v(x, v, clean), x)
    assert SCHEDULE.angle(last).flatten().tolist() == pytest.approx([np.pi / 2] * 4, abs=1e-15)
    assert SCHEDULE.angle(clean).flatten().tolist() == [0.0] * 4


def test_levels_and_angles_of_mixed_timesteps():
    t = torch.tensor([-1, 0, 17, 500, 998, 999])  # (B,)
    want = levels()
    a, s = SCHEDULE.signal(t)
    for got, table in ((a, want.a), (s, want.s), (SCHEDULE.angle(t), want.phi)):
        assert got.shape == (6, 1, 1, 1)
        np.testing.assert_allclose(got.flatten(), table[t.numpy() + 1], rtol=1e-9, atol=1e-15)


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(0, 999))
def test_posterior_is_that_of_bayes(first, second):
    """Conditioning of the joint Gaussian of (x_u, x_t) given x0, for any pair of timesteps."""
    t, u = max(first, second), min(first, second) - 1
    abar = alphas_bar()  # (N + 1,)
    abar_t, abar_u = abar[t + 1], abar[u + 1]
    k = np.sqrt(abar_t / abar_u)  # x_t = k x_u + noise
    mean = np.sqrt([abar_u, abar_t])  # (2,), times x0
    cov = np.array([[1 - abar_u, k * (1 - abar_u)], [k * (1 - abar_u), 1 - abar_t]])  # (2, 2)
    gain = cov[0, 1] / cov[1, 1]
    q = posterior(SCHEDULE, torch.tensor([t]), torch.tensor([u]))
    assert q.from_x.item() == pytest.approx(gain, rel=1e-9, abs=1e-15)
    assert q.from_x0.item() == pytest.approx(mean[0] - gain * mean[1], rel=1e-8, abs=1e-13)
    assert q.variance.item() == pytest.approx(cov[0, 0] - gain * cov[0, 1], rel=1e-8, abs=1e-13)
    assert q.beta.item() == pytest.approx(1 - k**2, rel=1e-8)


def test_learned_variance_interpolates_the_logarithms():
    t, u = torch.tensor([999, 700, 30]), torch.tensor([930, 600, 0])  # (B,) each
    q = posterior(SCHEDULE, t, u)
    floor = torch.full((3, 1, 1, 1), -torch.inf, dtype=torch.float64)  # (B, 1, 1, 1)
    for o, want in ((-1.0, q.variance), (1.0, q.beta), (0.0, (q.variance * q.beta).sqrt())):
        got = log_variance(torch.full((3, 2, 4, 4), o, dtype=torch.float64), q, floor)  # (B, C, H, W)
        torch.testing.assert_close(got.exp(), want.expand(3, 2, 4, 4))


@pytest.mark.parametrize(
    "arguments",
    [{"num_timesteps": 1}, {"beta_start": 0.0}, {"beta_start": 0.03}, {"beta_end": 1.0}, {"beta_end": float("nan")}],
)
def test_refuses_what_is_no_schedule(arguments):
    name, value = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=f"{name}.*{value}.*expected"):
        Schedule(**arguments)


@pytest.mark.parametrize(
    "schedule", [Schedule(), Schedule(500, 1e-3, 0.03, zero_terminal_snr=False, prediction="epsilon")]
)
def test_a_scheduler_knows_the_schedule_that_it_was_made_for(schedule):
    assert Schedule.from_scheduler_config(DDIMScheduler(**schedule.scheduler_config()).config) == schedule


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"beta_schedule": "scaled_linear"}, "betas 'scaled_linear'; expected linear ones"),
        ({"trained_betas": [0.1, 0.2]}, "expected linear ones"),
        ({"prediction_type": "sample"}, "the prediction 'sample'; expected v_prediction or epsilon"),
    ],
)
def test_a_scheduler_of_another_kind_has_no_schedule_of_ours(change, says):
    with pytest.raises(ValueError, match=says):
        Schedule.from_scheduler_config({**Schedule().scheduler_config(), "num_train_timesteps": 1000, **change})
