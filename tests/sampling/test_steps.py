"""The steps on data whose best denoiser is known in closed form, at numbers of steps that do not divide 1000."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from fpdm.diffusion.schedule import Schedule
from fpdm.sampling.steps import DDPM, STEPS, Denoised, DiffusersStep, Step, ddim, make_step, second_order
from fpdm.sampling.timesteps import custom, grid
from tests.oracle.gaussian import Exact, Gaussian, Mixture, levels, quantile_noise
from tests.sampling.helpers import SCHEDULE, moments, trajectory

ODD = (28, 35, 56, 93)
LEVELS = levels()
PLANE = Gaussian(np.array([0.3, -0.5]), np.array([[0.16, 0.09], [0.09, 0.25]]))
DIAGONAL = Gaussian(np.array([0.3, -0.5]), np.diag([0.16, 0.25]))
MODES = Mixture((-0.8, 0.8), (0.5, 0.5), 0.1)
UNEVEN = Mixture((-0.8, 0.8), (0.3, 0.7), 0.1)
KINDS = ("ddim", "second-order", "dpmsolver++", "unipc", "ddpm-small", "ddpm-large", "ddpm-learned")


def step_of(kind: str, timesteps: tuple[int, ...]) -> Step:
    return DDPM(kind[5:]) if kind.startswith("ddpm-") else make_step(kind, SCHEDULE, timesteps)


def exact(data: Any, kind: str, timesteps: tuple[int, ...]) -> Exact:
    return Exact(data, grid=timesteps if kind == "ddpm-learned" else None)


@pytest.mark.parametrize("t", [0, 100, 600, 950, 999])
def test_the_oracle_itself(t):
    """The closed forms against Bayes' rule on a fine grid of x0, and against conditioning of the joint Gaussian."""
    a, s = LEVELS.a[t + 1], LEVELS.s[t + 1]
    clean = np.linspace(-3, 3, 60_001)  # (G,)
    density = sum(w * norm.pdf(clean, m, UNEVEN.std) for m, w in zip(UNEVEN.modes, UNEVEN.weights, strict=True))  # (G,)
    for x in (-1.0, 0.05, 0.6):
        posterior = density * norm.pdf(x, a * clean, s)  # (G,)
        posterior /= posterior.sum()
        mean = (clean * posterior).sum()
        at = np.array([[x]]), np.array([[a]]), np.array([[s]])  # (1, 1) each
        assert UNEVEN.x0(*at).item() == pytest.approx(mean, abs=1e-8)
        assert UNEVEN.variance(*at).item() == pytest.approx(((clean - mean) ** 2 * posterior).sum(), abs=1e-8)
    at = np.array([[0.4, -0.9]]), np.array([[a]]), np.array([[s]])  # (1, 2), (1, 1), (1, 1)
    gain = a * PLANE.cov @ np.linalg.inv(a**2 * PLANE.cov + s**2 * np.eye(2))  # (D, D)
    np.testing.assert_allclose(PLANE.x0(*at)[0], PLANE.mean + gain @ (at[0][0] - a * PLANE.mean), atol=1e-10)
    np.testing.assert_allclose(PLANE.variance(*at)[0], np.diag(PLANE.cov - a * gain @ PLANE.cov), atol=1e-10)


@pytest.mark.parametrize("name", ["trailing", "linspace", "phi^1.5"])
@pytest.mark.parametrize("steps", ODD)
def test_ddim_is_the_exact_rotation(name, steps):
    timesteps = grid(SCHEDULE, steps, name)
    start = np.random.default_rng(0).standard_normal((5, 2))  # (B, D)
    x, want = start, []
    for t, u in zip(timesteps, [*timesteps[1:], -1], strict=True):
        a, s = LEVELS.a[t + 1], LEVELS.s[t + 1]
        v = (a * x - PLANE.x0(x, np.array([[a]]), np.array([[s]]))) / s  # (B, D)
        turn = LEVELS.phi[t + 1] - LEVELS.phi[u + 1]
        x = np.cos(turn) * x - np.sin(turn) * v  # (B, D)
        want.append(x)
    np.testing.assert_allclose(trajectory(Exact(PLANE), start, timesteps, ddim), want, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("steps", "std"), list(zip(ODD, (0.2045, 0.2129, 0.2262, 0.2353), strict=True)))
def test_ddim_has_the_right_spread_where_diffusers_has_not(steps, std):
    data = Gaussian(np.array([0.5]), np.array([[0.25**2]]))
    got = moments(Exact(data), 1, grid(SCHEDULE, steps), ddim)
    assert got.mean.item() == pytest.approx(0.5, abs=1e-12)
    assert np.sqrt(got.cov).item() == pytest.approx(std, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "near"),
    [
        ("ddim", 0.016),
        ("second-order", 1.5e-3),
        ("dpmsolver++", 1e-3),
        ("unipc", 1e-3),
        ("ddpm-small", 0.035),
        ("ddpm-large", 0.008),
        ("ddpm-learned", 0.004),
    ],
)
def test_moments_of_a_gaussian_converge(kind, near):
    """To be within `near` of the covariance at 93 steps, nearer than at any smaller number, and nearer still at 333."""
    errors = []
    for steps in (*ODD, 333):
        timesteps = grid(SCHEDULE, steps)
        got = moments(exact(PLANE, kind, timesteps), 2, timesteps, step_of(kind, timesteps))
        np.testing.assert_allclose(got.mean, PLANE.mean, atol=1e-4)
        errors.append(np.abs(got.cov - PLANE.cov).max())
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < near
    assert errors[4] < errors[3] / 2.5


@pytest.mark.parametrize("name", ["trailing", "linspace", "phi^1.5"])
@pytest.mark.parametrize("steps", [1, 2, 5, *ODD])
def test_ddpm_with_the_best_learned_variance_is_exact(name, steps):
    """Given its best variance, ancestral sampling of a Gaussian is exact at any number of steps.

    Only the last step, which adds nothing, lacks Var[x0 | x_t]: the law of total variance.
    """
    timesteps = grid(SCHEDULE, steps, name)
    got = moments(Exact(DIAGONAL, grid=timesteps), 2, timesteps, DDPM("learned"))
    a, s = LEVELS.a[timesteps[-1] + 1].reshape(1, 1), LEVELS.s[timesteps[-1] + 1].reshape(1, 1)  # (1, 1) each
    lost = DIAGONAL.variance(np.zeros((1, 2)), a, s)[0]  # (D,)
    np.testing.assert_allclose(got.mean, DIAGONAL.mean, atol=1e-11)
    np.testing.assert_allclose(got.cov, DIAGONAL.cov - np.diag(lost), atol=1e-11)


@pytest.mark.parametrize("name", ["trailing", "phi^1.5"])
@pytest.mark.parametrize("kind", ["ddim", "second-order", "dpmsolver++", "unipc"])
def test_a_mixture_converges_to_its_quantiles(kind, name):
    start = quantile_noise(1000)[:, None]  # (B, 1)
    truth = UNEVEN.flow(start)  # (B, 1)
    errors = []
    for steps in ODD:
        timesteps = grid(SCHEDULE, steps, name)
        x = trajectory(Exact(UNEVEN), start, timesteps, step_of(kind, timesteps))[-1]  # (B, 1)
        errors.append(np.abs(np.sort(x, 0) - truth).mean())
    assert errors[2] < 0.75 * errors[0]
    assert errors[3] < 0.45 * errors[0]
    assert errors[3] < {"trailing": 0.013, "phi^1.5": 0.005 if kind == "ddim" else 0.001}[name]


@pytest.mark.parametrize(("variance", "within"), [("small", 0.02), ("large", 0.02), ("learned", 0.005)])
@pytest.mark.parametrize("steps", [28, 93])
def test_ddpm_samples_a_mixture(steps, variance, within):
    """The modes' weights, means and widths; four standard errors where the sampler itself has none."""
    timesteps = grid(SCHEDULE, steps, "phi^1.5")
    rng = np.random.default_rng(steps)
    start = rng.standard_normal((4000, 1))  # (B, 1)
    denoiser = exact(UNEVEN, f"ddpm-{variance}", timesteps)
    x = trajectory(denoiser, start, timesteps, DDPM(variance), noise=lambda k: rng.standard_normal((4000, 1)))[
        -1
    ]  # (B, 1)
    assert (x > 0).mean() == pytest.approx(0.7, abs=0.03)
    for mode, part in ((0.8, x[x > 0]), (-0.8, x[x < 0])):
        assert part.mean() == pytest.approx(mode, abs=0.012)
        assert part.std() == pytest.approx(0.1, abs=within)


TABLE = {  # DDIM trailing, DDIM phi^1.5, second order trailing, second order phi^1.5, second order phi^2
    5: (0.267, 0.045, 0.175, 0.042, 0.025),
    10: (0.070, 0.024, 0.087, 0.011, 0.006),
    20: (0.035, 0.012, 0.043, 0.002, 0.002),
    40: (0.020, 0.006, 0.014, 0.001, 0.001),
}


@pytest.mark.parametrize("steps", TABLE)
def test_the_table_of_grids_and_orders(steps):
    """Modes at +-0.8 of width 0.1 reproduce the design's table: the trailing columns to their last digit but one.

    Its grids in powers of phi were not rounded alike, which shows at 5 steps.
    """
    start = quantile_noise(4000)[:, None]  # (B, 1)
    truth = MODES.flow(start)  # (B, 1)
    columns = [(ddim, "trailing"), (ddim, "phi^1.5")]
    columns += [(second_order, "trailing"), (second_order, "phi^1.5"), (second_order, "phi^2")]
    for (step, name), want in zip(columns, TABLE[steps], strict=True):
        x = trajectory(Exact(MODES), start, grid(SCHEDULE, steps, name), step)[-1]  # (B, 1)
        got = np.abs(np.sort(x, 0) - truth).mean()
        assert got == pytest.approx(want, abs=0.0015 if name == "trailing" or steps > 5 else 0.005)


@pytest.mark.parametrize(("step", "order"), [(ddim, 1.0), (second_order, 2.0)])
@pytest.mark.parametrize("data", [Mixture((0.3,), (1.0,), 0.5), Mixture((-0.6, 0.6), (0.5, 0.5), 0.4)])
def test_order_of_convergence(data, step, order):
    """The slope of the error against the flow in closed form, from pure noise to phi = 0.3, in equal angles."""
    fine = Schedule(100_000, 1e-6, 2e-4)  # many timesteps, so that a grid of angles is hardly rounded
    table = levels(100_000, 1e-6, 2e-4)
    start = np.linspace(-1.5, 1.5, 7)[:, None]  # (B, 1)
    errors = []
    for steps in (16, 32, 64, 128):
        wanted = np.linspace(np.pi / 2, 0.3, steps + 1)  # (S + 1,)
        timesteps = custom(fine, [int(np.abs(table.phi[1:] - phi).argmin()) for phi in wanted])
        a, s = table.a[timesteps[-1] + 1], table.s[timesteps[-1] + 1]
        there = Mixture(tuple(a * m for m in data.modes), data.weights, float(np.hypot(a * data.std, s)))
        x = trajectory(Exact(data, table), start, timesteps, step, schedule=fine)[-2]  # (B, 1): at the last timestep
        errors.append(np.abs(x - there.flow(start)).max())
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])  # (3,)
    assert slopes == pytest.approx([order] * 3, abs=0.1)


def known_at(t: torch.Tensor, seed: int) -> Denoised:
    """Some consistent x, x0 and eps at `t` (B,)."""
    generator = torch.Generator().manual_seed(seed)
    x0, eps, variance = torch.randn(3, len(t), 2, 3, 3, generator=generator, dtype=torch.float64)  # (B, C, H, W) each
    return Denoised(SCHEDULE.add_noise(x0, eps, t), x0, eps, variance.clamp(-1, 1))


def rows(known: Denoised, index: slice) -> Denoised:
    assert known.variance is not None
    return Denoised(known.x[index], known.x0[index], known.eps[index], known.variance[index])


@pytest.mark.parametrize("step", [ddim, second_order, DDPM("small"), DDPM("large"), DDPM("learned")])
def test_samples_at_different_timesteps_are_as_each_alone(step):
    paths = [(999, 700, 120, -1), (500, 400, 3, 1), (90, 0, -1, -1), (999, 998, 997, 996)]  # the third ends early
    noises = [
        torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in range(3)
    ]

    def run(index: slice) -> list[torch.Tensor]:
        memory, out = None, []
        for k in range(3):
            t, u = (torch.tensor([path[k + i] for path in paths])[index] for i in (0, 1))  # (B,) each
            keep = t >= 0  # (B,): the clean image is not stepped from; its row is of no interest
            known = rows(known_at(torch.tensor([path[k] for path in paths]).clamp_min(0), k), index)
            x, memory = step(
                SCHEDULE, known, t.clamp_min(0), u, noise=lambda noise=noises[k]: noise[index], memory=memory
            )  # (B, C, H, W)
            out.append(torch.where(keep.view(-1, 1, 1, 1), x, 0.0))  # (B, C, H, W)
        return out

    together = run(slice(None))
    for i in range(len(paths)):
        for k, alone in enumerate(run(slice(i, i + 1))):
            assert alone.isfinite().all()
            torch.testing.assert_close(together[k][i : i + 1], alone, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_past_goes_in_and_comes_out(kind):
    """A step called again with the same memory answers the same, whatever was run in between."""
    timesteps = grid(SCHEDULE, 5)
    step = step_of(kind, timesteps)

    def at(k: int, memory: Any) -> Any:
        t, u = (torch.full((3,), (*timesteps, -1)[k + i]) for i in (0, 1))  # (B,) each
        return step(SCHEDULE, known_at(t, k), t, u, noise=lambda: torch.ones(3, 2, 3, 3).double(), memory=memory)

    first = at(0, None)
    second = at(1, first.memory)
    kept = copy.deepcopy(second.memory)
    third = at(2, second.memory)
    at(3, third.memory)
    assert torch.equal(at(2, second.memory).x, third.x)
    assert torch.equal(at(2, kept).x, third.x)
    assert torch.equal(at(1, first.memory).x, second.x)
    assert torch.equal(at(0, None).x, first.x)
    remembers = not torch.equal(at(1, None).x, second.x)
    assert remembers == (kind in ("second-order", "dpmsolver++", "unipc"))


@pytest.mark.parametrize("kind", DiffusersStep.KINDS)
def test_a_step_of_diffusers_copies_its_history_only_and_has_the_same_bits_as_a_deep_copy(kind, monkeypatch):
    timesteps = grid(SCHEDULE, 6)

    def run() -> tuple[list[torch.Tensor], Any]:
        step, memory, images = step_of(kind, timesteps), None, []
        for k in range(6):
            t, u = (torch.full((3,), (*timesteps, -1)[k + i]) for i in (0, 1))  # (B,) each
            images.append((now := step(SCHEDULE, known_at(t, k), t, u, noise=lambda: torch.zeros(()), memory=memory)).x)
            memory = now.memory
        return images, memory

    monkeypatch.setattr("fpdm.sampling.steps._with_own_history", copy.deepcopy)
    expected, deep = run()
    monkeypatch.undo()
    monkeypatch.setattr(copy, "deepcopy", lambda *_: pytest.fail("a deep copy"))
    found, own = run()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert own.scheduler.model_outputs is not deep.scheduler.model_outputs


@pytest.mark.parametrize("variance", ["small", "large", "learned"])
@pytest.mark.parametrize("u", [-1, 0, 300])
def test_ddpm_step_has_the_posteriors_mean_and_variance(variance, u):
    before, t, after = torch.full((3,), 800), torch.full((3,), 500), torch.full((3,), u)  # (B,) each
    step = DDPM(variance)
    memory = step(SCHEDULE, known_at(before, 0), before, t, noise=lambda: torch.zeros(()), memory=None).memory
    known = known_at(t, 1)
    none, one = (
        step(
            SCHEDULE, known, t, after, noise=lambda size=size: torch.full((3, 2, 3, 3), size).double(), memory=memory
        ).x
        for size in (0.0, 1.0)
    )  # (B, C, H, W) each
    abar_t, abar_u = LEVELS.a[501] ** 2, LEVELS.a[u + 1] ** 2
    k = np.sqrt(abar_t / abar_u)
    beta, gain = 1 - k**2, k * (1 - abar_u) / (1 - abar_t)  # of x_t = k x_u + noise: its variance, and Kalman's gain
    mean = np.sqrt(abar_u) * known.x0 + gain * (known.x - np.sqrt(abar_t) * known.x0)  # (B, C, H, W)
    torch.testing.assert_close(none, mean, rtol=0, atol=1e-12)
    if u < 0:
        assert torch.equal(one, none)
        torch.testing.assert_close(one, known.x0, rtol=0, atol=1e-12)
        return
    assert known.variance is not None
    tilde = (1 - gain * k) * (1 - abar_u)
    f = (known.variance + 1) / 2  # (B, C, H, W)
    sigma = {"small": tilde**0.5 + 0 * f, "large": beta**0.5 + 0 * f, "learned": (beta**f * tilde ** (1 - f)).sqrt()}
    torch.testing.assert_close(one - none, sigma[variance], rtol=0, atol=1e-12)


def test_names():
    timesteps = grid(SCHEDULE, 4)
    assert make_step("ddim", SCHEDULE, timesteps) is ddim
    assert make_step("second-order", SCHEDULE, timesteps) is second_order
    assert make_step("ddpm", SCHEDULE, timesteps) == DDPM("small")
    assert make_step("ddpm", SCHEDULE, timesteps, learned_variance=True) == DDPM("learned")
    assert {"ddim", "ddpm", "second-order", "dpmsolver++", "unipc"} == set(STEPS)
    with pytest.raises(ValueError, match="the sampler is 'heun'; expected one of ddim"):
        make_step("heun", SCHEDULE, timesteps)
    with pytest.raises(ValueError, match="the scheduler is 'heun'"):
        DiffusersStep.multistep("heun", SCHEDULE, timesteps)
    with pytest.raises(ValueError, match="variance is 'big'; expected small, large or learned"):
        DDPM("big")


def test_a_learned_variance_must_be_learned():
    timesteps = grid(SCHEDULE, 3)
    with pytest.raises(ValueError, match="this model does not learn its variance"):
        trajectory(Exact(PLANE), np.zeros((1, 2)), timesteps, DDPM("learned"), noise=lambda k: np.zeros((1, 2)))
