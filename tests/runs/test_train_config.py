"""The configuration of training: ranges, the learning rate, gradients and batches."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from fpdm.fixed_point.gradients import Implicit, JacobianFree
from fpdm.runs.progress import Progress
from fpdm.runs.train_config import TrainConfig, WarmStart


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": -1},
        {"steps": 1.5},
        {"seconds": math.nan},
        {"seconds": math.inf},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"learning_rate": -1.0},
        {"clip_norm": 0.0},
        {"ema_decay": 1.0},
        {"decay": 1.0},
        {"label_dropout": -0.1},
        {"grad_iters": 0},
        {"no_grad_iters": -1},
        {"gradient": "exact"},
        {"weighting": "p2"},
        {"mixed_precision": "int8"},
        {"keep": 1},
        {"accumulate": 0},
        {"accumulate": True},
        {"validate_every": -1},
        {"sample_every": 0.5},
        {"tracker": "clearml"},
    ],
)
def test_bad_value_is_named(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        TrainConfig(**wrong)


def test_rate_warms_up_and_stays() -> None:
    config = TrainConfig(learning_rate=0.2, warmup=4)
    assert [config.rate(Progress(step)) for step in (0, 1, 3, 4, 899)] == pytest.approx([0.05, 0.1, 0.2, 0.2, 0.2])
    assert TrainConfig(learning_rate=0.2, warmup=0).rate(Progress()) == 0.2


def test_rate_falls_to_zero_over_the_last_share_by_the_nearest_limit() -> None:
    config = TrainConfig(learning_rate=0.2, warmup=0, decay=0.2, steps=100, macs=1e6)
    assert [config.rate(Progress(step)) for step in (0, 80, 90, 100)] == pytest.approx([0.2, 0.2, 0.1, 0.0])
    assert config.rate(Progress(step=1, macs=0.95e6)) == pytest.approx(0.05)
    assert TrainConfig(learning_rate=0.2, warmup=0, steps=100).rate(Progress(99)) == 0.2


def test_gradients_by_name() -> None:
    def made(kind: str) -> object:
        return TrainConfig(gradient=kind, no_grad_iters=6, grad_iters=3).make_gradient()

    assert made("stochastic") == JacobianFree((0, 6), (1, 3))
    assert made("jfb") == JacobianFree((6, 6), (1, 1))
    assert made("multistep") == JacobianFree((6, 6), (3, 3))
    assert made("unrolled") == JacobianFree((0, 0), (3, 3))
    assert isinstance(made("implicit"), Implicit)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (TrainConfig(no_grad_iters=12, grad_iters=12), 12),  # the paper's, 12.5
        (TrainConfig(no_grad_iters=6, grad_iters=3), 5),
        (TrainConfig(no_grad_iters=0, grad_iters=4, grad_weights=(0.75, 0.15, 0.07, 0.03)), 1),
        (TrainConfig(no_grad_iters=1, grad_iters=2, no_grad_weights=(1.0, 3.0), grad_weights=(0.0, 2.0)), 3),
        (TrainConfig(gradient="jfb", no_grad_iters=6), 7),
        (TrainConfig(gradient="multistep", no_grad_iters=6, grad_iters=3), 9),
        (TrainConfig(gradient="unrolled", grad_iters=4), 4),
    ],
)
def test_the_mean_number_of_iterations_is_that_of_the_draws(config: TrainConfig, expected: int) -> None:
    assert config.mean_iterations == expected
    gradient = config.make_gradient()
    assert isinstance(gradient, JacobianFree)
    drawn = [sum(gradient.draw(0, step)) for step in range(2000)]
    assert sum(drawn) / len(drawn) == pytest.approx(expected, abs=0.7)


def test_an_implicit_gradient_iterates_to_convergence() -> None:
    assert TrainConfig(gradient="implicit").mean_iterations == Implicit().stop.max_iters


def test_a_batch_divides_among_processes_and_micro_batches() -> None:
    config = TrainConfig(batch_size=24, accumulate=3)
    assert [config.micro_batch(processes) for processes in (1, 2, 4)] == [8, 4, 2]
    with pytest.raises(ValueError, match=r"24 does not divide among 5 processes x accumulate 3; .* multiple of 15"):
        config.micro_batch(5)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"grad_weights": (1.0,) * 12, "gradient": "jfb"}, "need the gradient 'stochastic'; it is 'jfb'"),
        ({"grad_into_start": True, "gradient": "implicit"}, "grad_into_start does not go with"),
        ({"grad_into_start": True, "random_start": 0.5}, r"grad_into_start .* a random_start, which is 0\.5"),
        ({"weak_weight": 0.5, "exit_weight": 1.0}, r"weak_weight is 0\.5 and exit_weight 1\.0; .* one of them to be 0"),
        ({"macs": 1e9, "gradient": "implicit"}, "macs do not count the backward solve"),
        ({"grad_iters": 2, "grad_weights": (0.0, 0.0)}, "expected numbers of at least 0, not all 0"),
        ({"grad_iters": 2, "grad_weights": (1.0,)}, r"grad_weights has 1 entries; expected 2, one for each of 1\.\.2"),
        ({"no_grad_iters": 2, "no_grad_weights": (1.0, 2.0)}, r"expected 3, one for each of 0\.\.2"),
    ],
)
def test_fields_that_do_not_go_together(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TrainConfig(**fields)  # type: ignore[arg-type]


def test_weights_and_the_start_reach_the_gradient() -> None:
    config = TrainConfig(
        no_grad_iters=1, grad_iters=2, no_grad_weights=(1.0, 3.0), grad_weights=(2.0, 0.0), grad_into_start=True
    )
    assert config.make_gradient() == JacobianFree((0, 1), (1, 2), (1.0, 3.0), (2.0, 0.0), into_start=True)


def test_the_nearest_limit_ends_the_training() -> None:
    config = TrainConfig(steps=100, seconds=60.0, macs=1e12)
    assert config.share_done(Progress(step=10, seconds=45.0, macs=5e11)) == 0.75
    assert config.share_done(Progress(step=120)) == 1.2


@pytest.mark.parametrize("block", ["", "-1", "1.5", "first"])
def test_a_block_to_start_from_is_a_number_or_the_mean(block: str) -> None:
    assert WarmStart("a run", "11").init_block == "11"
    with pytest.raises(ValueError, match=f"init_block is '{block}'; expected 'mean' or the number of a block"):
        WarmStart("a run", block)
    with pytest.raises(ValueError, match="init_block is '3' without init_from"):
        WarmStart(init_block="3")


def test_a_warmup_longer_than_a_quarter_of_the_time_is_shortened() -> None:
    by_clock = TrainConfig(learning_rate=0.2, warmup=1000, steps=0, seconds=40.0, decay=0.5)
    rates = [by_clock.rate(Progress(step=9, seconds=seconds)) for seconds in (5.0, 10.0, 30.0, 40.0)]
    assert rates == pytest.approx([0.1, 0.2, 0.1, 0.0])
    by_steps = TrainConfig(learning_rate=0.2, warmup=1000, steps=100)
    for more in (by_steps, replace(by_steps, steps=200)):  # which may be trained on, so its length changes no step
        assert more.rate(Progress(49)) == pytest.approx(0.2 * 50 / 1000)


def test_samples_by_the_clock_need_a_clock() -> None:
    assert TrainConfig(seconds=9.0, sample_after=1.0, sample_every=0).draws_samples
    assert not TrainConfig(sample_every=0).draws_samples
    with pytest.raises(ValueError, match=r"sample_after is 1\.0 without seconds"):
        TrainConfig(sample_after=1.0)
