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


GUIDED = replace(CHOICES, self_guidance=(0.0, 0.4, 1.0))


def test_self_guidance_is_chosen_last_with_as_many_trials_for_every_model() -> None:
    wanted = Plan(400, 2, grid="phi^1.5", allocation="decreasing", reuse=False, self_guidance=1.0, weak_depth=1)

    def tried(run: Run) -> list[Plan]:
        seen: list[Plan] = []

        def distance(plan: Plan) -> float:
            seen.append(plan)
            fields = ("iterations", "grid", "allocation", "reuse", "self_guidance", "weak_depth")
            return sum(getattr(plan, f) != getattr(wanted, f) for f in fields) + len(seen) / 1000

        found = search(run, GUIDED, budget=400, sampler="ddim", guidance=1.0, distance=distance)
        assert (found[0].plan.self_guidance, found[0].plan.weak_depth) == (1.0, 1)
        assert len(found) == GUIDED.trials == 9 + 4
        return seen

    fpdm, dit = tried(FPDM), tried(DIT)
    assert not any(plan.self_guidance for plan in fpdm[:9])
    # With two iterations and no reuse, the second iterate is no weaker: finer grids take its place.
    assert [(plan.self_guidance, plan.weak_depth) for plan in fpdm[9:11]] == [(0.4, 1), (1.0, 1)]
    assert all(plan.self_guidance == 1.0 and plan.grid not in GUIDED.grids for plan in fpdm[11:])
    assert {(plan.self_guidance, plan.weak_depth) for plan in dit} == {(0, None), (0.4, 0), (0.4, 1), (1, 0), (1, 1)}


def test_depths_that_a_model_does_not_have_and_answers_that_are_no_weaker_are_left_out() -> None:
    deep = replace(GUIDED, iterations=(5,), reuse=(False,), weak_depths=(0, 2, 5))
    for run, depths in ((FPDM, {None, 0, 2}), (DIT, {None, 0})):  # DIT's middle has two blocks
        GUIDED.check(run, 400, "ddim", 1.0)
        found = search(run, deep, budget=400, sampler="ddim", guidance=1.0, distance=lambda plan: -plan.budget)
        assert {trial.plan.weak_depth for trial in found} == depths
    with pytest.raises(ValueError, match="has no weaker answer of depth 5; add 0, which is without"):
        replace(GUIDED, self_guidance=(1.0,), weak_depths=(5,)).check(DIT, 400, "ddim", 1.0)


def test_self_guidance_that_the_budget_cannot_pay_for_is_left_out_or_refused() -> None:
    found = search(DIT, GUIDED, budget=4, sampler="ddim", guidance=1.0, distance=lambda plan: 1.0)
    assert [trial.plan.self_guidance for trial in found] == [0.0]
    with pytest.raises(ValueError, match="a budget of 4 block passes is below one step with self-guidance"):
        replace(GUIDED, self_guidance=(1.0,)).check(DIT, 4, "ddim", 1.0)


def test_a_search_that_the_budget_pays_nothing_of_is_refused() -> None:
    """The DiT of 4 blocks needs 4 passes for a step, and one more with self-guidance."""
    guided = replace(CHOICES, self_guidance=(0.4, 1.0))
    with pytest.raises(ValueError, match="a budget of 4 block passes is below one step"):
        run_search(DIT, 4, guided)
    assert run_search(DIT, 5, guided)[0][0].plan.self_guidance


def test_records_of_choices_without_self_guidance_are_as_they_were() -> None:
    assert list(CHOICES.values()) == ["iterations", "reuse", "grids", "allocations"]
    assert GUIDED.values()["self_guidance"] == (0.0, 0.4, 1.0)
