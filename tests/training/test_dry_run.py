"""What a dry run says of a recipe, against formulas and a run that is really made."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from fpdm import cli
from fpdm.models.cost import model_cost
from fpdm.runs.recipe import Recipe
from fpdm.runs.recipes import make_recipe
from fpdm.training.dry_run import DryRun, dry_run
from fpdm.training.trainer import Trainer
from tests.training.small import data
from tests.training.small import recipe as small_recipe


def fpdm_digits(**changes: object) -> Recipe:
    settings = {"steps": 7, "batch_size": 8, "no_grad_iters": 2, "grad_iters": 3, **changes}
    return make_recipe("digits", "fpdm", **settings)


@pytest.fixture(scope="module")
def found() -> DryRun:
    return dry_run(fpdm_digits())


def test_compute_is_that_of_the_formulas(found: DryRun) -> None:
    """The parts as docs give them: a block, the hoisted injection, the outer layers."""
    shape = fpdm_digits().model
    width, tokens, patch = shape.width, shape.tokens, shape.patch_size**2 * shape.in_channels
    block, adaln = tokens * (12 * width**2 + 2 * tokens * width), 6 * width**2
    iteration, prepared = block + 4 * tokens * width**2, adaln + 3 * tokens * width**2
    explicit = shape.pre_blocks + shape.post_blocks
    head = 2 * width**2 + tokens * width * found_channels(shape) * shape.patch_size**2
    conditioning, embedding = 256 * width + width**2, tokens * patch * width
    outer = explicit * (block + adaln) + prepared + head + conditioning + embedding
    n, m = 1.0, 2.0  # the means of 0..2 and 1..3
    assert found.forward_macs == pytest.approx(outer + (n + m) * iteration, rel=1e-12)
    assert found.step_macs == pytest.approx(8 * (3 * (outer + m * iteration) + n * iteration), rel=1e-12)


def test_the_compute_of_a_weaker_answer_is_counted(found: DryRun) -> None:
    """Its iteration is shared by the third of the steps that have none without gradient."""
    cost = model_cost(fpdm_digits().model)
    weaker = dry_run(fpdm_digits(weak_weight=0.1))
    assert weaker.step_macs - found.step_macs == pytest.approx(8 * 3 * cost.weak_macs(2 / 3), rel=1e-12)
    assert weaker.memory.activations > found.memory.activations


def test_the_compute_of_an_early_exit_is_counted(found: DryRun) -> None:
    """Two thirds of the steps have one: those with 2 or 3 iterations with gradient."""
    with_exit = dry_run(fpdm_digits(exit_weight=0.1))
    answer = model_cost(fpdm_digits().model).answer
    assert with_exit.step_macs - found.step_macs == pytest.approx(8 * 3 * answer * 2 / 3, rel=1e-12)


def found_channels(shape: object) -> int:
    return shape.in_channels * (2 if shape.learn_variance else 1)  # type: ignore[attr-defined]


def test_weights_take_four_bytes_each_and_optimiser_and_average_three_times_that(found: DryRun) -> None:
    memory, weights = found.memory, 4 * found.parameters
    assert (memory.weights, memory.averages, memory.moments, memory.gradients) == (
        weights,
        weights,
        2 * weights,
        weights,
    )
    standing = memory.base + 4 * weights + memory.temporary
    assert memory.peak == standing + max(memory.backward + memory.recomputed, weights + memory.update)
    assert max(memory.activations, weights) <= memory.backward < memory.activations + weights


def test_activations_grow_with_the_micro_batch_alone(found: DryRun) -> None:
    halved = dry_run(fpdm_digits(accumulate=2))
    assert (found.micro_batch, halved.micro_batch) == (8, 4)
    assert halved.memory.activations == pytest.approx(found.memory.activations / 2)
    assert halved.step_macs == found.step_macs


def test_checkpointing_keeps_less_and_makes_a_piece_again(found: DryRun) -> None:
    less = dry_run(fpdm_digits(activation_checkpointing="all")).memory
    assert less.activations < 0.6 * found.memory.activations
    assert 0 < less.recomputed < found.memory.activations
    assert less.activations + less.recomputed < found.memory.activations


def test_steps_and_hours() -> None:
    found = dry_run(fpdm_digits(steps=7))
    assert (found.steps, found.by_clock) == (7, False)
    assert found.hours == pytest.approx(7 * found.measured_seconds / 3600)


def test_a_run_by_the_clock_makes_the_steps_that_fit() -> None:
    found = dry_run(fpdm_digits(steps=0, seconds=9.0))
    assert found.by_clock
    assert 9.0 <= found.steps * found.measured_seconds < 9.0 + found.measured_seconds
    assert f"about {found.steps:,}, by the clock" in found.to_text()
    both = dry_run(fpdm_digits(steps=1, seconds=1e6))
    assert (both.steps, both.by_clock) == (1, False)


def test_a_run_by_compute_takes_about_the_steps_that_were_said(tmp_path: Path) -> None:
    plan = replace(small_recipe(), train=replace(small_recipe().train, steps=0, macs=1.0))
    step = dry_run(plan).step_macs
    plan = replace(plan, train=replace(plan.train, macs=60 * step))
    said = dry_run(plan).steps
    done = Trainer(plan, data(), tmp_path / "run").train()
    assert said == 60
    assert abs(done.step - 60) < 8 * math.sqrt(60 / 10)  # n and m are drawn


def test_it_writes_nothing_and_needs_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "imagenet-256", "--dry-run", "--width", "16", "--heads", "2", "--batch-size", "4", "--json"]
    assert cli.main([*words, "--mixed-precision", "no"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["name"] == "fpdm-imagenet-256"
    assert said["estimated_peak_of_a_process"] > 0
    assert said["measured_seconds"] > 0
    assert not [*tmp_path.iterdir()]
    assert cli.main([*words[:-1], "--mixed-precision", "no"]) == 0
    assert "nothing was trained" in capsys.readouterr().out


def test_a_batch_that_does_not_divide_and_a_gradient_without_a_count_are_refused() -> None:
    with pytest.raises(ValueError, match="batch_size 10 does not divide among 1 processes x accumulate 3"):
        dry_run(fpdm_digits(batch_size=10, accumulate=3))
    with pytest.raises(ValueError, match="--gradient implicit"):
        dry_run(fpdm_digits(gradient="implicit"))


def test_what_is_computed_again_is_one_iteration_whatever_the_gradient_keeps() -> None:
    keeping = {"activation_checkpointing": "all", "no_grad_iters": 3}
    one = dry_run(fpdm_digits(**keeping, gradient="jfb", grad_iters=12)).memory
    other = dry_run(fpdm_digits(**keeping, grad_iters=1)).memory
    assert one.recomputed == pytest.approx(other.recomputed)
