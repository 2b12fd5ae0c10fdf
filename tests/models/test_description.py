"""A model is described by its name: figures counted by hand for FPDM-S/8, whose width is 384."""

from __future__ import annotations

import json

import pytest

from fpdm.models.description import describe

D, TOKENS, CHANNELS = 384, 16, 8
BLOCK = 18 * D**2 + 15 * D
ITERATION = TOKENS * (12 * D**2 + 2 * TOKENS * D) + 4 * TOKENS * D**2


def test_the_figures_are_those_counted_by_hand() -> None:
    values = describe("FPDM-S/8", 3).to_dict()
    assert (values["model"], values["tokens"], values["iterations"], values["block_passes"]) == (
        "FPDM-S/8",
        TOKENS,
        3,
        5,
    )
    assert values["parameters_by_part"]["pre"] == BLOCK
    assert values["parameters_by_part"]["middle"] == BLOCK + 7 * D**2 + 4 * D
    assert values["parameters"] == sum(values["parameters_by_part"].values())
    macs = values["macs_by_part"]
    assert macs["middle_per_iteration"] == ITERATION
    assert values["macs"] == sum(macs.values()) + 2 * ITERATION
    assert json.loads(describe("FPDM-S/8", 3).to_json()) == values


def test_the_table_has_a_line_for_each_part() -> None:
    lines = describe("fpdm-s/8", 3).to_text().splitlines()
    assert lines[1].startswith("one evaluation with 3 iterations: 5 block passes, ")
    table = {line[:22].strip(): line[22:].split() for line in lines[4:]}
    assert list(table) == [
        "embed", "conditioning", "pre", "middle", "once per timestep", "per iteration", "post", "head",
    ]  # fmt: skip
    assert table["pre"][0] == f"{BLOCK:,}"
    assert table["per iteration"] == [f"{ITERATION / 1e6:.2f}"]


def test_a_dit_has_one_number_of_iterations_whatever_is_asked() -> None:
    assert describe("dit-s/8", 3).iterations == describe("dit-s/8").iterations == 10


def test_fewer_than_one_iteration_is_refused() -> None:
    with pytest.raises(ValueError, match="iterations is 0; expected 1 or more"):
        describe("fpdm-s/8", 0)
