"""What stands beside a model about its sampling: written at training time, read by everything that samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fpdm.models.config import as_dit
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.recipes import make_recipe
from fpdm.runs.run import load_run
from fpdm.runs.sampling_file import keep_sampling, read_sampling, untuned, write_sampling
from fpdm.sampling.defaults import SamplingDefaults, TunedPlan
from fpdm.sampling.plan import Plan
from fpdm.training import samples
from fpdm.training.trainer import Trainer
from tests.training.small import SHAPE, data, recipe


@pytest.mark.parametrize(
    ("model", "plan"),
    [
        ("fpdm", Plan(140, 5)),  # N = M = 3 reaches 6 iterations
        ("fpdm-elastic", Plan(140, 1, reuse=False)),  # up to 4, and 1.38 in the mean
        ("dit-4", Plan(140)),
    ],
)
def test_defaults_follow_from_the_training(model: str, plan: Plan) -> None:
    assert untuned(make_recipe("fashion-mnist", model)).plan == plan


@pytest.mark.parametrize(
    ("changes", "iterations"),
    [
        ({"gradient": "jfb", "no_grad_iters": 2}, 3),
        ({"gradient": "unrolled", "grad_iters": 4}, 4),
        ({"gradient": "multistep", "no_grad_iters": 2, "grad_iters": 2}, 4),
        ({"no_grad_iters": 1, "grad_iters": 2}, 2),  # 0.5 + 1.5
        ({"gradient": "implicit"}, 5),
        ({"no_grad_iters": 12, "grad_iters": 12}, 5),
    ],
)
def test_a_model_that_never_iterated_five_times_is_not_asked_to(changes: dict[str, object], iterations: int) -> None:
    assert untuned(recipe(**changes)).plan.iterations == iterations


def test_training_writes_them_and_keeps_what_was_tuned_since(tmp_path: Path) -> None:
    elastic = replace(recipe(no_grad_iters=0, grad_iters=1), model=replace(SHAPE, injection="linear"))
    Trainer(elastic, data(), tmp_path).train()
    run = load_run(tmp_path)
    assert run.sampling.plan == Plan(140, 1, reuse=False)
    assert run.complete({"budget": 30}).plan == Plan(30, 1, reuse=False)
    found = run.sampling.with_tuned(TunedPlan(Plan(30, 2), 0.1, 50, run.weights))
    write_sampling(tmp_path, found)
    Trainer(replace(elastic, train=replace(elastic.train, steps=9)), data(), tmp_path).train()
    again = load_run(tmp_path)
    assert again.sampling == found
    assert again.complete({"budget": 30}).origin == "tuned for 30 block passes, which was for earlier weights"


def test_a_model_of_an_earlier_version_has_those_of_its_training_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    assert read_sampling(tmp_path, recipe()) == read_sampling(None, recipe()) == untuned(recipe())
    assert untuned(replace(recipe(), model=as_dit(SHAPE, 4))) == SamplingDefaults()
    (tmp_path / "sampling.json").write_text('{"plan": {"budget": 0}}')
    with pytest.raises(ValueError, match=r"sampling\.json: budget is 0; expected an integer of at least 1"):
        read_sampling(tmp_path, recipe())
    (tmp_path / "sampling.json").write_text('{"planned": 3}')
    with pytest.raises(ValueError, match=r"sampling\.json: it has an unknown key 'planned'"):
        read_sampling(tmp_path, recipe())
    keep_sampling(tmp_path, recipe())
    assert "planned" in (tmp_path / "sampling.json").read_text()


def test_sheets_of_samples_use_them(monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Plan] = []

    def stopped(model: object, schedule: object, plan: Plan, **_: object) -> None:
        plans.append(plan)
        raise InterruptedError

    monkeypatch.setattr(samples, "ImageSampler", stopped)
    one = recipe()
    model = DiffusionTransformer.from_shape(SHAPE)
    with pytest.raises(InterruptedError):
        samples.few_samples(model, one.schedule, None, Plan(7, 1, reuse=False), seed=0, device=None)  # type: ignore[arg-type]
    assert plans == [Plan(20 * 3, 1, reuse=False)]  # 20 steps of 2 block passes and 1 iteration
