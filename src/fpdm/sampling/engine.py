"""The engine that draws images: batches, or slots that refill where samples take different numbers of iterations.

In a batch all samples wait for the slowest solve of every step. In slots none does, as in servers of language models,
which batch requests continuously: a sample leaves its solve when it has converged and goes on to its own next timestep,
and the slot of a finished sample takes the next one of the job. The rows that are evaluated are exactly those that
count in a budget.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fpdm.diffusion.schedule import Schedule
from fpdm.fixed_point.gradients import FixedPointSolver
from fpdm.fixed_point.solve import Solution, Solver, Stop, mean_iterations, relative_change
from fpdm.models.middle import Context
from fpdm.models.transformer import DiffusionTransformer, Prediction
from fpdm.sampling.allocation import Allocation, AllocationState
from fpdm.sampling.budget import Budget
from fpdm.sampling.guidance import Denoiser
from fpdm.sampling.steps import Denoised, DiffusersStep, Step


class Begun(NamedTuple):
    """Values that an evaluation computes before it iterates; rows of several evaluations may be mixed.

    Attributes:
        start: Output of the pre blocks, the start of a cold solve, (B, T, D).
        context: Values that are constant over the iterations.
        outer: Conditioning of the post blocks and the head, (B, D).
    """

    start: Tensor
    context: Context
    outer: Tensor


class Drawn(NamedTuple):
    """Samples that are finished.

    Attributes:
        places: Their places in the job.
        x: The samples, (B, C, H, W).
        iterations: Iterations that each took over all steps, B numbers; with guidance, the mean of its evaluations.
    """

    places: list[int]
    x: Tensor
    iterations: list[float]


@dataclass(frozen=True)
class Trajectories:
    """Settings of the way from noise to images; the fields are arguments of `sampler.sample`.

    Attributes:
        network: The network, whose middle iterates.
        around: Wraps a denoiser in guidance and whatever else the samples need.
        schedule: Noise schedule.
        timesteps: Timestep grid, noisiest first.
        step: Update from one timestep to the next.
        budget: Block passes to spend.
        allocation: How to divide them over the timesteps; its solves end at a tolerance.
        clip: Bound on the predicted x0, or None.
        reuse: Start each solve from the previous timestep's solution.
        solver: Fixed-point solver.
    """

    network: DiffusionTransformer
    around: Callable[[Denoiser], Denoiser]
    schedule: Schedule
    timesteps: Sequence[float]
    step: Step
    budget: Budget
    allocation: Allocation
    clip: float | None
    reuse: bool
    solver: Solver


@dataclass
class _Sample:
    """A sample on its way. Where it is in its solve, its slot knows.

    Attributes:
        place: Its place in the job.
        x: Its image at the current timestep, (1, C, H, W).
        left: State of its allocation.
        memory: Memory of the step function.
        spent: Iterations so far of each of its evaluations, (E,); 0 at first.
    """

    place: int
    x: Tensor
    left: AllocationState
    memory: Any = None
    spent: int | Tensor = 0

    @property
    def index(self) -> int:
        """Index of its timestep."""
        return self.left.position


@torch.no_grad()
def draw_in_slots(
    how: Trajectories,
    count: int,
    y: Tensor | None,
    noise: Callable[[Sequence[int], Sequence[int]], Tensor],
    *,
    slots: int,
) -> Iterator[Drawn]:
    """Draw samples in slots, in the order in which they finish.

    Args:
        how: How samples get from noise to images.
        count: Number of samples.
        y: Their labels, (count,), or None.
        noise: Function of B places and B steps that returns the noise of each, (B, C, H, W); that of step 0 is the
            start, and that of step k + 1 is for the update after timestep k.
        slots: Number of samples at once. It changes speed and memory only.

    Yields:
        The samples that finish together.
    """
    engine, waiting = _Slots(how, y, noise, min(slots, count)), deque(range(count))
    ready = list(range(engine.count))  # slots without a sample, or whose sample is at the start of a solve
    while True:
        free = [slot for slot in ready if engine.samples[slot] is None]
        chosen = free[: len(waiting)]
        if chosen:
            engine.admit(chosen, [waiting.popleft() for _ in chosen])
        engine.begin([slot for slot in ready if engine.samples[slot] is not None])
        if not engine.is_busy:
            return
        ready = engine.iterate()
        if ready and (drawn := engine.finish(ready)):
            yield drawn


class _Slots:
    """Slots of samples in different solves.

    A sample of E evaluations per timestep has E rows: row e * count + slot.
    """

    def __init__(
        self,
        how: Trajectories,
        y: Tensor | None,
        noise: Callable[[Sequence[int], Sequence[int]], Tensor],
        count: int,
    ) -> None:
        self.how, self.y, self.noise, self.count = how, y, noise, count
        self.device = how.network.device
        self.samples: list[_Sample | None] = [None] * count
        self.live: list[int] = []  # rows that iterate, in order
        self.evaluations = 1
        self.rows: Begun | None = None  # of all rows
        self.z = self.residual = self.iters = self.limit = torch.empty(0)  # of all rows: (R, T, D) and three (R,)
        self.states: list[Any] = []  # of the solver, by row
        self.tol = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether any row iterates."""
        return bool(self.live)

    def admit(self, slots: Sequence[int], places: Sequence[int]) -> None:
        """Put new samples into free slots."""
        x, how = self.noise(places, [0] * len(places)), self.how  # (B, C, H, W)
        for i, (slot, place) in enumerate(zip(slots, places, strict=True)):
            self.samples[slot] = _Sample(place, x[i : i + 1], how.allocation.init(how.budget, len(how.timesteps)))

    def begin(self, slots: Sequence[int]) -> None:
        """Begin the evaluation of the samples in these slots at their own timesteps."""
        if not slots:
            return
        how, samples = self.how, self._at(slots)
        question = _ask(how.around, *self._inputs(samples))
        begun = _begin(how.network, question)
        self.evaluations = len(question.x) // len(slots)
        rows = self._rows_of(slots)
        if self.rows is None:
            self._make(begun)
        assert self.rows is not None
        where = self._index(rows)
        pytree.tree_map_(lambda whole, new: whole.index_copy_(0, where, new), self.rows, begun)
        cold = [i for i in range(len(rows)) if not (how.reuse and samples[i % len(samples)].index)]
        self.z.index_copy_(0, where[cold], begun.start[cold])
        self.iters.index_fill_(0, where, 0)
        for row in rows:
            self.states[row] = how.solver.init(self.z[row : row + 1])
        for sample, slot in zip(samples, slots, strict=True):
            stop = how.allocation.next(sample.left)
            self.tol = stop.tol  # the same for all
            own = self._index(self._rows_of([slot]))
            self.limit[own] = torch.as_tensor(stop.max_iters, device=self.limit.device).expand(len(own))  # (E,)
        self.live = sorted([*self.live, *rows])

    def iterate(self) -> list[int]:
        """Make one iteration of all solves, and return the slots whose sample has no solve left."""
        rows, is_full = self._index(self.live), len(self.live) == len(self.z)
        assert self.rows is not None
        z = self.z if is_full else self.z[rows]  # (A, T, D)
        context = self.rows.context if is_full else pytree.tree_map(lambda whole: whole[rows], self.rows.context)
        new = self._update(z, self.how.network.middle.iterate(z, context))  # (A, T, D)
        residual, iters = relative_change(new, z), self.iters[rows] + 1  # (A,) each
        # What solvers remember are views of the iterates: these are replaced, not overwritten.
        self.z = new if is_full else self.z.index_copy(0, rows, new)  # (R, T, D)
        self.residual.index_copy_(0, rows, residual)
        self.iters.index_copy_(0, rows, iters)
        ends = Stop(self.limit[rows], self.tol).ends(residual, iters).tolist()  # A bools
        touched = {row % self.count for row, end in zip(self.live, ends, strict=True) if end}
        self.live = [row for row, end in zip(self.live, ends, strict=True) if not end]
        return sorted(touched - {row % self.count for row in self.live})

    def finish(self, slots: Sequence[int]) -> Drawn | None:
        """Take the step to the next timestep with the samples in these slots; return those that are finished."""
        how, samples = self.how, self._at(slots)
        rows = self._index(self._rows_of(slots))
        assert self.rows is not None
        found = Solution(self.z[rows], self.iters[rows], self.residual[rows])  # of E * B rows
        x, t, y = self._inputs(samples)
        out = how.network.finish(found.z, self.rows.outer[rows]).to(x.dtype)  # (E * B, C or 2C, H, W)
        prediction = how.around(_Answers(how.network.prediction(out, found)))(x, t, y, solver=_never)
        known = Denoised.from_v(how.schedule, x, prediction.value, t, variance=prediction.variance, clip=how.clip)
        for group in self._step_groups(samples):
            self._step([samples[i] for i in group], known.rows(group), t[group])
        done = []
        for i, (slot, sample) in enumerate(zip(slots, samples, strict=True)):
            own = slice(i, None, len(slots))
            solution = Solution(found.z[own], self.iters[rows][own], None)
            sample.spent = sample.spent + solution.iters
            sample.left = how.allocation.update(sample.left, solution)
            if sample.index == len(how.timesteps):
                done.append(sample)
                self.samples[slot] = None
        if not done:
            return None
        iterations = [mean_iterations(sample.spent) for sample in done]
        return Drawn(
            [sample.place for sample in done], torch.cat([sample.x for sample in done]), iterations
        )  # (B, ...)

    def _step(self, samples: Sequence[_Sample], known: Denoised, t: Tensor) -> None:
        """Take the step with samples whose memories have the same form."""
        timesteps, memory = self.how.timesteps, samples[0].memory
        after = [timesteps[sample.index + 1] if sample.index + 1 < len(timesteps) else -1 for sample in samples]
        if len(samples) > 1:
            memory = pytree.tree_map(_joined, *(sample.memory for sample in samples))

        def noise() -> Tensor:
            return self.noise([one.place for one in samples], [one.index + 1 for one in samples])  # (B, C, H, W)

        x, memory = self.how.step(
            self.how.schedule, known, t, torch.tensor(after, device=t.device), noise=noise, memory=memory
        )
        for i, sample in enumerate(samples):
            sample.x = x[i : i + 1]  # (1, C, H, W)
            sample.memory = memory if len(samples) == 1 else _rows(memory, slice(i, i + 1))

    def _step_groups(self, samples: Sequence[_Sample]) -> list[list[int]]:
        """Divide samples into groups that can take the step together."""
        if isinstance(self.how.step, DiffusersStep):  # its memory is a scheduler, which has one position
            return [[i] for i in range(len(samples))]
        groups = [[i for i, one in enumerate(samples) if (one.memory is None) == new] for new in (True, False)]
        return [group for group in groups if group]

    def _update(self, z: Tensor, fz: Tensor) -> Tensor:
        """Return the next iterates of the rows that iterate, (A, T, D), and keep the solver's states."""
        groups: dict[int, list[int]] = {}  # by the number of tensors in the state, which grows with the iterations
        for i, row in enumerate(self.live):
            state = self.states[row]
            groups.setdefault(0 if state is None else len(pytree.tree_leaves(state)), []).append(i)
        new = torch.empty_like(z)  # (A, T, D)
        for group in groups.values():
            state = pytree.tree_map(_joined, *(self.states[self.live[i]] for i in group))
            if len(groups) == 1:
                new, state = self.how.solver.step(z, fz, state)  # (A, T, D)
            else:
                new[group], state = self.how.solver.step(z[group], fz[group], state)
            for place, i in enumerate(group):
                self.states[self.live[i]] = None if state is None else _rows(state, slice(place, place + 1))
        return new

    def _make(self, begun: Begun) -> None:
        """Make the tensors of all rows, like those of the first that begin."""
        rows, device = self.evaluations * self.count, self.device
        made: Begun = pytree.tree_map(lambda one: one.new_zeros(rows, *one.shape[1:]), begun)
        self.rows, self.z = made, torch.zeros_like(made.start)  # (R, T, D)
        self.residual = torch.zeros(rows, device=device)  # (R,)
        self.iters, self.limit = torch.zeros(2, rows, dtype=torch.int64, device=device)  # (R,) each
        self.states = [None] * rows

    def _inputs(self, samples: Sequence[_Sample]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return images (B, C, H, W), timesteps (B,) and labels (B,) of samples."""
        x = torch.cat([sample.x for sample in samples])  # (B, C, H, W)
        t = torch.tensor([self.how.timesteps[sample.index] for sample in samples], device=x.device)  # (B,)
        return x, t, None if self.y is None else self.y[[sample.place for sample in samples]]

    def _at(self, slots: Sequence[int]) -> list[_Sample]:
        return [sample for slot in slots if (sample := self.samples[slot]) is not None]

    def _rows_of(self, slots: Sequence[int]) -> list[int]:
        return [evaluation * self.count + slot for evaluation in range(self.evaluations) for slot in slots]

    def _index(self, rows: Sequence[int]) -> Tensor:
        return torch.tensor(list(rows), dtype=torch.int64, device=self.device)  # (A,)


class _Question(NamedTuple):
    """Images, timesteps and labels of the rows that a denoiser asks its network about."""

    x: Tensor
    t: Tensor
    y: Tensor | None


class _AskedError(Exception):
    """Carries a question out of a denoiser that waits for the answer."""


def _ask(around: Callable[[Denoiser], Denoiser], x: Tensor, t: Tensor, y: Tensor | None) -> _Question:
    """Return what a denoiser would ask its network about, without evaluating any."""

    def asked(
        x: Tensor,
        t: Tensor,
        y: Tensor | None = None,
        /,
        *,
        solver: FixedPointSolver,
        z0: Tensor | None = None,
        weak_depth: int | None = None,
    ) -> NoReturn:
        assert weak_depth is None, "slots give no weaker answers"
        raise _AskedError(_Question(x, t, y))

    try:
        around(asked)(x, t, y, solver=_never)
    except _AskedError as question:
        return question.args[0]
    raise AssertionError("a denoiser did not ask its network")


def _begin(network: DiffusionTransformer, question: _Question) -> Begun:
    """Compute all that comes before the iterations of an evaluation."""
    x, t, y = question
    if y is None:
        y = torch.full((len(x),), network.shape.num_classes, device=x.device)  # (B,)
    h, everything, outer = network.start(x, t, y)  # (B, T, D), (B, D), (B, D)
    return Begun(h, network.middle.prepare(h, everything), outer)


class _Answers:
    """A network whose answer is known already."""

    def __init__(self, answer: Prediction) -> None:
        self.answer = answer

    def __call__(self, *_: Any, **__: Any) -> Prediction:
        return self.answer


def _never(*_: Any) -> NoReturn:
    raise AssertionError("the slots solve, not the denoiser")


def _joined(*parts: Any) -> Any:
    return torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0]  # (B, ...)


def _rows(tree: Any, rows: Any) -> Any:
    """Take some rows of every tensor."""
    return pytree.tree_map(lambda one: one[rows] if isinstance(one, Tensor) else one, tree)
