from dataclasses import replace

import pytest

from fpdm.compare.search import Choices, search
from fpdm.models.config import as_dit
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.progress import Progress
from fpdm.runs.run import Run
from fpdm.sampling.images import ImageSampler
from fpdm.sampling.plan import Plan
from tests.training.small import SHAPE, recipe

CHOICES = Choices((1, 2, 5), (True, False), ("trailing", "phi^1.5"), ("constant", "increasing", "decreasing"))
FPDM = Run(recipe(), DiffusionTransformer.from_shape(SHAPE), Progress(), "")
DIT = replace(FPDM, model=DiffusionTransformer.from_shape(as_dit(SHAPE, 4)))


def run_search(run: Run, budget: int, choices: Choices = CHOICES, target: Plan | None = None) -> tuple[list, list]:
    """Search with a distance that counts the fields that differ from the target's."""
    seen: list[Plan] = []
    wanted = target or Plan(budget, 2, grid="phi^1.5", allocation="decreasing", reuse=False)

    def distance(plan: Plan) -> float:
        seen.append(plan)
        fields = ("iterations", "grid", "allocation", "reuse")
        return sum(getattr(plan, f) != getattr(wanted, f) for f in fields) + len(seen) / 1000

    found = search(run, choices, budget=budget, sampler="ddim", guidance=1.0, distance=distance)
    return found, seen


def test_finds_the_best_of_every_group() -> None:
    found, seen = run_search(FPDM, 40)
    best = found[0].plan
    assert (best.iterations, best.grid, best.allocation, best.reuse) == (2, "phi^1.5", "decreasing", False)
    assert [t.distance for t in found] == sorted(t.distance for t in found)
    assert len(found) == len(seen)


def test_every_model_has_the_same_number_of_trials() -> None:
    fpdm, _ = run_search(FPDM, 400)
    dit, _ = run_search(DIT, 400)
    assert len(fpdm) == len(dit) == CHOICES.trials == 9


def test_no_two_trials_draw_the_same_images() -> None:
    for run in (FPDM, DIT):
        for budget in (7, 12, 40):
            found, _ = run_search(run, budget)
            drawn = {
                (s.timesteps, tuple(s.table), t.plan.reuse and len(s.timesteps) > 1)
                for t in found
                for s in [ImageSampler(run.model, run.recipe.schedule, t.plan)]
            }
            assert len(drawn) == len(found)


def test_a_single_step_leaves_no_choice() -> None:
    found, seen = run_search(DIT, 4)
    assert [t.plan for t in found] == seen
    assert len(seen) == 1


def test_what_the_budget_cannot_pay_for_is_left_out() -> None:
    found, _ = run_search(FPDM, 6)
    assert {t.plan.iterations for t in found} == {1, 2}


def test_iterations_that_would_take_more_steps_than_timesteps_are_left_out() -> None:
    most = FPDM.recipe.schedule.num_timesteps
    found, _ = run_search(FPDM, 4 * most)  # 3 passes a step with 1 iteration, 4 with 2, 7 with 5
    assert {t.plan.iterations for t in found} == {2, 5}
    with pytest.raises(ValueError, match=f"is {8 * most // 7} steps of 5 iterations, more than the {most} timesteps"):
        run_search(FPDM, 8 * most, Choices((5,), (True,), ("trailing",), ("constant",)))


def test_one_choice_means_one_trial_and_no_finer_grids() -> None:
    only = Choices((2,), (True,), ("trailing",), ("constant",))
    for run in (FPDM, DIT):
        found, seen = run_search(run, 40, only)
        assert [t.plan for t in found] == seen
        assert len(seen) == 1


def test_a_budget_below_one_step_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 4"):
        run_search(DIT, 3)
    with pytest.raises(ValueError, match="below one step of 5 iterations; expected at least 7"):
        run_search(FPDM, 5, Choices((5,), (True,), ("trailing",), ("constant",)))


def test_guidance_that_a_run_was_not_trained_for_is_warned_of_before_anything_is_drawn() -> None:
    untrained = replace(FPDM, recipe=recipe(label_dropout=0.0))
    with pytest.warns(RuntimeWarning, match="was trained with label dropout 0"):
        CHOICES.check(untrained, 40, "ddim", 4.0)
