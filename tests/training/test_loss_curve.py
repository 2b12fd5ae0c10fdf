from pathlib import Path

import numpy as np
from PIL import Image

from fpdm.training.loss_curve import save_loss_curve, smoothed


def test_smoothing_keeps_lines_straight_and_evens_out_the_rest() -> None:
    line = np.linspace(3.0, 1.0, 200)  # (N,)
    np.testing.assert_allclose(smoothed(line), line, rtol=1e-12)
    noise = np.random.default_rng(0).standard_normal(1000)  # (N,)
    assert smoothed(noise)[50:-50].std() < 2 * noise.std() / np.sqrt(41)
    np.testing.assert_allclose(smoothed(noise)[500], noise[480:521].mean())
    assert smoothed(np.empty(0)).shape == (0,)


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
