import json
import math
import re
from dataclasses import replace
from typing import Any

import pytest

from fpdm.data.config import DataConfig
from fpdm.fixed_point.gradients import Implicit, JacobianFree
from fpdm.runs.progress import Progress
from fpdm.runs.recipe import Recipe, differences
from fpdm.runs.recipes import RECIPES, make_recipe
from fpdm.runs.train_config import TrainConfig
from tests.training.small import recipe as small_recipe


def any_recipe(name: str, model: str, **changes: object) -> Recipe:
    return make_recipe(name, model, data=DataConfig("photos") if name == "folder" else None, **changes)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("model", ["fpdm", "dit"])
def test_json_round_trip(name: str, model: str) -> None:
    made = any_recipe(name, model, steps=3)
    assert Recipe.from_json(made.to_json()) == made


def test_unknown_key_names_the_nearest() -> None:
    values = json.loads(make_recipe("digits").to_json())
    values["train"]["batch_sise"] = values["train"].pop("batch_size")
    with pytest.raises(ValueError, match="train has an unknown key 'batch_sise'; did you mean 'batch_size'"):
        Recipe.from_json(json.dumps(values))
    with pytest.raises(ValueError, match="not JSON"):
        Recipe.from_json("{")
    with pytest.raises(ValueError, match="expected an object"):
        Recipe.from_json("[]")


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


def test_recipe_of_an_older_version_takes_the_defaults() -> None:
    values = json.loads(make_recipe("digits").to_json())
    for name in ("accumulate", "validate_every", "sample_every", "tracker"):
        del values["train"][name]
    assert Recipe.from_json(json.dumps(values)) == make_recipe("digits")
    assert differences(Recipe.from_json(json.dumps(values)), make_recipe("digits")) == []


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
    ("changes", "says"),
    [
        ({"train": {"grad_into_start": "false"}}, "grad_into_start is 'false'; expected true or false"),
        ({"train": {"learning_rate": True}}, "learning_rate is True; expected a number"),
        ({"train": {"macs": "1e9"}}, "macs is '1e9'; expected a number"),
        ({"schedule": {"num_timesteps": 10.5}}, "num_timesteps is 10.5; expected an integer"),
        ({"schedule": {"zero_terminal_snr": "no"}}, "zero_terminal_snr is 'no'; expected true or false"),
        ({"schedule": {"beta_start": "1"}}, "beta_start is '1'; expected a number"),
        ({"start": {"init_from": 5}}, "init_from is 5; expected the path"),
        ({"start": {"init_block": "3"}}, "init_block is '3' without init_from"),
        ({"autoencoder": {"source": 7}}, "source is 7; expected a name"),
        ({"name": 5}, "name is 5; expected a text"),
    ],
)
def test_values_of_another_type_in_a_file_are_refused(changes: dict[str, Any], says: str) -> None:
    values = json.loads(small_recipe().to_json())
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    with pytest.raises(ValueError, match=re.escape(says)):
        Recipe.from_json(json.dumps(values))


def test_a_batch_divides_among_processes_and_micro_batches() -> None:
    config = TrainConfig(batch_size=24, accumulate=3)
    assert [config.micro_batch(processes) for processes in (1, 2, 4)] == [8, 4, 2]
    with pytest.raises(ValueError, match=r"24 does not divide among 5 processes x accumulate 3; .* multiple of 15"):
        config.micro_batch(5)


def test_a_resumed_run_may_accumulate_otherwise() -> None:
    one = small_recipe()
    assert differences(one, replace(one, train=replace(one.train, accumulate=7))) == []
    assert differences(one, replace(one, train=replace(one.train, batch_size=7)))
