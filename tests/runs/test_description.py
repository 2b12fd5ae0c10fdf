"""What a trained model is said to be, against its recipe and its weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fpdm.runs.description import describe_run
from fpdm.runs.run import load_run
from tests.trained import train_fpdm_and_dit


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return train_fpdm_and_dit(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("name", ["fpdm", "dit"])
def test_a_run_is_described_by_its_weights_its_training_and_its_plans(runs: dict[str, Path], name: str) -> None:
    run = load_run(runs[name])
    found = describe_run(run, 5)
    values = json.loads(found.to_json())
    assert values["parameters"] == sum(one.numel() for one in run.model.parameters())
    assert values["data"] == {"source": "digits", "train_images": None, "classes": [*"0123456789"]}
    assert (values["training"]["steps"], values["training"]["images_seen"]) == (2, 8)
    # One block before and one after the middle; the FPDM's middle may be one iteration, the DiT's is two blocks.
    smallest, most = {"fpdm": (3, None), "dit": (4, 2)}[name]
    assert values["plans"]["smallest_budget"] == smallest
    assert values["plans"]["iterations"] == [most or 1, most]
    text = found.to_text()
    assert "images of 1 x 8 x 8 pixels" in text
    assert ("any number of --iterations" in text) == (name == "fpdm")
    assert "--guidance" in text


def test_the_card_says_how_many_images_there_were(runs: dict[str, Path]) -> None:
    card = {"source": "digits", "train": 1078, "validation": 269, "test": 450, "classes": [*"0123456789"]}
    images = load_run(runs["fpdm"]).recipe.images
    (runs["fpdm"] / "data.json").write_text(json.dumps({**card, "sha256": images}))
    assert "1,078 images of digits" in describe_run(load_run(runs["fpdm"]), 5).to_text().replace("1078", "1,078")


def test_iterations_of_the_command_are_heard(runs: dict[str, Path]) -> None:
    run = load_run(runs["fpdm"])
    assert describe_run(run, 26).model.to_dict()["block_passes"] == 28
    with pytest.raises(ValueError, match="iterations is 0"):
        describe_run(run, 0)
