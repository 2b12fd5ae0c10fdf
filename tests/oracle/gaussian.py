"""Data whose best denoiser is known in closed form, and an adapter that answers like a network.

Everything mathematical is NumPy in float64, written from the formulas, and shares no code with fpdm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from fpdm.fixed_point.gradients import FixedPointSolver
from fpdm.models.transformer import Prediction


class Levels(NamedTuple):
    """Signal, noise and angle of timesteps -1 (clean), 0, ..., T: each (N + 1,), timestep t at index t + 1."""

    a: np.ndarray
    s: np.ndarray
    phi: np.ndarray


def alphas_bar(num_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> np.ndarray:
    """abar of timesteps -1, 0, ..., T: (N + 1,). Squares of sqrt(prod(1 - beta)), shifted and scaled to end at 0."""
    beta = beta_start + (beta_end - beta_start) * np.arange(num_timesteps) / (num_timesteps - 1)  # (N,)
    r = np.exp(0.5 * np.cumsum(np.log1p(-beta)))  # (N,)
    rescaled = (r - r[-1]) * r[0] / (r[0] - r[-1])  # (N,)
    return np.concatenate([[1.0], rescaled**2])  # (N + 1,)


def levels(num_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Levels:
    """The levels of this schedule."""
    abar = alphas_bar(num_timesteps, beta_start, beta_end)  # (N + 1,)
    a, s = np.sqrt(abar), np.sqrt(1.0 - abar)  # (N + 1,)
    return Levels(a, s, np.arctan2(s, a))


class Data(Protocol):
    """A distribution of x0, (B, D)."""

    def x0(self, x: np.ndarray, a: np.ndarray, s: np.ndarray) -> np.ndarray:
        """E[x0 | x_t = x], (B, D), at the levels `a` and `s`, (B, 1)."""
        ...

    def variance(self, x: np.ndarray, a: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Var[x0 | x_t = x] of each coordinate, (B, D)."""
        ...

    def flow(self, noise: np.ndarray) -> np.ndarray:
        """Where the probability-flow ODE takes pure noise, (B, D) to (B, D)."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """N(mean, cov): mean (D,), cov (D, D)."""

    mean: np.ndarray
    cov: np.ndarray

    def x0(self, x: np.ndarray, a: np.ndarray, s: np.ndarray) -> np.ndarray:
        """mean + a cov (a^2 cov + s^2 I)^-1 (x - a mean)."""
        lam, q = np.linalg.eigh(self.cov)  # (D,), (D, D)
        return self.mean + ((x - a * self.mean) @ q * (a * lam / (a**2 * lam + s**2))) @ q.T  # (B, D)

    def variance(self, x: np.ndarray, a: np.ndarray, s: np.ndarray) -> np.ndarray:
        """The diagonal of s^2 cov (a^2 cov + s^2 I)^-1."""
        lam, q = np.linalg.eigh(self.cov)  # (D,), (D, D)
        return (lam * s**2 / (a**2 * lam + s**2)) @ (q**2).T  # (B, D)

    def flow(self, noise: np.ndarray) -> np.ndarray:
        """mean + cov^(1/2) noise: along each axis the flow keeps the quantiles."""
        lam, q = np.linalg.eigh(self.cov)  # (D,), (D, D)
        return self.mean + (noise @ q * np.sqrt(lam)) @ q.T  # (B, D)


@dataclass(frozen=True)
class Mixture:
    """Gaussians of one width, for each coordinate by itself."""

    modes: tuple[float, ...]
    weights: tuple[float, ...]
    std: float

    def _parts(self, x: np.ndarray, a: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        modes = np.array(self.modes)  # (K,)
        a, s = a[..., None], s[..., None]  # (B, 1, 1)
        total = a**2 * self.std**2 + s**2  # (B, 1, 1): the variance of x_t in one mode
        gap = x[..., None] - a * modes  # (B, D, K)
        logits = np.log(self.weights) - gap**2 / (2.0 * total)  # (B, D, K)
        share = np.exp(logits - logits.max(-1, keepdims=True))  # (B, D, K)
        means = modes + a * self.std**2 / total * gap  # (B, D, K)
        return share / share.sum(-1, keepdims=True), means, self.std**2 * s**2 / total

    def x0(self, x: np.ndarray, a: np.ndarray, s: np.ndarray) -> np.ndarray:
        """The modes' own means by their probabilities."""
        share, means, _ = self._parts(x, a, s)  # (B, D, K) twice
        return (share * means).sum(-1)  # (B, D)

    def variance(self, x: np.ndarray, a: np.ndarray, s: np.ndarray) -> np.ndarray:
        """That within the modes, and that between them."""
        share, means, within = self._parts(x, a, s)  # (B, D, K) twice, (B, 1, 1)
        centre = (share * means).sum(-1, keepdims=True)  # (B, D, 1)
        return within[..., 0] + (share * (means - centre) ** 2).sum(-1)  # (B, D)

    def quantile(self, p: np.ndarray) -> np.ndarray:
        """The inverse of the distribution function, by bisection; any shape."""
        low, high = np.full_like(p, -10.0), np.full_like(p, 10.0)
        for _ in range(60):
            middle = (low + high) / 2.0
            below = (
                sum(w * norm.cdf((middle - m) / self.std) for m, w in zip(self.modes, self.weights, strict=True)) < p
            )
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2.0

    def flow(self, noise: np.ndarray) -> np.ndarray:
        """In one dimension the flow keeps the quantiles."""
        return self.quantile(norm.cdf(noise))


def quantile_noise(count: int) -> np.ndarray:
    """The middles of `count` equal shares of N(0, 1), in order: noise without chance, (count,)."""
    return norm.ppf((np.arange(count) + 0.5) / count)


Rate = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From timesteps and labels, (B,) each, to the factor by which the contraction shrinks, (B,) in (0, 1)."""


@dataclass
class Exact:
    """The best denoiser of `data`, answering like a `fpdm.sampling.Denoiser`.

    Its fixed point is a contraction that is solved as asked, so that budgets and reuse have something to act on; the
    prediction does not depend on it.

    Attributes:
        data: What it denoises.
        levels: Of its schedule.
        grid: If given, it has variance channels as well: those that are best for steps from each timestep to the next
            of this grid.
        rate: Of the contraction.
        starts: The z0 of every call.
    """

    data: Data
    levels: Levels = field(default_factory=levels)
    grid: Sequence[int] | None = None
    rate: Rate = field(default=lambda t, y: np.full(t.shape, 0.5))
    starts: list[Tensor | None] = field(default_factory=list)

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        y: Tensor | None = None,
        /,
        *,
        solver: FixedPointSolver,
        z0: Tensor | None = None,
        weak_depth: int | None = None,
    ) -> Prediction:
        """Predict v at `x` (B, C, H, W) and `t` (B,)."""
        self.starts.append(z0)
        flat = x.double().flatten(1).numpy()  # (B, D)
        steps = t.numpy()  # (B,)
        a, s = self.levels.a[steps + 1, None], self.levels.s[steps + 1, None]  # (B, 1)
        x0 = self.data.x0(flat, a, s)  # (B, D)
        value = (a * flat - x0) / s  # (B, D): v = a eps - s x0 with eps = (x - a x0) / s
        variance = None
        if self.grid is not None:
            after = dict(zip(self.grid, [*self.grid[1:], -1], strict=True))
            variance = self._interpolation(flat, steps, np.array([after[int(k)] for k in steps]))  # (B, D)

        labels = np.zeros_like(steps) if y is None else y.numpy()  # (B,)
        rate = torch.from_numpy(np.asarray(self.rate(steps, labels))).view(-1, 1, 1)  # (B, 1, 1)
        point = 1.0 + torch.tensor(self.levels.phi[steps + 1]).view(-1, 1, 1)  # (B, 1, 1): moves with the timestep
        start = torch.full((len(x), 2, 3), 0.5, dtype=torch.float64) if z0 is None else z0  # (B, T, D)
        solution = solver(lambda z: point + rate * (z - point), start)

        def shaped(array: np.ndarray | None) -> Tensor | None:
            return None if array is None else torch.from_numpy(array).view(x.shape).to(x.dtype)  # (B, C, H, W)

        predicted = shaped(value)  # (B, C, H, W)
        assert predicted is not None
        return Prediction(predicted, shaped(variance), solution)

    def _interpolation(self, x: np.ndarray, t: np.ndarray, u: np.ndarray) -> np.ndarray:
        """The o for which f log beta + (1 - f) log betatilde, f = (o + 1) / 2, is log Var[x_u | x_t]: (B, D)."""
        a, s = self.levels.a[t + 1, None], self.levels.s[t + 1, None]  # (B, 1)
        abar_u, abar_t = self.levels.a[u + 1, None] ** 2, a**2  # (B, 1)
        beta = 1.0 - abar_t / abar_u  # (B, 1)
        tilde = beta * (1.0 - abar_u) / (1.0 - abar_t)  # (B, 1)
        best = tilde + (np.sqrt(abar_u) * beta / (1.0 - abar_t)) ** 2 * self.data.variance(x, a, s)  # (B, D)
        last = u[:, None] < 0  # (B, 1): betatilde is 0, and nothing is added
        tilde = np.where(last, 0.5 * beta, tilde)  # (B, 1)
        return np.where(last, 0.0, 2.0 * np.log(best / tilde) / np.log(beta / tilde) - 1.0)  # (B, D)
