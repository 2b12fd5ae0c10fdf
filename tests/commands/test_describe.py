from __future__ import annotations

import json

import pytest

from fpdm import cli


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
