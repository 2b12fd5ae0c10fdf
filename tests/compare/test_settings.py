"""The settings of a comparison."""

from __future__ import annotations

import pytest

from fpdm.compare.settings import SHOWN, Settings


def test_one_number_of_images_is_for_all_budgets_and_several_are_for_each() -> None:
    assert [Settings(budgets=(35, 70), num_images=(20,)).images_at(budget) for budget in (35, 70)] == [20, 20]
    assert [Settings(budgets=(35, 70), num_images=(20, 30)).images_at(budget) for budget in (70, 35)] == [30, 20]
    for wrong in ((20, 30), (20, 30, 40, 50)):
        with pytest.raises(ValueError, match="expected one number, or one for each budget"):
            Settings(budgets=(35, 70, 140), num_images=wrong)


@pytest.mark.parametrize(("reuse", "tried"), [("choose", (True, False)), ("always", (True,)), ("never", (False,))])
def test_what_may_be_chosen(reuse: str, tried: tuple[bool, ...]) -> None:
    settings = Settings(iterations=(2, 3), reuse=reuse, grids=("trailing",), allocations=("adaptive",))  # type: ignore[arg-type]
    choices = settings.choices
    assert (choices.iterations, choices.reuse, choices.grids, choices.allocations) == (
        (2, 3), tried, ("trailing",), ("adaptive",),
    )  # fmt: skip


@pytest.mark.parametrize("field", ["budgets", "samplers", "iterations", "grids", "allocations", "num_images"])
def test_nothing_to_choose_from_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is empty"):
        Settings(**{field: ()})  # type: ignore[arg-type]


def test_every_picture_can_be_filled() -> None:
    for field, value in (("num_images", (SHOWN - 1,)), ("choosing_images", SHOWN - 1), ("sweep_images", SHOWN - 1)):
        with pytest.raises(ValueError, match=f"{field} is 11; expected an integer of at least 12"):
            Settings(**{field: value})  # type: ignore[arg-type]


def test_self_guidance_is_off_unless_weights_are_given() -> None:
    assert Settings().choices.self_guidance == (0.0,)
    assert Settings(self_guidance=(0.0, 1.0), self_guidance_range=(0, 500)).choices.self_guidance_range == (0, 500)
    with pytest.raises(ValueError, match="weak_depths is given, but self_guidance is 0"):
        Settings(weak_depths=(1,))
    with pytest.raises(ValueError, match="expected two timesteps, the lower one first"):
        Settings(self_guidance=(1.0,), self_guidance_range=(500, 0))
