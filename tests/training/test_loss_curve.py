import gc
from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from fpdm.training import loss_curve
from fpdm.training.loss_curve import save_loss_curve


def test_loss_that_was_not_finite_is_left_out(tmp_path: Path) -> None:
    """It is null in the rows."""
    rows = [{"step": step, "loss": 1 / step} for step in range(1, 200)]
    save_loss_curve(rows, [], tmp_path / "without.png", title="a run")
    rows.insert(100, {"step": 100.5, "loss": None})
    save_loss_curve(rows, [], tmp_path / "with.png", title="a run")
    assert (tmp_path / "with.png").read_bytes() == (tmp_path / "without.png").read_bytes()
    Image.open(tmp_path / "with.png").verify()
    save_loss_curve(rows[100:101], [], tmp_path / "none.png", title="a run")
    assert not (tmp_path / "none.png").exists()


def test_nothing_of_a_figure_is_left(tmp_path: Path) -> None:
    gc.collect()
    gc.disable()  # as good as, in a training
    try:
        save_loss_curve([{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}], [], tmp_path / "loss.png", title="run")
        assert not [one for one in gc.get_objects() if isinstance(one, Figure)]
    finally:
        gc.enable()


def test_of_a_long_run_evenly_spaced_points_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, curves = [], loss_curve.Curves

    def watched(panels: list[loss_curve.Panel], *rest: object, **how: object) -> loss_curve.Curves:
        drawn.extend(panels[0].curves)
        return curves(panels, *rest, **how)  # type: ignore[arg-type]  # they are passed on

    monkeypatch.setattr(loss_curve, "Curves", watched)
    rows = [{"step": step, "loss": 1.0 + step} for step in range(1, 40_002)]
    save_loss_curve(iter(rows), iter(rows[:3]), tmp_path / "loss.png", title="a run")
    training, validation = drawn
    steps = [*training.x]
    assert (len(steps), steps[0], steps[-1]) == (2_000, 1, 40_001)
    assert {round(b - a) for a, b in pairwise(steps)} == {20, 21}
    assert [*training.raw] == pytest.approx([1.0 + step for step in steps])
    assert [*training.y] == pytest.approx([1.0 + step for step in steps])
    assert [*validation.x] == [1, 2, 3]
