import gc
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

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
