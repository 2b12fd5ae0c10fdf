"""The page in headless Chromium: it draws, moves, stops, answers mistakes, and loads nothing from elsewhere."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fpdm.demo.page import check_installed, check_pair
from fpdm.diffusion.schedule import Schedule
from fpdm.pipeline import FPDMPipeline
from fpdm.sampling.schedulers import default_scheduler
from tests import pipelines
from tests.axe import violations
from tests.browser import visit
from tests.demo.visits import shown, slide, wait_for


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ValueError, match=r"the page needs gradio, which is not installed: pip install 'fpdm\[demo\]'"):
        check_installed()


def test_models_that_do_not_go_together_are_refused() -> None:
    other = FPDMPipeline(
        pipelines.network(replace(pipelines.SHAPE, num_classes=5)), default_scheduler(Schedule(), clip=True)
    )
    with pytest.raises(ValueError, match="the second model has classes, in number 5; expected 3"):
        check_pair(pipelines.pixels(), other)
    check_pair(pipelines.pixels(), pipelines.pixels(dit=True))


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, True), (390, False)])
def test_the_page_works(width: int, dark: bool) -> None:
    pytest.importorskip("gradio")
    with shown(pipelines.pixels()) as address, visit(address, width=width, dark=dark) as found:
        view = found.page
        view.wait_for_selector("#draw")
        for side in "AB":
            slide(view, f"budget-{side}", 60)
            slide(view, f"each-{side}", 4)
        view.locator("#charts-A", has_text="10 steps x 4 iterations, 60 of 60 block passes").wait_for()
        view.locator("#reuse-A input").click()
        view.locator("#allocation-A input").click()
        view.get_by_role("option", name="increasing").click()
        view.locator("#charts-A", has_text="10 steps x 2 to 6 iterations").wait_for()
        view.locator("#guiding-A button").first.click()
        slide(view, "guidance-A", 2)
        slide(view, "own-A", 1)
        view.locator("#label input").click()
        view.get_by_role("option", name="dog").click()
        slide(view, "count", 2)
        view.click("#draw")
        wait_for(view, "done")
        assert "60 block passes" in view.inner_text("#facts-B")
        assert view.locator("#sheet-A img, #sheet-B img").count() == 2
        view.fill("#seed input", "-1")
        view.locator("#seed input").blur()
        view.click("#draw")
        view.get_by_text("seed is -1").first.wait_for()
        view.fill("#seed input", "4")
        view.locator("#seed input").blur()
        view.locator("#both input").click()
        slide(view, "budget-A", 560)
        view.click("#draw")
        wait_for(view, "drawing A")
        view.click("#stop")
        wait_for(view, "stopped")
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        assert (found.complaints, found.elsewhere) == ([], [])
        faults = violations(view)
        assert [one for one in faults if "toast" not in one] == []  # a notice of gradio's own, while it is shown


@pytest.mark.slow
def test_two_models_draw_from_the_same_noise(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    with shown(pipelines.pixels(), pipelines.pixels(dit=True, name="other")) as address, visit(address) as found:
        view = found.page
        view.wait_for_selector("#draw")
        assert not view.locator("#each-B").is_visible()  # a stack has no number of iterations to choose
        view.click("#draw")
        wait_for(view, "done")
        assert "140 block passes" in view.inner_text("#facts-A")
        assert "140 block passes" in view.inner_text("#facts-B")
