"""`fpdm tune`: every setting is an option, and budgets add up. What it finds: tests/tune/test_tune.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fpdm.tune.settings import TuneSettings
from tests.commands.parsed import option_names, values


def made(*words: str) -> TuneSettings:
    return values("tune", "run", *words)["tuning"]


def test_budgets_add_up_however_they_are_given() -> None:
    assert made().budgets == (140,)
    for words in (["--budget", "9", "20"], ["--budget", "9", "--budget", "20"], ["--budgets=9", "--budget", "20"]):
        assert made(*words).budgets == (9, 20)
    assert made("--grid", "phi^2", "--grid", "phi^3").grids == ("phi^3",)  # of others the last counts


@pytest.mark.parametrize("field", [one.name for one in dataclasses.fields(TuneSettings)])
def test_every_setting_is_an_option(field: str) -> None:
    new = {"samplers": "unipc", "reuse": "never", "grids": "phi^3", "allocations": "adaptive", "num_images": "999"}
    for name in option_names("tune")[field]:
        found = getattr(made(name, new.get(field, "7")), field)
        assert found in (new.get(field), (new.get(field),), 7, (7,), 7.0, (7.0,), 999)


def test_everything_is_passed_on() -> None:
    words = ["--out", "o", "--data", "d", "--data-root", "r", "--latents", "l", "--autoencoder", "v"]
    found = values("tune", "run", *words)
    expected = {
        "run": Path("run"), "out": Path("o"), "data": "d", "data_root": Path("r"), "latents": (Path("l"),),
        "autoencoder": "v", "tuning": TuneSettings(), "line": "",
    }  # fmt: skip
    assert found == expected
