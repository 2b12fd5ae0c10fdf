"""The middle of the transformer: a stack of explicit blocks (DiT) or the fixed-point layer (FPDM).

Both have the same interface, and nothing outside this package asks which of the two it has.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fpdm.fixed_point.gradients import FixedPointSolver
from fpdm.fixed_point.solve import Map, Solution
from fpdm.models.block import Blocks, DiTBlock, Modulation, init_linears, recomputed


class Context(NamedTuple):
    """Values that are constant over the iterations of one timestep.

    Attributes:
        modulations: Modulation of each block that is iterated.
        injected: Constant part of the injection, (B, T, K); None in a stack, which has none.
    """

    modulations: tuple[Modulation, ...]
    injected: Tensor | None


class Middle(nn.Module, abc.ABC):
    """The part of the transformer between the pre and the post blocks."""

    @abc.abstractmethod
    def prepare(self, x: Tensor, c: Tensor) -> Context:
        """Compute what is constant over the iterations from `x` (B, T, D) and the conditioning `c` (B, D)."""

    @abc.abstractmethod
    def iterate(self, z: Tensor, context: Context) -> Tensor:
        """Apply what is repeated once, (B, T, D) to (B, T, D): f of a fixed point, or all blocks of a stack."""

    @abc.abstractmethod
    def forward(self, x: Tensor, c: Tensor, *, solver: FixedPointSolver, z0: Tensor | None = None) -> Solution:
        """Solve for the hidden state.

        Args:
            x: Output of the pre blocks, (B, T, D).
            c: Conditioning, (B, D).
            solver: Solver of the fixed point; a stack ignores it.
            z0: Initial iterate, (B, T, D), such as the previous timestep's solution. None starts from `x`.
        """

    @abc.abstractmethod
    def with_weaker(
        self, x: Tensor, c: Tensor, *, depth: int, solver: FixedPointSolver, z0: Tensor | None = None
    ) -> tuple[Solution, Tensor]:
        """Solve for the hidden state, and return with it the hidden state of a weaker answer.

        Args:
            x: Output of the pre blocks, (B, T, D).
            c: Conditioning, (B, D).
            depth: Depth of the weaker answer, from 0, where it is `x`: the iterations of a fixed point from a cold
                start, whatever the solve starts from, or the blocks that a stack applies.
            solver: As in `forward`.
            z0: As in `forward`.

        Returns:
            The solution, and the weaker hidden state, (B, T, D). What the solve computes anyway is not computed again:
            all of it in a stack, and the first iterate of a solve that starts cold.

        Raises:
            ValueError: A stack has no more than `depth` blocks.
        """

    @abc.abstractmethod
    def with_exit(
        self, x: Tensor, c: Tensor, *, at: float, solver: FixedPointSolver, z0: Tensor | None = None
    ) -> tuple[Solution, Tensor | None]:
        """Solve for the hidden state, and return with it that of an early exit on the way, (B, T, D).

        Nothing is computed for it alone. None if nothing before the last state is differentiated as that is.

        Args:
            x: Output of the pre blocks, (B, T, D).
            c: Conditioning, (B, D).
            at: Share of the way at which to exit, from 0 to below 1: of the iterates with gradient before the last, or
                of the blocks of a stack, where 0 exits before the first.
            solver: As in `forward`.
            z0: As in `forward`.
        """

    @abc.abstractmethod
    def listed(self) -> list[DiTBlock]:
        """Return the blocks, each once, in the order in which they are applied."""

    @abc.abstractmethod
    def compile_iterations(self, *, graphs: bool, backend: str) -> None:
        """Compile what is applied again and again; the arguments are those of `DiffusionTransformer`."""

    @abc.abstractmethod
    def recompute(self, *, blocks: bool, iterations: bool) -> None:
        """Choose what the backward pass recomputes instead of storing it: the blocks of a stack, or iterations."""


class BlockStack(Middle):
    """Stack of blocks of a fixed depth, which makes the model a DiT.

    With `repeats` above 1 the same blocks are applied several times: shared weights and a fixed depth, no injection.
    """

    def __init__(self, blocks: Blocks, repeats: int = 1) -> None:
        super().__init__()
        self.blocks, self.repeats = blocks, repeats

    def prepare(self, x: Tensor, c: Tensor) -> Context:
        return Context(self.blocks.modulations(c), None)

    def iterate(self, z: Tensor, context: Context) -> Tensor:
        return self.blocks(z, context.modulations)  # (B, T, D)

    def forward(self, x: Tensor, c: Tensor, *, solver: FixedPointSolver, z0: Tensor | None = None) -> Solution:
        """Apply all blocks; `solver` and `z0` are ignored."""
        context = self.prepare(x, c)
        for _ in range(self.repeats):
            x = self.iterate(x, context)  # (B, T, D)
        return Solution(x, len(self.blocks) * self.repeats)

    def with_weaker(
        self, x: Tensor, c: Tensor, *, depth: int, solver: FixedPointSolver, z0: Tensor | None = None
    ) -> tuple[Solution, Tensor]:
        total, modulations = len(self.blocks) * self.repeats, self.blocks.modulations(c)
        if not 0 <= depth < total:
            raise ValueError(f"depth is {depth}; expected 0 to {total - 1}, fewer than the {total} blocks of the stack")
        weak, (whole, part) = x, divmod(depth, len(self.blocks))
        for repeat in range(self.repeats):
            if repeat == whole:
                weak = self.blocks(x, modulations, stop=part)  # (B, T, D)
                x = self.blocks(weak, modulations, start=part)  # (B, T, D)
            else:
                x = self.blocks(x, modulations)  # (B, T, D)
        return Solution(x, total), weak

    def with_exit(
        self, x: Tensor, c: Tensor, *, at: float, solver: FixedPointSolver, z0: Tensor | None = None
    ) -> tuple[Solution, Tensor | None]:
        total = len(self.blocks) * self.repeats
        if not total:
            return self(x, c, solver=solver), None
        return self.with_weaker(x, c, depth=int(at * total), solver=solver)

    def compile_iterations(self, *, graphs: bool, backend: str) -> None:
        self.blocks.compile_each(backend)

    def recompute(self, *, blocks: bool, iterations: bool) -> None:
        self.blocks.recompute = blocks

    def listed(self) -> list[DiTBlock]:
        return list(self.blocks)


class Injection(nn.Module, abc.ABC):
    """Input injection: adds the pre blocks' output to every iteration.

    It is split into a part that is constant over the iterations and one that is not.
    """

    @abc.abstractmethod
    def prepare(self, x: Tensor) -> Tensor:
        """Compute the constant part, (B, T, D) to (B, T, K)."""

    @abc.abstractmethod
    def forward(self, z: Tensor, injected: Tensor) -> Tensor:
        """Combine `z` (B, T, D) with the constant part (B, T, K), to (B, T, D)."""


class MLPInjection(Injection):
    """The paper's injection, W2 gelu(W1 [z ; u] + b1) + b2 with u = W0 x + b0 (Eq. 2 and the authors' code).

    W1 [z ; u] + b1 = W1z z + (W1u u + b1), and the term in brackets is constant over the iterations.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.project = nn.Linear(width, width)  # W0
        self.fc1 = nn.Linear(2 * width, 2 * width)  # W1: the first D columns multiply z, the last D multiply u
        self.fc2 = nn.Linear(2 * width, width)  # W2
        init_linears(self)

    def prepare(self, x: Tensor) -> Tensor:
        """Compute W1u u + b1, (B, T, D) to (B, T, 2D)."""
        u = self.project(x)  # (B, T, D)
        return F.linear(u, self.fc1.weight[:, self.width :], self.fc1.bias)  # (B, T, 2D)

    def forward(self, z: Tensor, injected: Tensor) -> Tensor:
        hidden = F.linear(z, self.fc1.weight[:, : self.width]) + injected  # (B, T, 2D)
        return self.fc2(F.gelu(hidden, approximate="tanh"))  # (B, T, D)


class LinearInjection(Injection):
    """Injection Wz z + Wu x + b, initialised as (z + x) / 2, so that it halves distances between iterates at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.from_z = nn.Linear(width, width, bias=False)
        self.from_x = nn.Linear(width, width)
        with torch.no_grad():
            for layer in (self.from_z, self.from_x):
                nn.init.eye_(layer.weight).mul_(0.5)
            nn.init.zeros_(self.from_x.bias)

    def prepare(self, x: Tensor) -> Tensor:
        return self.from_x(x)  # (B, T, D)

    def forward(self, z: Tensor, injected: Tensor) -> Tensor:
        return self.from_z(z) + injected  # (B, T, D)


INJECTIONS: dict[str, type[MLPInjection] | type[LinearInjection]] = {"mlp": MLPInjection, "linear": LinearInjection}
"""Injections by name."""


@dataclass(frozen=True)
class Compiled:
    """An iteration, compiled when it is first called with tensors of a new shape.

    Attributes:
        graphs: Replay iterations without gradient as CUDA graphs.
        backend: Compiler.
    """

    graphs: bool
    backend: str

    def __call__(self, layer: FixedPointLayer, z: Tensor, context: Context) -> Tensor:
        if not self.graphs or torch.is_grad_enabled():
            return _compiled(self.backend, "default")(layer, z, context)  # (B, T, D)
        torch.compiler.cudagraph_mark_step_begin()
        # The next replay overwrites the result.
        return _compiled(self.backend, "reduce-overhead")(layer, z, context).clone()  # (B, T, D)


@functools.cache
def _compiled(backend: str, mode: str) -> Callable[[FixedPointLayer, Tensor, Context], Tensor]:
    """Compile an iteration. The layer is an argument, so that copies of a layer iterate with their own weights."""
    options: dict[str, Any] = {"mode": mode} if backend == "inductor" else {}
    return torch.compile(FixedPointLayer._iterate, backend=backend, **options)


class FixedPointLayer(Middle):
    """Fixed point of f(z) = cell(injection(z, x), c) (paper Eq. 3), which makes the model an FPDM.

    The cell is a short sequence of blocks, one in the paper.
    """

    def __init__(self, cell: Blocks, injection: Injection) -> None:
        super().__init__()
        self.injection = injection
        self.cell = cell
        self._recompute = False
        self._compiled: Compiled | None = None

    def prepare(self, x: Tensor, c: Tensor) -> Context:
        return Context(self.cell.modulations(c), self.injection.prepare(x))

    def iterate(self, z: Tensor, context: Context) -> Tensor:
        """Apply f once, (B, T, D) to (B, T, D). This is the hot function, and the unit to compile."""
        if self._compiled is None:
            return self._iterate(z, context)  # (B, T, D)
        return self._compiled(self, z, context)  # (B, T, D)

    def _iterate(self, z: Tensor, context: Context) -> Tensor:
        assert context.injected is not None
        # Under autocast the injection returns a lower precision, but the residual stream stays in z's, as in a DiT.
        injected = self.injection(z, context.injected).to(z.dtype)  # (B, T, D)
        return self.cell(injected, context.modulations)  # (B, T, D)

    def forward(self, x: Tensor, c: Tensor, *, solver: FixedPointSolver, z0: Tensor | None = None) -> Solution:
        """Solve from `z0` or `x`. The solver decides whether gradients flow through the start into the pre blocks."""
        return solver(self._map(x, c), _start(x, z0))

    def with_weaker(
        self, x: Tensor, c: Tensor, *, depth: int, solver: FixedPointSolver, z0: Tensor | None = None
    ) -> tuple[Solution, Tensor]:
        f = _Keeps(self._map(x, c), most=1)
        solution = solver(f, _start(x, z0))
        first = f.kept[0] if f.kept else None  # (B, T, D) or None
        # A cold start, like that of S-JFB, passes no gradient on.
        weak, left = (x.detach(), depth) if depth else (x, 0)  # (B, T, D)
        if depth and z0 is None and first is not None:
            weak, left = first, depth - 1  # (B, T, D)
        for _ in range(left):
            weak = f(weak)  # (B, T, D)
        return solution, weak

    def with_exit(
        self, x: Tensor, c: Tensor, *, at: float, solver: FixedPointSolver, z0: Tensor | None = None
    ) -> tuple[Solution, Tensor | None]:
        f = _Keeps(self._map(x, c))
        solution = solver(f, _start(x, z0))
        before = [state for state in f.kept if state is not None][:-1]  # of (B, T, D)
        return solution, before[int(at * len(before))] if before else None

    def _map(self, x: Tensor, c: Tensor) -> Map:
        context = self.prepare(x, c)
        if self._recompute:
            return lambda z: recomputed(self.iterate, z, context)
        return lambda z: self.iterate(z, context)

    def compile_iterations(self, *, graphs: bool, backend: str) -> None:
        self._compiled = Compiled(graphs, backend)

    def recompute(self, *, blocks: bool, iterations: bool) -> None:
        self._recompute = iterations

    def listed(self) -> list[DiTBlock]:
        return list(self.cell)


class _Keeps:
    """A map that keeps its first results, but None for one computed without the gradient that the caller has enabled.

    Args:
        f: The map.
        most: Number of results to keep; None for all.
    """

    def __init__(self, f: Map, most: int | None = None) -> None:
        self.f, self.most, self._grad = f, most, torch.is_grad_enabled()
        self.kept: list[Tensor | None] = []

    def __call__(self, z: Tensor) -> Tensor:
        out = self.f(z)  # (B, T, D)
        if self.most is None or len(self.kept) < self.most:
            self.kept.append(out if torch.is_grad_enabled() == self._grad else None)
        return out


def _start(x: Tensor, z0: Tensor | None) -> Tensor:
    start = x if z0 is None else z0  # (B, T, D)
    if start.shape != x.shape:
        raise ValueError(
            f"z0 has shape {tuple(start.shape)}; expected {tuple(x.shape)}, the shape of this batch's tokens"
        )
    return start
