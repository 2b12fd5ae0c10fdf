"""Commands of this package that run beside a process and end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fpdm.errors import RunError

POLL = 1.0  # seconds between two looks at what runs


class Children:
    """Commands that run beside this process, and end with it."""

    def __init__(self, threads: int = 1) -> None:
        self.running: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
        self._environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str], log: Path) -> None:
        """Start a command, whose output goes to a file."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            # A session of its own: ctrl-C reaches this process alone, which passes it on.
            child = subprocess.Popen(
                command, stdout=stream, stderr=stream, env=self._environment, start_new_session=True
            )
        self.running[name] = child, log

    def ended(self) -> dict[str, str]:
        """Forget the commands that have ended, and return by name what those that failed said; nothing for others."""
        ended = {}
        for name, (child, log) in [*self.running.items()]:
            if child.poll() is None:
                continue
            del self.running[name]
            ended[name] = ""
            if child.returncode:
                said = log.read_text(encoding="utf-8", errors="replace").split("\n")
                last = next((line for line in reversed(said) if line.startswith("fpdm: ")), "it says nothing")
                ended[name] = f"{last.removeprefix('fpdm: ')}; its output is in {log}"
        return ended

    def stop(self) -> None:
        """End all commands; trainings save a checkpoint first."""
        for child, _ in self.running.values():
            child.send_signal(signal.SIGTERM)
        for child, _ in self.running.values():
            child.wait()
        self.running.clear()


def run_command(command: Sequence[str], log: Path, *, threads: int) -> None:
    """Run a command beside this process, its output in a file.

    Raises:
        RunError: It failed.
    """
    with Children(threads) as children:
        children.start(log.stem, command, log)
        while children.running:
            for name, failure in children.ended().items():
                if failure:
                    raise RunError(f"training {name} failed: {failure}")
            time.sleep(POLL)


def fpdm_command(words: Sequence[str]) -> list[str]:
    """Return the command that runs fpdm with these words, by this Python."""
    return [sys.executable, "-m", "fpdm", *words]
