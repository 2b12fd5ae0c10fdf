"""The objective against its formulas, torch.distributions and closed forms."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from fpdm.diffusion.objective import Objective, variational_bound
from fpdm.diffusion.schedule import Schedule
from tests.oracle.gaussian import Gaussian, alphas_bar, levels

SCHEDULE = Schedule()
EVERY = torch.arange(1000)  # (N,)
ABAR = torch.from_numpy(alphas_bar())  # (N + 1,), timestep t at t + 1
WIDE = torch.float64


def batch(t, dtype=WIDE, seed=0):
    """x0, eps, x, a wrong v and raw variance channels for timesteps `t`."""
    generator = torch.Generator().manual_seed(seed)
    x0, eps, error, o = torch.randn(4, len(t), 2, 3, 3, generator=generator, dtype=dtype)  # (B, C, H, W) each
    abar = ABAR[t + 1].view(-1, 1, 1, 1).to(dtype)  # (B, 1, 1, 1)
    v = abar.sqrt() * eps - (1 - abar).sqrt() * x0  # (B, C, H, W)
    return x0, eps, abar.sqrt() * x0 + (1 - abar).sqrt() * eps, v + 0.3 * error, o.clamp(-2, 2)


def test_mse_is_on_v():
    x0, eps, x, value, _ = batch(EVERY)  # (N, C, H, W) each
    loss = Objective().loss(SCHEDULE, value, None, x, x0, eps, EVERY)
    abar = ABAR[1:]  # (N,)
    v = abar.sqrt().view(-1, 1, 1, 1) * eps - (1 - abar).sqrt().view(-1, 1, 1, 1) * x0  # (N, C, H, W)
    torch.testing.assert_close(loss.mse, ((value - v) ** 2).mean((1, 2, 3)), rtol=1e-5, atol=1e-6, check_dtype=False)
    assert torch.equal(loss.total, loss.mse)
    assert loss.vlb is None


def test_mse_on_v_is_snr_plus_one_times_that_on_x0():
    x0, eps, x, value, _ = batch(EVERY)  # (N, C, H, W) each
    mse = Objective().loss(SCHEDULE, value, None, x, x0, eps, EVERY).mse  # (N,)
    abar = ABAR[1:]  # (N,)
    x0_hat = abar.sqrt().view(-1, 1, 1, 1) * x - (1 - abar).sqrt().view(-1, 1, 1, 1) * value  # (N, C, H, W)
    on_x0 = ((x0_hat - x0) ** 2).mean((1, 2, 3))  # (N,)
    snr = abar / (1 - abar)  # (N,)
    torch.testing.assert_close(mse.double(), (snr + 1) * on_x0, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("gamma", "floor"), [(5.0, 0.05), (1.0, 0.0), (20.0, 0.3)])
def test_min_snr_weighting(gamma, floor):
    x0, eps, x, value, _ = batch(EVERY)  # (N, C, H, W) each
    loss = Objective("min_snr", gamma, floor).loss(SCHEDULE, value, None, x, x0, eps, EVERY)
    snr = ABAR[1:] / (1 - ABAR[1:])  # (N,)
    want = torch.clamp(snr.clamp(max=gamma) / (snr + 1), min=floor)  # (N,)
    torch.testing.assert_close((loss.total / loss.mse).double(), want, rtol=1e-5, atol=1e-7)
    assert (loss.total[-1] / loss.mse[-1]).item() == pytest.approx(floor)


def test_authors_weighting_is_snr_times_s_on_x0_and_all_but_ignores_noise():
    x0, eps, x, value, _ = batch(EVERY)  # (N, C, H, W) each
    loss = Objective("authors").loss(SCHEDULE, value, None, x, x0, eps, EVERY)
    abar = ABAR[1:]  # (N,)
    x0_hat = abar.sqrt().view(-1, 1, 1, 1) * x - (1 - abar).sqrt().view(-1, 1, 1, 1) * value  # (N, C, H, W)
    want = abar / (1 - abar) * (1 - abar).sqrt() * ((x0_hat - x0) ** 2).mean((1, 2, 3))  # (N,)
    torch.testing.assert_close(loss.total.double(), want, rtol=1e-4, atol=1e-6)
    weight = (loss.total / loss.mse).double()  # (N,)
    assert weight[-1] == 0.0
    assert (weight[700:].sum() / weight.sum()).item() == pytest.approx(0.003, abs=0.0005)


def bound(value, o, x, x0, t):
    """The VLB's term of one timestep in bits per dimension, by torch.distributions in float64."""
    abar_t, abar_u = ABAR[t + 1], ABAR[t]
    beta = 1 - abar_t / abar_u
    # Bayes: precisions add up.
    if t > 0:
        precision = abar_t / abar_u / beta + 1 / (1 - abar_u)
        mean, mean_hat = (
            ((abar_t / abar_u).sqrt() / beta * x + abar_u.sqrt() / (1 - abar_u) * clean) / precision
            for clean in (x0, abar_t.sqrt() * x - (1 - abar_t).sqrt() * value)
        )  # (C, H, W) each
        tilde = 1 / precision
    else:
        mean, mean_hat = x0, abar_t.sqrt() * x - (1 - abar_t).sqrt() * value  # (C, H, W) each
        beta_1 = 1 - ABAR[2] / ABAR[1]
        tilde = beta_1 * (1 - ABAR[1]) / (1 - ABAR[2])  # there it is 0: that of t = 1 instead
    f = (o + 1) / 2  # (C, H, W)
    p = Normal(mean_hat, (0.5 * (f * beta.log() + (1 - f) * tilde.log())).exp())
    nats = kl_divergence(Normal(mean, tilde.sqrt()), p) if t > 0 else -p.log_prob(x0)  # (C, H, W)
    return nats.mean() / math.log(2.0)


def test_bound_is_the_kl_divergence_in_bits_and_at_the_clean_end_the_likelihood():
    t = torch.tensor([0, 0, 1, 2, 10, 250, 500, 900, 998, 999])  # (B,)
    x0, eps, x, value, o = batch(t)  # (B, C, H, W) each
    want = torch.stack([bound(value[i], o[i], x[i], x0[i], k) for i, k in enumerate(t.tolist())])  # (B,)
    x0_hat = SCHEDULE.x0_from_v(x, value, t)  # (B, C, H, W)
    torch.testing.assert_close(variational_bound(SCHEDULE, x0_hat, o, x, x0, t), want, rtol=1e-8, atol=1e-10)
    # The loss is its sum with the weighted MSE, in float32.
    loss = Objective("authors").loss(SCHEDULE, value, o, x, x0, eps, t)
    assert loss.vlb is not None
    torch.testing.assert_close(loss.vlb.double(), want, rtol=1e-3, atol=1e-4)
    plain = Objective("authors").loss(SCHEDULE, value, None, x, x0, eps, t).total  # (B,)
    torch.testing.assert_close(loss.total - loss.vlb, plain, rtol=1e-4, atol=1e-4, check_dtype=False)


def test_bound_trains_the_variance_only():
    t = torch.tensor([0, 1, 400, 999])  # (B,)
    x0, eps, x, value, o = batch(t, torch.float32)  # (B, C, H, W) each
    value, o = value.requires_grad_(), o.requires_grad_()  # (B, C, H, W) each
    loss = Objective().loss(SCHEDULE, value, o, x, x0, eps, t)
    assert loss.vlb is not None
    by_value, by_o = torch.autograd.grad(
        loss.vlb.sum(), [value, o], allow_unused=True, retain_graph=True
    )  # (B, C, H, W)
    assert by_value is None or not by_value.any()
    # At T the two variances that o chooses between are equal to 1e-8.
    assert by_o[:3].flatten(1).abs().amin(1).gt(0).all()
    of_total = torch.autograd.grad(loss.total.sum(), value)[0]  # (B, C, H, W)
    v = SCHEDULE.velocity(x0, eps, t)  # (B, C, H, W)
    torch.testing.assert_close(of_total, 2 * (value.detach() - v) / value[0].numel(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weighting", ["uniform", "min_snr", "authors"])
def test_finite_with_finite_gradients_at_every_timestep(weighting):
    x0, eps, x, value, o = batch(EVERY, torch.float32)  # (N, C, H, W) each
    value, o = value.requires_grad_(), (10 * o).requires_grad_()  # (N, C, H, W) each
    loss = Objective(weighting).loss(SCHEDULE, value, o, x, x0, eps, EVERY)
    assert loss.vlb is not None
    for part in (loss.total, loss.mse, loss.vlb):
        assert part.shape == (1000,)
        assert part.dtype == torch.float32
        assert part.isfinite().all()
    for gradient in torch.autograd.grad(loss.total.sum(), [value, o]):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("spread", [0.0, 0.6])
@pytest.mark.parametrize("t", [1, 20, 300, 700])
def test_bound_is_least_at_the_true_posterior_variance(t, spread):
    """With the exact mean, the best variance is betatilde + from_x0^2 Var[x0 | x_t]; without a spread, betatilde."""
    table = levels()
    a, s = table.a[t + 1].reshape(1, 1), table.s[t + 1].reshape(1, 1)  # (1, 1) each
    x = np.array([[0.7]])  # (1, 1)
    data = Gaussian(np.array([0.2]), np.array([[max(spread, 1e-9) ** 2]]))
    x0_hat, inside = data.x0(x, a, s), data.variance(x, a, s)  # (1, 1) each
    abar_t, abar_u = table.a[t + 1] ** 2, table.a[t] ** 2
    beta = 1 - abar_t / abar_u
    tilde = beta * (1 - abar_u) / (1 - abar_t)
    best = tilde + (np.sqrt(abar_u) * beta / (1 - abar_t)) ** 2 * inside.item()
    want = 2 * math.log(best / tilde) / math.log(beta / tilde) - 1

    grid = torch.linspace(-3, 3, 6001, dtype=WIDE).view(-1, 1, 1, 1)  # (G, 1, 1, 1)
    everywhere = torch.full((6001,), t)  # (G,)
    total = torch.zeros(6001, dtype=WIDE)  # (G,)
    for sign in (-1.0, 1.0):  # two points with the mean and the variance of x0 given x_t
        x0 = torch.from_numpy(x0_hat + sign * np.sqrt(inside)).expand(6001, 1).view(-1, 1, 1, 1)  # (G, 1, 1, 1)
        hat = torch.from_numpy(x0_hat).expand(6001, 1).view(-1, 1, 1, 1)  # (G, 1, 1, 1)
        total += variational_bound(SCHEDULE, hat, grid, torch.full_like(hat, x.item()), x0, everywhere)  # (G,)
    assert grid[total.argmin()].item() == pytest.approx(want, abs=2e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weighting": "snr"}, "'snr'.*uniform, min_snr, authors"),
        ({"gamma": 0.0}, "gamma is 0.0"),
        ({"gamma": math.inf}, "gamma is inf"),
        ({"gamma": math.nan}, "gamma is nan"),
        ({"floor": -0.1}, "floor is -0.1"),
        ({"floor": 1.5}, "floor is 1.5"),
    ],
)
def test_refuses_what_is_no_objective(arguments, message):
    with pytest.raises(ValueError, match=message):
        Objective(**arguments)


DIT = Schedule(zero_terminal_snr=False, prediction="epsilon")


def test_dits_loss_is_on_eps_with_the_bound_of_the_same_image():
    t = torch.tensor([0, 1, 250, 998, 999])  # (B,)
    x0, eps, error, o = torch.randn(4, len(t), 2, 3, 3, generator=torch.Generator().manual_seed(3), dtype=WIDE)
    abar = DIT.alphas_bar[t + 1].view(-1, 1, 1, 1)  # (B, 1, 1, 1)
    x, value = abar.sqrt() * x0 + (1 - abar).sqrt() * eps, eps + 0.01 * error  # (B, C, H, W)
    loss = Objective().loss(DIT, value, o, x, x0, eps, t)
    torch.testing.assert_close(loss.mse.double(), 1e-4 * error.square().mean((1, 2, 3)), rtol=1e-4, atol=1e-9)
    x0_hat = (x - (1 - abar).sqrt() * value) / abar.sqrt()  # (B, C, H, W)
    want = variational_bound(DIT, x0_hat, o, x, x0, t)  # (B,)
    assert loss.vlb is not None
    torch.testing.assert_close(loss.vlb.double(), want, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(loss.total, loss.mse + loss.vlb)


@pytest.mark.parametrize("weighting", ["min_snr", "authors"])
def test_weightings_of_v_are_not_for_eps(weighting):
    t = torch.tensor([5])  # (B,)
    one = torch.ones(1, 1, 2, 2)  # (B, C, H, W)
    with pytest.raises(ValueError, match=f"weighting is '{weighting}', which is for the loss on v"):
        Objective(weighting).loss(DIT, one, None, one, one, one, t)


@pytest.mark.parametrize("weighting", ["uniform", "min_snr", "authors"])
def test_a_weaker_answer_adds_its_weighted_error_and_nothing_else(weighting):
    x0, eps, x, value, o = batch(EVERY)  # (N, C, H, W) each
    weak = value + 0.5  # (N, C, H, W)
    plain = Objective(weighting).loss(SCHEDULE, value, o, x, x0, eps, EVERY)
    other = Objective(weighting).loss(SCHEDULE, weak, None, x, x0, eps, EVERY)
    both = Objective(weighting, weak=0.2).loss(SCHEDULE, value, o, x, x0, eps, EVERY, weak=weak)
    torch.testing.assert_close(both.total, plain.total + 0.2 * other.total, rtol=1e-5, atol=1e-7)
    assert torch.equal(both.mse, plain.mse)
    assert torch.equal(both.vlb, plain.vlb)
