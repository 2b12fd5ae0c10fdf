"""The workbench of a reproduction: trains what is missing, measures what is asked for, and keeps both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tqdm.auto import tqdm

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.autoencoder.vae import VAE
from fpdm.compare.results import Result
from fpdm.compare.results_cache import NamedRun, ResultsCache
from fpdm.compare.settings import Settings
from fpdm.data.config import DataConfig
from fpdm.data.loading import Dataset, encoded_images, load_dataset, load_images
from fpdm.data.prepare import prepare
from fpdm.devices import default_device
from fpdm.errors import Interrupted, RunError
from fpdm.evaluation.evaluator import Evaluator
from fpdm.files import write_atomically
from fpdm.reproduce.models import Training
from fpdm.reproduce.scale import Scale
from fpdm.runs import checkpoint
from fpdm.runs.layout import CHECKPOINTS, METRICS
from fpdm.runs.metrics_log import read_rows
from fpdm.runs.run import Run, load_run
from fpdm.sampling.plan import Plan
from fpdm.signals import stop_signals

_POLL = 1.0  # seconds between two looks at the trainings


@dataclass(frozen=True)
class Cell:
    """One measurement: a training, sampled in one way.

    Attributes:
        training: The training.
        plan: How it is sampled. Where `chosen`, only its budget and sampler hold.
        images: Number of images.
        chosen: Whether iterations, reuse, grid and allocation are chosen on validation images.
    """

    training: Training
    plan: Plan
    images: int
    chosen: bool = False


class Bench:
    """Trains and measures models of one scale in one folder.

    Args:
        folder: Keeps latents, runs and measurements.
        scale: The size of everything.
        autoencoder: Folder of the autoencoder of the latents; empty to train one first.
        root: Folder with the files of the data set.
        workers: Number of trainings at once, each on one thread.
    """

    def __init__(
        self, folder: Path, scale: Scale, *, autoencoder: str = "", root: Path | None = None, workers: int = 0
    ) -> None:
        self.folder, self.scale, self.root = folder, scale, root
        self.workers = workers or os.cpu_count() or 1
        self._autoencoder = autoencoder
        self._loaded: dict[str, Run] = {}
        self._caches: dict[int, ResultsCache] = {}

    @cached_property
    def data(self) -> DataConfig:
        """The images that models are trained on, or the cache of their latents, which is made if it is missing."""
        if not self.scale.on_latents:
            return DataConfig(self.scale.data)
        cache = self.folder / "latents"
        encoder = AutoencoderConfig(self._autoencoder or self._trained_autoencoder()).load(default_device())
        assert isinstance(encoder, VAE)
        prepare(DataConfig(self.scale.data), encoder, cache, root=self.root)
        return DataConfig(str(cache.resolve()))

    @cached_property
    def dataset(self) -> Dataset:
        """The images that samples are measured against."""
        return load_images(encoded_images(self.data), root=self.root)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Measures samples against those images."""
        return Evaluator(self.dataset.splits)

    @cached_property
    def held_out(self) -> Dataset:
        """The images or latents that the networks were trained on, and those kept from training."""
        return load_dataset(self.data, root=self.root)

    def run_folder(self, training: Training) -> Path:
        """Return the folder of a training."""
        return self.folder / "runs" / training.folder

    def run(self, training: Training) -> Run:
        """Return a finished training.

        Raises:
            ValueError: It has not begun.
        """
        if training.folder not in self._loaded:
            self._loaded[training.folder] = load_run(self.run_folder(training))
        return self._loaded[training.folder]

    def is_trained(self, training: Training) -> bool:
        """Whether a training has reached its end."""
        if checkpoint.latest(self.run_folder(training) / CHECKPOINTS) is None:
            return False
        run = load_run(self.run_folder(training))
        return run.recipe.train.share_done(run.progress) >= 1

    def train(self, trainings: Sequence[Training]) -> None:
        """Train what is not trained yet, several at once, and resume what was interrupted.

        Raises:
            Interrupted: A signal arrived; all trainings saved a checkpoint.
            RunError: A training failed.
        """
        missing = [one for one in trainings if not self.is_trained(one)]
        if not missing:
            return
        recipes = self.folder / "recipes"
        recipes.mkdir(parents=True, exist_ok=True)
        for one in missing:
            recipe = one.model.recipe(self.scale, one.seed, self.data).to_json()
            write_atomically(recipes / f"{one.folder}.json", recipe)
        with _Children() as children, stop_signals() as received, self._bar(missing) as show:
            waiting = [*missing]
            while waiting or children.running:
                while waiting and len(children.running) < self.workers:
                    one = waiting.pop(0)
                    children.start(one.folder, self._command(one), self.folder / "logs" / f"{one.folder}.txt")
                children.check()
                show()
                if received:
                    children.stop()
                    raise Interrupted("stopped; the same command resumes the trainings", received[0])
                time.sleep(_POLL)

    def measure(self, cell: Cell) -> Result:
        """Sample a training and measure its images; a cell that was measured before is read from the folder."""
        named = NamedRun(cell.training.model.name, self.run_folder(cell.training), self.run(cell.training))
        cache = self._cache(cell.images)
        if cell.chosen:
            return cache.with_best_plan(named, cell.plan.budget, cell.plan.sampler).result
        return cache.with_plan(named, cell.plan, cell.images).result

    def _cache(self, images: int) -> ResultsCache:
        if images not in self._caches:
            settings = Settings(num_images=(images,), choosing_images=self.scale.choosing_images)
            self._caches[images] = ResultsCache(self.folder / "rows", self.evaluator, self.dataset.sha256, settings)
        return self._caches[images]

    def _trained_autoencoder(self) -> str:
        out = self.folder / "autoencoder"
        words = ["train-autoencoder", self.scale.data, "--pad", "2", "--seconds", "1800", "--out", str(out)]
        if self.root is not None:
            words += ["--data-root", str(self.root)]
        with _Children(threads=os.cpu_count() or 1) as children:
            children.start("autoencoder", _fpdm(words), self.folder / "logs" / "autoencoder.txt")
            while children.running:
                children.check()
                time.sleep(_POLL)
        return str(out)

    def _command(self, training: Training) -> list[str]:
        path = self.folder / "recipes" / f"{training.folder}.json"
        words = ["train", str(path), "--out", str(self.run_folder(training))]
        return _fpdm([*words, "--data-root", str(self.root)] if self.root is not None else words)

    def _done(self, training: Training) -> float:
        """Return the multiply-accumulates of training so far, as the log has them."""
        rows = read_rows(self.run_folder(training) / METRICS)
        return rows[-1]["macs"] if rows else 0.0

    @contextmanager
    def _bar(self, trainings: Sequence[Training]) -> Iterator[Callable[[], None]]:
        total = sum(one.model.macs(self.scale) for one in trainings)
        with tqdm(total=total, desc="training", unit="MAC", unit_scale=True, disable=None, dynamic_ncols=True) as bar:
            bar.update(sum(map(self._done, trainings)))
            bar.unpause()

            def show() -> None:
                bar.update(sum(map(self._done, trainings)) - bar.n)

            yield show


class _Children:
    """Commands that run beside this process, and end with it."""

    def __init__(self, threads: int = 1) -> None:
        self.running: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
        self._environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}

    def __enter__(self) -> _Children:
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

    def check(self) -> None:
        """Forget the commands that have ended.

        Raises:
            RunError: One of them failed.
        """
        for name, (child, log) in [*self.running.items()]:
            if child.poll() is None:
                continue
            del self.running[name]
            if child.returncode:
                said = log.read_text(encoding="utf-8", errors="replace").split("\n")
                last = next((line for line in reversed(said) if line.startswith("fpdm: ")), "it says nothing")
                raise RunError(f"training {name} failed: {last.removeprefix('fpdm: ')}; its output is in {log}")

    def stop(self) -> None:
        """End all commands; trainings save a checkpoint first."""
        for child, _ in self.running.values():
            child.send_signal(signal.SIGTERM)
        for child, _ in self.running.values():
            child.wait()
        self.running.clear()


def _fpdm(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "fpdm", *words]
