"""The middle of the transformer: a stack of explicit blocks (DiT) or the fixed-point layer (FPDM).

Both answer the same questions, and nothing outside this file asks which of the two it has.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fpdm.fixed_point.gradients import FixedPointSolver
from fpdm.fixed_point.solve import Solution
from fpdm.models.block import Blocks, DiTBlock, Modulation, init_linears, recomputed


class Middle(nn.Module, abc.ABC):
    """What stands between the first and the last blocks."""

    @abc.abstractmethod
    def forward(self, x: Tensor, c: Tensor, *, solver: FixedPointSolver, z0: Tensor | None = None) -> Solution:
        """Solve for the hidden state.

        Args:
            x: The output of the pre blocks, (B, T, D).
            c: The conditioning, (B, D).
            solver: How to solve a fixed point, where there is one.
            z0: Where to start, (B, T, D); the last timestep's solution, say. None starts from `x`.
        """

    @abc.abstractmethod
    def listed(self) -> list[DiTBlock]:
        """Its blocks, each once, in the order in which they are applied."""

    @abc.abstractmethod
    def recompute(self, *, blocks: bool, iterations: bool) -> None:
        """Choose what the backward pass computes again instead of keeping: explicit blocks, iterations."""


class BlockStack(Middle):
    """Explicit blocks, one after the other: with it the model is a DiT. It is exactly as deep as it is.

    With `repeats` above 1 the same blocks are applied over again: weights shared at a fixed depth, and no injection.
    """

    def __init__(self, blocks: Blocks, repeats: int = 1) -> None:
        super().__init__()
        self.blocks, self.repeats = blocks, repeats

    def forward(self, x: Tensor, c: Tensor, *, solver: FixedPointSolver, z0: Tensor | None = None) -> Solution:
        """Apply all blocks; there is nothing to solve and no start to choose."""
        modulations = self.blocks.modulations(c)
        for _ in range(self.repeats):
            x = self.blocks(x, modulations)  # (B, T, D)
        return Solution(x, len(self.blocks) * self.repeats)

    def recompute(self, *, blocks: bool, iterations: bool) -> None:
        """Its blocks are explicit ones."""
        self.blocks.recompute = blocks

    def listed(self) -> list[DiTBlock]:
        """All of the stack."""
        return list(self.blocks)


class Injection(nn.Module, abc.ABC):
    """How the pre blocks' output enters each iteration, split into what is constant over them and what is not."""

    @abc.abstractmethod
    def prepare(self, x: Tensor) -> Tensor:
        """The constant part, (B, T, D) to (B, T, K)."""

    @abc.abstractmethod
    def forward(self, z: Tensor, injected: Tensor) -> Tensor:
        """One iteration's mix of `z` (B, T, D) and the constant part (B, T, K), to (B, T, D)."""


class MLPInjection(Injection):
    """The paper's: W2 gelu(W1 [z ; u] + b1) + b2 with u = W0 x + b0 (Eq. 2 and the authors' code).

    W1 [z ; u] + b1 = W1z z + (W1u u + b1), and the bracket does not change over the iterations.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.project = nn.Linear(width, width)  # W0
        self.fc1 = nn.Linear(2 * width, 2 * width)  # W1: its first D columns meet z, its last D meet u
        self.fc2 = nn.Linear(2 * width, width)  # W2
        init_linears(self)

    def prepare(self, x: Tensor) -> Tensor:
        """W1u u + b1, (B, T, D) to (B, T, 2D)."""
        u = self.project(x)  # (B, T, D)
        return F.linear(u, self.fc1.weight[:, self.width :], self.fc1.bias)  # (B, T, 2D)

    def forward(self, z: Tensor, injected: Tensor) -> Tensor:
        """(B, T, D) and (B, T, 2D) to (B, T, D)."""
        hidden = F.linear(z, self.fc1.weight[:, : self.width]) + injected  # (B, T, 2D)
        return self.fc2(F.gelu(hidden, approximate="tanh"))  # (B, T, D)


class LinearInjection(Injection):
    """Wz z + Wu x + b, starting as the mean of the two, so that at first the map contracts by one half."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.from_z = nn.Linear(width, width, bias=False)
        self.from_x = nn.Linear(width, width)
        with torch.no_grad():
            for layer in (self.from_z, self.from_x):
                nn.init.eye_(layer.weight).mul_(0.5)
            nn.init.zeros_(self.from_x.bias)

    def prepare(self, x: Tensor) -> Tensor:
        """Wu x + b, (B, T, D) to (B, T, D)."""
        return self.from_x(x)  # (B, T, D)

    def forward(self, z: Tensor, injected: Tensor) -> Tensor:
        """(B, T, D) and (B, T, D) to (B, T, D)."""
        return self.from_z(z) + injected  # (B, T, D)


INJECTIONS: dict[str, type[MLPInjection] | type[LinearInjection]] = {"mlp": MLPInjection, "linear": LinearInjection}
"""The injections by name."""


@dataclass(frozen=True)
class Context:
    """What is constant over the iterations of one timestep.

    Attributes:
        modulations: One for each block of the cell.
        injected: The injection's constant part, (B, T, K).
    """

    modulations: tuple[Modulation, ...]
    injected: Tensor


class FixedPointLayer(Middle):
    """The fixed point of f(z) = cell(injection(z, x), c) (paper Eq. 3): with it the model is an FPDM.

    The cell is a short sequence of blocks, one in the paper.
    """

    def __init__(self, cell: Blocks, injection: Injection) -> None:
        super().__init__()
        self.injection = injection
        self.cell = cell
        self._recompute = False

    def prepare(self, x: Tensor, c: Tensor) -> Context:
        """What does not change over the iterations: `x` (B, T, D) injected, and the modulation by `c` (B, D)."""
        return Context(self.cell.modulations(c), self.injection.prepare(x))

    def iterate(self, z: Tensor, context: Context) -> Tensor:
        """One application of f, (B, T, D) to (B, T, D): the hot function, and the unit to compile."""
        # In z's type: under autocast the injection gives a lower one, and a residual stream wants float32, as in a DiT.
        injected = self.injection(z, context.injected).to(z.dtype)  # (B, T, D)
        return self.cell(injected, context.modulations)  # (B, T, D)

    def forward(self, x: Tensor, c: Tensor, *, solver: FixedPointSolver, z0: Tensor | None = None) -> Solution:
        """Solve from `z0`, or from `x`. Whether the pre blocks learn through the start too is the solver's to say."""
        context = self.prepare(x, c)
        start = x if z0 is None else z0  # (B, T, D)
        if start.shape != x.shape:
            raise ValueError(
                f"z0 has shape {tuple(start.shape)}; expected {tuple(x.shape)}, that of this batch's tokens"
            )
        if self._recompute:
            return solver(lambda z: recomputed(self.iterate, z, context), start)
        return solver(lambda z: self.iterate(z, context), start)

    def recompute(self, *, blocks: bool, iterations: bool) -> None:
        """An iteration is kept or computed again whole."""
        self._recompute = iterations

    def listed(self) -> list[DiTBlock]:
        """Those of the cell."""
        return list(self.cell)
