"""Jobs are done in processes of their own, those that can be done first, and their failures are told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from fpdm.errors import RunError
from fpdm.reproduce.bench import Bench
from fpdm.reproduce.jobs import run_jobs
from fpdm.reproduce.models import FPDM, Training
from fpdm.reproduce.scale import QUICK


@dataclass(frozen=True)
class Told:
    """A job that returns its process's id and number of threads, or fails."""

    name: str
    trainings: tuple[Training, ...] = ()
    fails: bool = False

    def macs(self, bench: Bench) -> float:
        return 1.0

    def run(self, bench: Bench) -> tuple[int, Path]:
        if self.fails:
            raise ValueError(f"{self.name} is wrong")
        return os.getpid(), bench.folder


@dataclass(frozen=True)
class Dies(Told):
    """A job whose process is killed."""

    def run(self, bench: Bench) -> tuple[int, Path]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_jobs_are_done_elsewhere_and_kept(tmp_path: Path) -> None:
    kept = {}
    run_jobs(Bench(tmp_path, QUICK, workers=1), [Told("a"), Told("b")], lambda job, found: kept.update({job: found}))
    assert [job.name for job in kept] == ["a", "b"]
    processes = {process for process, _ in kept.values()}
    assert len(processes) == 1  # one after the other
    assert processes != {os.getpid()}
    assert {folder for _, folder in kept.values()} == {tmp_path}


@dataclass(frozen=True)
class Picture(Told):
    """A job whose compute does not count."""

    def macs(self, bench: Bench) -> float:
        return 0.0


def test_pictures_alone_are_made_too(tmp_path: Path) -> None:
    kept = []
    run_jobs(Bench(tmp_path, QUICK, workers=1), [Picture("a")], lambda job, _: kept.append(job.name))
    assert kept == ["a"]


def test_no_jobs_ask_for_nothing(tmp_path: Path) -> None:
    run_jobs(Bench(tmp_path, QUICK), [], lambda *_: pytest.fail("kept"))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (Told("a", fails=True), "a measurement failed: ValueError: a is wrong"),
        (Dies("b"), "a process that measured ended by itself"),
    ],
)
def test_failures_are_told(job: Told, message: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=message):
        run_jobs(Bench(tmp_path, QUICK, workers=1), [job], lambda *_: pytest.fail("kept"))


def test_what_can_be_measured_goes_before_trainings_that_others_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, training = [], Training(FPDM, 0)

    def command(_: Bench, one: Training) -> list[str]:
        told.append(one)
        return [sys.executable, "-c", "pass"]

    monkeypatch.setattr(Bench, "command", command)
    run_jobs(
        Bench(tmp_path, QUICK, workers=1),
        [Told("a", (training,)), Told("b"), Told("c", (training,))],
        lambda job, _: told.append(job.name),  # type: ignore[attr-defined]  # it is one of those above
    )
    assert told == ["b", training, "a", "c"]


def test_a_training_that_fails_takes_only_those_along_that_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong, right, done = Training(FPDM, 0), Training(FPDM, 1), []

    def command(_: Bench, one: Training) -> list[str]:
        script = "import sys; print('fpdm: diverged', file=sys.stderr); sys.exit(3)" if one == wrong else "pass"
        return [sys.executable, "-c", script]

    monkeypatch.setattr(Bench, "command", command)
    failed = run_jobs(
        Bench(tmp_path, QUICK, workers=1),
        [Told("a", (wrong,)), Told("b", (right,)), Told("c", (right, wrong)), Told("d")],
        lambda job, _: done.append(job.name),  # type: ignore[attr-defined]  # it is one of those above
    )
    assert sorted(done) == ["b", "d"]
    assert [*failed] == [wrong.folder]
    assert failed[wrong.folder].startswith("diverged; its output is in ")


def test_a_signal_ends_it_and_its_processes(tmp_path: Path) -> None:
    script = f"""
import time
from pathlib import Path
from fpdm.errors import Interrupted
from fpdm.reproduce.bench import Bench
from fpdm.reproduce.jobs import run_jobs
from fpdm.reproduce.scale import QUICK
from tests.reproduce.test_jobs import Waits
if __name__ == "__main__":
    try:
        run_jobs(Bench(Path({str(tmp_path)!r}), QUICK, workers=1), [Waits("a")], print)
    except Interrupted as error:
        print(error, error.exit_code)
"""
    (tmp_path / "script.py").write_text(script)
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    process = subprocess.Popen([sys.executable, tmp_path / "script.py"], stdout=subprocess.PIPE, text=True, env=here)
    while not (tmp_path / "pid").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[0] == "stopped; the same command resumes the trainings 143\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


class Waits(Told):
    """A job that takes for ever."""

    def run(self, bench: Bench) -> tuple[int, Path]:
        written = bench.folder / "pid.new"
        written.write_text(str(os.getpid()))
        written.rename(bench.folder / "pid")
        time.sleep(600)
        raise AssertionError
