"""The paper's pictures are drawn from the same noise, and block passes by step add up to the budget."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fpdm.models.transformer import DiffusionTransformer
from fpdm.reproduce.bench import Bench
from fpdm.reproduce.models import Training
from fpdm.reproduce.pictures import Figure1, Figure3, Figure5, Samples
from fpdm.reproduce.scale import QUICK
from fpdm.reproduce.study import Measurements, Study
from fpdm.runs.progress import Progress
from fpdm.runs.run import Run
from tests.reproduce.made import unmeasured


class Untrained(Bench):
    """A bench with networks as they are at birth."""

    def run(self, training: Training) -> Run:
        if training.folder not in self._runs:
            recipe = self.recipe(training)
            torch.manual_seed(0)
            model = DiffusionTransformer.from_shape(recipe.model).eval()
            self._runs[training.folder] = Run(recipe, model, Progress(), "")
        return self._runs[training.folder]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "shapes"),
    [
        (Figure1(), {"figure1": (2, 10)}),
        (Figure5(), {"figure5": (10, 10)}),
        (Samples(), {"samples-dit": (4, 12), "samples-fpdm": (4, 12)}),
    ],
    ids=lambda one: getattr(one, "name", ""),
)
def test_sheets_have_their_rows(study: Study, shapes: dict[str, tuple[int, int]], tmp_path: Path) -> None:
    sheets = study.sheets(Untrained(tmp_path, QUICK))
    assert {name: (len(sheet.rows), sheet.columns) for name, sheet in sheets.items()} == shapes
    captions = [row.caption for sheet in sheets.values() for row in sheet.rows if row.caption]
    assert captions[0].startswith("DiT-28\n20 steps")
    assert any(caption.startswith("FPDM\n56 steps, 8 iterations") for caption in captions)
    assert len(study.examined(QUICK)) == 2


def test_every_step_is_shown_and_the_budget_is_spent(tmp_path: Path) -> None:
    study = Figure3()
    spent = study.examine(Bench(tmp_path, QUICK))
    assert {name: (len(line), sum(line)) for name, line in spent.items()} == {
        "DiT-28": (5, 140),
        "FPDM, constant": (20, 140),
        "FPDM, increasing": (20, 140),
        "FPDM, decreasing": (20, 140),
    }
    rising = spent["FPDM, increasing"]
    assert rising == sorted(rising)
    assert rising == spent["FPDM, decreasing"][::-1]
    shown = study.page(QUICK, Measurements([], spent))
    assert [*shown.plots] == ["figure3"]
    assert [row[3] for row in shown.tables[0].rows] == ["140"] * 4
    assert unmeasured(study) == []
