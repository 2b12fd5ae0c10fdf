from __future__ import annotations

import sys
from typing import Any

import pytest

import fpdm.demo.page as page
from fpdm import cli


def test_demo_serves_the_models_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Any] = []
    monkeypatch.setattr(page, "check_installed", lambda: None)
    monkeypatch.setattr(page, "make_page", lambda *pipes: [pipe and pipe.config["name"] for pipe in pipes])
    monkeypatch.setattr(page, "launch", lambda made, **where: served.append((made, where)))
    assert cli.main(["demo"]) == 0
    assert cli.main(["demo", "fpdm-fashion", "--against", "fpdm-fashion", "--port", "7000"]) == 0
    assert served == [
        (["fpdm-fashion", None], {"host": "127.0.0.1", "port": 0}),
        (["fpdm-fashion", "fpdm-fashion"], {"host": "127.0.0.1", "port": 7000}),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no-model"], "there is no model 'no-model'"),
        (["--port", "70000"], "port is 70000"),
        ([], "the page needs gradio, which is not installed"),
    ],
)
def test_mistakes_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    if words:
        monkeypatch.setattr(page, "check_installed", lambda: None)
    else:
        monkeypatch.setitem(sys.modules, "gradio", None)
    assert cli.main(["demo", *words]) == 2
    assert message in capsys.readouterr().err
