from __future__ import annotations

import json

import pytest

from fpdm import cli
from fpdm.runs.layout import SHIPPED


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.mark.parametrize(
    ("model", "parameters"), [("fpdm-xl/2", 86_500_256), ("dit-xl/2", 674_834_720)], ids=["fpdm", "dit"]
)
def test_describe_prints_the_papers_counts(capsys: pytest.CaptureFixture[str], model: str, parameters: int) -> None:
    assert run("describe", model, "--json") == 0
    described = json.loads(capsys.readouterr().out)
    assert described["parameters"] == parameters
    assert sum(described["parameters_by_part"].values()) == parameters
    assert run("describe", model) == 0
    assert f"{parameters:,}" in capsys.readouterr().out


def test_the_number_of_iterations_is_heard(capsys: pytest.CaptureFixture[str]) -> None:
    for words, iterations in (((), 5), (("--iterations", 7), 7)):
        assert run("describe", "fpdm-s/8", "--json", *words) == 0
        assert json.loads(capsys.readouterr().out)["iterations"] == iterations


def test_a_shipped_model_and_a_folder_in_the_hubs_layout_are_described(capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for model in ("fpdm-fashion", SHIPPED / "fpdm-fashion"):
        assert run("describe", model) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert "284,752 parameters" in texts[0]  # of its card
    assert "latents of 4 x 8 x 8" in texts[0]
    assert "ankle boot" in texts[0]


@pytest.mark.parametrize(
    ("model", "says"), [("fpdm-digitz", "there is no model 'fpdm-digitz'"), ("nowhere", "expected a folder written by")]
)
def test_unknown_models_are_mistakes(capsys: pytest.CaptureFixture[str], model: str, says: str) -> None:
    assert run("describe", model) == 2
    assert says in capsys.readouterr().err
