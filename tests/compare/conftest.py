"""Plots that are asked for and not drawn."""

from __future__ import annotations

import pytest
from PIL import Image

from fpdm.drawing import figures
from fpdm.drawing.images import Png
from fpdm.drawing.plots import Plot, Rendered


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Plot]:
    """The plots in the order in which they are asked for; none is drawn, which takes long."""
    plots: list[Plot] = []
    dot = Png.of(Image.new("RGB", (1, 1)), 1)

    def render(plot: Plot) -> Rendered:
        plots.append(plot)
        return Rendered(dot, dot, dot, dot)

    monkeypatch.setattr(figures, "render", render)
    return plots
