"""The sections about the models: size and memory, convergence, training, settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fpdm.compare.report_models import residuals_figure, validation_figure
from fpdm.compare.report_view import View
from fpdm.drawing.plots import Curves, HeatMaps, Plot
from tests.compare.made import comparison
from tests.compare.reports import cells, report, section, value


def test_the_models_table_has_what_training_took(tmp_path: Path, drawn: list[Plot]) -> None:
    made = comparison(4, (140,), ("ddim",))
    found = cells(section(report(made, tmp_path), "Models").all("table")[0])
    most = max(one.saved_bytes for one in made.models)
    for one in made.models:
        row = found["", one.model]
        assert value(row["parameters (M)"]) == pytest.approx(one.parameters / 1e6, abs=0.005)
        assert value(row["training steps"]) == one.steps
        assert value(row["images seen"]) == one.images_seen
        assert value(row["training TMACs"]) == pytest.approx(one.macs / 1e12, abs=0.05)
        assert value(row["training min"]) == pytest.approx(one.seconds / 60, abs=0.05)
        assert value(row["saved MB, mean"]) == pytest.approx(one.saved_bytes / 1e6, abs=0.005)
        assert row["saved MB, mean"].all("small")[0].text == f"{100 * one.saved_bytes / most:.0f} %"
        assert value(row["saved MB, most"]) == pytest.approx(one.saved_bytes_max / 1e6, abs=0.005)
        last = [loss for *_, loss in one.losses[-(len(one.losses) // 20) :]]
        assert value(row["final loss"]) == pytest.approx(sum(last) / len(last), abs=0.0005)


def test_settings_that_differ_come_first_and_all_follow(tmp_path: Path, drawn: list[Plot]) -> None:
    made = comparison(3, (140,), ("ddim",))
    settings = section(report(made, tmp_path), "Settings")
    found = {field: row for (_, field), row in cells(settings.all("table")[0]).items()}
    assert "model.width" not in found
    assert [cell.text for cell in found["model.middle_blocks"].values()][1:] == ["26", "2", "1"]
    assert [cell.text for cell in found["run"].values()][1:] == ["runs/dit", "runs/dit-4", "runs/fpdm"]
    texts = [json.loads(pre.text) for pre in settings.all("pre")]
    assert texts == [json.loads(json.dumps(one.recipe)) for one in made.models] + [made.settings]


def test_loss_curves_are_smoothed_without_moving_them(tmp_path: Path, drawn: list[Plot]) -> None:
    base = comparison(1, (140,), ("ddim",))
    flat = tuple((step, 1e9 * step, 0.25) for step in range(1, 1001))
    report(replace(base, models=(replace(base.models[0], losses=flat),)), tmp_path)
    (panels,) = [plot.panels for plot in drawn if getattr(plot, "y_label", "") == "training loss"]  # type: ignore[attr-defined]
    steps, macs = (panel.curves[0] for panel in panels)
    assert steps.y == pytest.approx([0.25] * len(steps.x))
    assert len(steps.x) <= 400
    assert macs.x == pytest.approx([step * 1e9 / 1e12 for step in steps.x])


def test_residuals_are_drawn_of_the_models_that_iterate() -> None:
    made = comparison(4, (140,), ("ddim",))
    (drawing,) = residuals_figure(View(made, []))
    assert isinstance(drawing.plot, HeatMaps)
    iterating = [one for one in made.models if one.model.startswith("fpdm")]
    assert [one.title for one in drawing.plot.maps] == [one.model for one in iterating]
    assert [one.values for one in drawing.plot.maps] == [one.residuals for one in iterating]
    assert drawing.plot.maps[0].rows == [str(timestep) for timestep in range(999, 0, -111)]
    assert drawing.plot.maps[0].columns == [str(k) for k in range(1, 13)]
    assert not residuals_figure(View(comparison(2, (140,), ("ddim",)), []))  # two DiTs


def test_validation_losses_are_drawn_over_ordered_timesteps() -> None:
    base = comparison(2, (140,), ("ddim",))
    shuffled = replace(base.models[0], validation=((900, 0.3), (100, 0.1), (500, 0.2)))
    unchecked = replace(base.models[1], validation=())
    (drawing,) = validation_figure(View(replace(base, models=(shuffled, unchecked)), []))
    assert isinstance(drawing.plot, Curves)
    (curve,) = drawing.plot.panels[0].curves
    assert (curve.name, curve.x, curve.y) == (shuffled.model, [100, 500, 900], [0.1, 0.2, 0.3])
    assert drawing.alt.endswith(f"mean: {shuffled.model} 0.200.")
