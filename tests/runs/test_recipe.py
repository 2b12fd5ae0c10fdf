import json
import re
from dataclasses import replace
from typing import Any

import pytest

from fpdm.data.config import DataConfig
from fpdm.runs.recipe import Recipe, differences
from fpdm.runs.recipes import RECIPES, make_recipe
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


def test_recipe_of_an_older_version_takes_the_defaults() -> None:
    values = json.loads(make_recipe("digits").to_json())
    for name in ("accumulate", "validate_every", "sample_every", "tracker"):
        del values["train"][name]
    assert Recipe.from_json(json.dumps(values)) == make_recipe("digits")
    assert differences(Recipe.from_json(json.dumps(values)), make_recipe("digits")) == []


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


def test_a_resumed_run_may_accumulate_otherwise() -> None:
    one = small_recipe()
    assert differences(one, replace(one, train=replace(one.train, accumulate=7))) == []
    assert differences(one, replace(one, train=replace(one.train, batch_size=7)))


@pytest.mark.parametrize(
    ("model", "train", "says"),
    [
        ("dit-4", {"random_start": 1.0}, r"random_start is 1\.0, but a stack of blocks has no start to choose"),
        ("dit-2", {"exit_weight": 1.0}, r"exit_weight is 1\.0, but no step has an early exit"),
        (
            "fpdm",
            {"exit_weight": 1.0, "grad_iters": 1},
            "no step has an early exit; expected a fixed point with",
        ),
        ("fpdm", {"exit_weight": 1.0, "gradient": "jfb"}, "no step has an early exit"),
        ("dit-2", {"weak_weight": 1.0}, "a model without a middle has no weaker answer"),
    ],
)
def test_training_that_the_model_has_nothing_for_is_refused(model: str, train: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_recipe("digits", model, **train)
