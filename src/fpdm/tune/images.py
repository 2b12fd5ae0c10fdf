"""The images of the plans that a search tries: drawn when they are needed, and their features kept in files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from fpdm.compare.inputs import NamedRun
from fpdm.compare.results_cache import draw, labels_of, measured_by, name_of
from fpdm.evaluation.evaluator import Evaluator
from fpdm.evaluation.features import Features
from fpdm.evaluation.kid import kernel_distance
from fpdm.files import write_atomically
from fpdm.sampling.images import SamplingCost
from fpdm.sampling.plan import Plan
from fpdm.tensors import read_tensors


class PlanImages:
    """Judges plans by the features of their first images. Those of an interrupted search are not drawn again.

    Image i of a plan starts from the same noise and class in all plans, and in all rounds.

    Args:
        folder: Folder of the files; created if needed.
        run: The model.
        evaluator: Measures images.
        data_sha256: Hash of the images that are measured against.
        seed: Seed of the noise.
        batch_size: Images generated at once.
        step: Called with a number of images, makes the context in which they are drawn.
    """

    def __init__(
        self,
        folder: Path,
        run: NamedRun,
        evaluator: Evaluator,
        data_sha256: str,
        *,
        seed: int,
        batch_size: int,
        step: Callable[[int], AbstractContextManager[None]],
    ) -> None:
        self.folder, self.run, self.evaluator = folder, run, evaluator
        self.seed, self.batch_size, self.step = seed, batch_size, step
        self._fixed = measured_by(evaluator, data_sha256)
        folder.mkdir(parents=True, exist_ok=True)

    def distance(self, plan: Plan, count: int) -> float:
        """Return the kernel distance of a plan's first `count` images to the validation images."""
        return kernel_distance(self.features(plan, count), self.evaluator.real.validation)

    def features(self, plan: Plan, count: int) -> Features:
        """Return the features of a plan's first `count` images, (count, F)."""
        values, cost = self._read(plan)
        if len(values) < count:
            first, labels = len(values), labels_of(self.run.run, self.evaluator, count)
            with self.step(count - first):
                images, spent = draw(
                    self.run.run, plan, labels[first:], seed=self.seed, batch_size=self.batch_size, first=first
                )
            # As float32, which they are computed in and kept as.
            new = self.evaluator.extractor.features(images).values.float()  # (count - first, F)
            values = torch.cat([values.reshape(-1, new.shape[1]), new])  # (count, F)
            cost = cost + torch.tensor([spent.passes, spent.macs, spent.seconds], dtype=torch.float64)  # (3,)
            tensors = {"features": values, "cost": cost}
            write_atomically(self._path(plan), safetensors.torch.save(tensors))
        return Features(values[:count].double(), self.evaluator.extractor.identity)

    def cost(self, plan: Plan) -> SamplingCost:
        """Return the cost of all images of a plan, whenever they were drawn."""
        values, cost = self._read(plan)
        return SamplingCost(len(values), *cost.tolist())

    def _read(self, plan: Plan) -> tuple[Tensor, Tensor]:
        """Return features, (N, F), and the block passes, MACs and seconds, (3,); a damaged file counts as none."""
        try:
            found = read_tensors(self._path(plan))
            values, cost = found["features"], found["cost"]  # (N, F), (3,)
            if values.ndim == 2 and cost.shape == (3,) and bool(values.isfinite().all()):
                return values.clone(), cost.clone()  # the file may be written again while it is mapped
        except (FileNotFoundError, ValueError, KeyError):
            pass
        return torch.zeros(0, 0), torch.zeros(3, dtype=torch.float64)

    def _path(self, plan: Plan) -> Path:
        asked = {**self._fixed, "plan": plan.values(), "seed": self.seed}
        name = f"{plan.budget}-{plan.sampler}-{plan.iterations}"
        return self.folder / f"{name_of(self.run.run, name, asked)}.safetensors"
