"""The picture of a search."""

from fpdm.compare.search import Trial
from fpdm.drawing.plots import render
from fpdm.sampling.plan import Plan
from fpdm.tune.halving import Round
from fpdm.tune.picture import search_plot

A, B, C = Plan(20, 2), Plan(20, 3, "unipc"), Plan(20, 1, "unipc")


def test_every_plan_is_a_line_that_ends_where_it_was_dropped_and_two_have_names() -> None:
    rounds = (
        Round(10, (Trial(C, 0.1), Trial(B, 0.2), Trial(A, 0.3))),
        Round(30, (Trial(B, 0.15), Trial(C, 0.16))),
        Round(90, (Trial(B, 0.12), Trial(A, 0.4))),
    )
    (panel,) = search_plot(rounds, A, B).panels
    lines = {curve.name: list(zip(curve.x, curve.y, strict=True)) for curve in panel.curves}
    assert lines == {
        "unipc": [(10, 100.0), (30, 160.0)],
        "untuned": [(10, 300.0), (90, 400.0)],
        "found": [(10, 200.0), (30, 150.0), (90, 120.0)],
    }
    assert [curve.name for curve in panel.curves][-1] == "found"  # on top of the others


def test_it_can_be_drawn_where_the_untuned_plan_was_found_and_distances_are_negative() -> None:
    rounds = (Round(10, (Trial(A, -0.1), Trial(B, 0.2))), Round(30, (Trial(A, -0.2),)))
    assert render(search_plot(rounds, A, A)).light.data
