"""Linear maps, whose fixed points are known, and the plain loop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fpdm.fixed_point.solve import Map


@dataclass(frozen=True)
class LinearMap:
    """z -> A z + b, each sample with a map of its own."""

    a: Tensor  # (B, N, N)
    b: Tensor  # (B, N)

    def __call__(self, z: Tensor) -> Tensor:
        return (self.a @ z.unsqueeze(2)).squeeze(2) + self.b  # (B, N)

    def fixed_point(self) -> Tensor:
        return torch.linalg.solve(torch.eye(self.a.shape[1], dtype=self.a.dtype) - self.a, self.b)  # (B, N)

    def sample(self, i: int) -> LinearMap:
        return LinearMap(self.a[i : i + 1], self.b[i : i + 1])


def contraction(batch: int, n: int, *, factor: float = 0.8, seed: int = 0) -> LinearMap:
    """A random one in float64 that shrinks distances by `factor` at least."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(batch, n, n, generator=generator, dtype=torch.float64)  # (B, N, N)
    b = torch.randn(batch, n, generator=generator, dtype=torch.float64)  # (B, N)
    return LinearMap(factor * a / torch.linalg.matrix_norm(a, 2)[:, None, None], b)


def iterate(f: Map, z: Tensor, times: int) -> Tensor:
    for _ in range(times):
        z = f(z)  # (B, N)
    return z
