"""The work of a reproduction: trainings and measurements side by side, one thread each."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

import torch

from fpdm.errors import Interrupted, RunError
from fpdm.progress_bar import progress_bar
from fpdm.reproduce.bench import Bench
from fpdm.reproduce.children import POLL, Children
from fpdm.reproduce.models import Training
from fpdm.signals import stop_signals


class Job(Protocol):
    """A measurement of trained models, made in a process of its own."""

    @property
    def trainings(self) -> Sequence[Training]:
        """The trainings that have to be finished before."""
        ...

    def macs(self, bench: Bench) -> float:
        """Estimate the multiply-accumulates that it takes."""
        ...

    def run(self, bench: Bench) -> Any:
        """Measure, and return something that can be pickled."""
        ...


def run_jobs(bench: Bench, jobs: Sequence[Job], keep: Callable[[Job, Any], object]) -> dict[str, str]:
    """Do all jobs in their order, and the trainings that they need, as many at once as the bench has workers.

    A job whose trainings are finished goes before any training, so that the first answers come early. Interrupted
    trainings are resumed. A training that fails, by diverging say, takes only the jobs that need it along.

    Args:
        bench: The workbench.
        jobs: The jobs.
        keep: Called with each job that is done and what it returned.

    Returns:
        What the trainings that failed said, by the name of their folder.

    Raises:
        Interrupted: A signal arrived; all trainings saved a checkpoint.
        RunError: A measurement failed.
    """
    if not jobs:
        return {}
    waiting, failed = [*jobs], dict[str, str]()
    trainings = [*{one.folder: one for job in jobs for one in job.trainings}.values()]
    untrained = [one for one in trainings if not bench.is_trained(one)]
    finished = {one.folder for one in trainings} - {one.folder for one in untrained}
    for one in untrained:
        bench.write_recipe(one)
    with (
        Children() as children,
        _Workers(bench) as workers,
        stop_signals() as received,
        _Bar(bench, jobs, untrained) as bar,
    ):
        while waiting or workers.busy:
            while len(children.running) + len(workers.busy) < bench.workers:
                ready = next((job for job in waiting if finished >= {one.folder for one in job.trainings}), None)
                if ready is not None:
                    waiting.remove(ready)
                    workers.start(ready)
                elif untrained:
                    one = untrained.pop(0)
                    children.start(one.folder, bench.command(one), bench.folder / "logs" / f"{one.folder}.txt")
                else:
                    break
            ended = children.ended()
            failed |= {name: failure for name, failure in ended.items() if failure}
            finished |= {*ended} - {*failed}
            waiting = [job for job in waiting if not failed.keys() & {one.folder for one in job.trainings}]
            for job, result in workers.ended():
                keep(job, result)
                bar.add(job)
            bar.show()
            if received:
                children.stop()
                raise Interrupted("stopped; the same command resumes the trainings", received[0])
            time.sleep(POLL)
    return failed


class _Bar:
    """Progress by multiply-accumulates: those of the trainings as their logs have them, those of jobs as they end."""

    def __init__(self, bench: Bench, jobs: Sequence[Job], trainings: Sequence[Training]) -> None:
        self._bench, self._trainings = bench, [*trainings]  # the caller's shrinks
        self._macs, self._ended = {id(job): job.macs(bench) for job in jobs}, 0
        self._measured = 0.0
        self._total = sum(self._macs.values()) + sum(one.model.macs(bench.scale) for one in trainings)
        self._open = progress_bar("reproduce", len(jobs), "measurements", leave=True)

    def __enter__(self) -> _Bar:
        self._bar = self._open.__enter__()
        self.show()
        self._bar.skip(0)  # what an earlier call has trained
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def add(self, job: Job) -> None:
        """Count a job that has ended."""
        self._measured += self._macs[id(job)]
        self._ended += 1

    def show(self) -> None:
        """Draw the bar."""
        # Pictures alone have no compute that counts.
        self._bar.set(self._ended, (self._trained() + self._measured) / self._total if self._total else None)

    def _trained(self) -> float:
        return sum(map(self._bench.macs_done, self._trainings))


class _Failure(NamedTuple):
    """The message of an exception that a job raised."""

    message: str


class _Worker:
    """A process that does one job after the other."""

    def __init__(self, bench: Bench) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, bench), daemon=True)
        self._process.start()
        theirs.close()  # so that its end is noticed
        self.job: Job | None = None

    def start(self, job: Job) -> None:
        """Send a job."""
        self.job = job
        self._connection.send(job)

    def done(self) -> bool:
        """Whether the job has ended, one way or another."""
        return self._connection.poll()

    def result(self) -> Any:
        """Return what the job returned.

        Raises:
            RunError: It failed.
        """
        self.job = None
        try:
            found = self._connection.recv()
        except EOFError as error:
            raise RunError("a process that measured ended by itself; is there enough memory?") from error
        if isinstance(found, _Failure):
            raise RunError(f"a measurement failed: {found.message}")
        return found

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()


class _Workers:
    """The processes that do jobs, started when they are needed first."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._all = bench, list[_Worker]()

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            worker.stop()

    @property
    def busy(self) -> list[_Worker]:
        return [worker for worker in self._all if worker.job is not None]

    def start(self, job: Job) -> None:
        """Give a job to a process that is free."""
        free = next((worker for worker in self._all if worker.job is None), None)
        if free is None:
            free = _Worker(self._bench)
            self._all.append(free)
        free.start(job)

    def ended(self) -> Iterator[tuple[Job, Any]]:
        """Yield the jobs that have ended, with what they returned."""
        for worker in self.busy:
            if worker.done():
                job = worker.job
                assert job is not None
                yield job, worker.result()


def _serve(connection: Connection, bench: Bench) -> None:
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # the process that started this one decides
    torch.set_num_threads(1)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            found = job.run(bench)
        except (ValueError, RunError, OSError, RuntimeError) as error:
            found = _Failure(f"{type(error).__name__}: {error}")
        connection.send(found)
