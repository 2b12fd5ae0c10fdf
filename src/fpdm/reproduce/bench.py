"""The workbench of a reproduction: its data, its trained models, and what measures them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.autoencoder.vae import VAE
from fpdm.compare.inputs import NamedRun
from fpdm.compare.results import Result
from fpdm.compare.results_cache import ResultsCache
from fpdm.compare.settings import Settings
from fpdm.data.config import DataConfig
from fpdm.data.loading import Dataset, encoded_images, load_dataset, load_images
from fpdm.data.prepare import prepare
from fpdm.devices import default_device
from fpdm.evaluation.evaluator import Evaluator
from fpdm.files import write_json
from fpdm.models.cost import model_cost
from fpdm.reproduce.children import fpdm_command, run_command
from fpdm.reproduce.evaluator import TwoExtractors
from fpdm.reproduce.models import Model, Training
from fpdm.reproduce.scale import Scale
from fpdm.runs import checkpoint
from fpdm.runs.layout import CHECKPOINTS, METRICS
from fpdm.runs.metrics_log import read_rows
from fpdm.runs.recipe import Recipe
from fpdm.runs.run import Run, load_run
from fpdm.sampling.plan import Plan, macs_per_image
from fpdm.training.autoencoder.finalise import reconstructed

WEIGHTS = (0.15, 0.4, 1.0, 2.0)  # of self-guidance


@dataclass(frozen=True)
class Cell:
    """One measurement: a training, sampled in one way.

    Attributes:
        training: The training.
        plan: How it is sampled. Where `chosen`, only its budget, sampler and guidance hold, and whether it has
            self-guidance, whose weight is then chosen from `WEIGHTS`.
        images: Number of images.
        chosen: Whether iterations, reuse, grid and allocation are chosen on validation images.
    """

    training: Training
    plan: Plan
    images: int
    chosen: bool = False

    @property
    def trainings(self) -> tuple[Training]:
        """The training that has to be finished before."""
        return (self.training,)

    def run(self, bench: Bench) -> Result:
        """Sample the model and measure its images."""
        return bench.measure(self)

    def settings(self, scale: Scale) -> Settings:
        """Return how the plan is chosen, where it is, and what the images are measured with."""
        return Settings(
            num_images=(self.images,),
            choosing_images=scale.choosing_images,
            guidance=self.plan.guidance,
            self_guidance=WEIGHTS if self.plan.self_guidance else (0.0,),
            **scale.choices,
        )

    def macs(self, bench: Bench) -> float:
        """Estimate the multiply-accumulates of the sampling."""
        images = self.images
        if self.chosen:
            images += bench.scale.choosing_images * self.settings(bench.scale).choices.trials
        return images * macs_per_image(self.plan, model_cost(bench.recipe(self.training).model))


class RealImages:
    """A data set of the reproduction, and the measures against its images.

    Args:
        config: The images, or the cache of their latents, that models are trained on.
        scale: The size of everything.
        results: Folder that keeps every result.
        root: Folder with the files of data sets that are given by name.
    """

    def __init__(self, config: DataConfig, scale: Scale, results: Path, root: Path | None) -> None:
        self.config, self._scale, self._results, self._root = config, scale, results, root
        self._caches: dict[Settings, ResultsCache] = {}

    @cached_property
    def images(self) -> Dataset:
        """The images that samples are measured against."""
        return load_images(encoded_images(self.config), root=self._root)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Measures samples against those images, if they have classes with two extractors."""
        return TwoExtractors(self.images) if self.images.splits.train.num_classes else Evaluator(self.images.splits)

    @cached_property
    def held_out(self) -> Dataset:
        """The images or latents that the networks were trained on, and those kept from training."""
        return load_dataset(self.config, root=self._root)

    def results(self, cell: Cell) -> ResultsCache:
        """Return the results that are measured as a cell is."""
        settings = cell.settings(self._scale)
        if settings not in self._caches:
            self._caches[settings] = ResultsCache(self._results, self.evaluator, self.images.sha256, settings)
        return self._caches[settings]

    def floor(self, autoencoder: VAE, images: int) -> float:
        """Return the Fréchet distance of training images that an autoencoder has encoded and decoded.

        No model in its latents can be expected to do better.
        """
        return self.evaluator.distance(reconstructed(autoencoder, self.evaluator.training_images(images)))


class Bench:
    """The trainings of one scale, where they are, and their measurement.

    It can be sent to another process.

    Args:
        folder: Keeps latents, runs and measurements.
        scale: The size of everything.
        autoencoder: Folder of the autoencoder of the latents; empty to train one first.
        root: Folder with the files of the data set.
        pictures: A folder of colour pictures, for the rows of Table 2 that ask for one.
        workers: Number of trainings and measurements at once, each on one thread.
    """

    def __init__(
        self,
        folder: Path,
        scale: Scale,
        *,
        autoencoder: str = "",
        root: Path | None = None,
        pictures: Path | None = None,
        workers: int = 0,
    ) -> None:
        self.folder, self.scale, self.root, self.pictures = folder, scale, root, pictures
        self.workers = workers or os.cpu_count() or 1
        self._autoencoder = autoencoder
        self._configs: dict[str, DataConfig] = {}
        self._real: dict[str, RealImages] = {}
        self._runs: dict[str, Run] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_real": {}, "_runs": {}}

    def config(self, name: str = "") -> DataConfig:
        """Return the images that models are trained on, or the cache of their latents, made if it is missing.

        Args:
            name: "digits" or "pictures"; empty for the data of the scale.

        Raises:
            ValueError: No folder of pictures was given.
        """
        if name not in self._configs:
            self._configs[name] = self._config(name)
        return self._configs[name]

    def real(self, name: str = "") -> RealImages:
        """Return the images of `config(name)`, to measure against."""
        if name not in self._real:
            self._real[name] = RealImages(self.config(name), self.scale, self.folder / "rows", self.root)
        return self._real[name]

    @property
    def autoencoder(self) -> VAE:
        """The autoencoder of the latents."""
        self._autoencoder = self._autoencoder or self._trained_autoencoder()  # other processes are told
        found = AutoencoderConfig(self._autoencoder).load(default_device())
        assert isinstance(found, VAE)
        return found

    def run_folder(self, training: Training) -> Path:
        """Return the folder of a training."""
        return self.folder / "runs" / training.folder

    def run(self, training: Training) -> Run:
        """Return a finished training.

        Raises:
            ValueError: It has not begun.
        """
        if training.folder not in self._runs:
            self._runs[training.folder] = load_run(self.run_folder(training))
        return self._runs[training.folder]

    def is_trained(self, training: Training) -> bool:
        """Whether a training has reached its end."""
        if checkpoint.latest(self.run_folder(training) / CHECKPOINTS) is None:
            return False
        run = load_run(self.run_folder(training))
        return run.recipe.train.share_done(run.progress) >= 1

    def measure(self, cell: Cell) -> Result:
        """Sample a training and measure its images; a cell that was measured before is read from the folder."""
        named = NamedRun(cell.training.model.name, self.run_folder(cell.training), self.run(cell.training))
        results = self.real(cell.training.model.data).results(cell)
        if cell.chosen:
            return results.with_best_plan(named, cell.plan.budget, cell.plan.sampler).result
        return results.with_plan(named, cell.plan, cell.images).result

    def can_train(self, model: Model) -> bool:
        """Whether the images of a model are there."""
        return model.data != "pictures" or self.pictures is not None

    def recipe(self, training: Training) -> Recipe:
        """Return the recipe of a training."""
        return training.model.recipe(self.scale, training.seed, self.config(training.model.data))

    def write_recipe(self, training: Training) -> None:
        """Write the recipe that `command` trains."""
        self._recipe(training).parent.mkdir(parents=True, exist_ok=True)
        write_json(self._recipe(training), self.recipe(training).to_json())

    def command(self, training: Training) -> list[str]:
        """Return the command that starts or resumes a training."""
        words = ["train", str(self._recipe(training)), "--out", str(self.run_folder(training))]
        return fpdm_command([*words, "--data-root", str(self.root)] if self.root is not None else words)

    def macs_done(self, training: Training) -> float:
        """Return the multiply-accumulates of a training so far, as its log has them."""
        rows = read_rows(self.run_folder(training) / METRICS)
        return rows[-1]["macs"] if rows else 0.0

    def _recipe(self, training: Training) -> Path:
        return self.folder / "recipes" / f"{training.folder}.json"

    def _config(self, name: str) -> DataConfig:
        if name == "pictures":
            if self.pictures is None:
                raise ValueError("there is no folder of pictures; give one with --pictures")
            return DataConfig(str(self.pictures.resolve()))
        if name or not self.scale.on_latents:
            return DataConfig(name or self.scale.data)
        cache = self.folder / "latents"
        prepare(DataConfig(self.scale.data), self.autoencoder, cache, root=self.root)
        return DataConfig(str(cache.resolve()))

    def _trained_autoencoder(self) -> str:
        out = self.folder / "autoencoder"
        words = ["train-autoencoder", self.scale.data, "--pad", "2", "--seconds", "1800", "--out", str(out)]
        if self.root is not None:
            words += ["--data-root", str(self.root)]
        run_command(fpdm_command(words), self.folder / "logs" / "autoencoder.txt", threads=os.cpu_count() or 1)
        return str(out)
