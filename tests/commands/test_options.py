"""The options of a command that was made up here, and what tyro itself must go on doing for them."""

from __future__ import annotations

import contextlib
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import pytest
import tyro
from tyro.conf import Positional

from fpdm.commands.options import Command, Given, Group, options, parse


@dataclass(frozen=True)
class Oven:
    """An oven.

    Attributes:
        heat: In degrees Celsius.
        racks: Which racks to use, counted
            from below.
        fan: Blow.
        mode: Where the heat comes from.
        serial: Not for the user.
    """

    heat: float = 180.0
    racks: tuple[int, ...] = (2, 4)
    fan: bool = False
    mode: Literal["top", "bottom", "grill"] = "top"
    serial: int = 7

    def __post_init__(self) -> None:
        if not 0 < self.heat < 300:
            raise ValueError(f"heat is {self.heat}; expected up to 300 degrees")


OVEN = Oven()


@dataclass(frozen=True, kw_only=True)
class Bake(Command):
    """Bake.

    Attributes:
        dishes: What to bake.
        out: Where it goes. Not into the oven.
        minutes: How long; depends on the heat.
        class_: Of the dish (default: any).
        oven: Where it is baked.
    """

    dishes: Positional[tuple[str, ...]]
    out: Path
    minutes: int
    class_: str | None = None
    oven: Annotated[Oven, Group(without=("serial",), also={"racks": "rack"})] = OVEN

    @classmethod
    def defaults(cls, given: Given) -> dict[str, Any]:
        return {"minutes": 30 if given.get("oven", {}).get("heat", 180) > 200 else 60}


def bake(*words: str) -> Bake:
    return parse(Bake, words, prog="fpdm bake", summary="Bake.", example="fpdm bake pie --out table")


def test_what_is_not_given_keeps_its_default() -> None:
    assert bake("pie", "--out", "table") == Bake(
        dishes=("pie",), out=Path("table"), minutes=60, oven=OVEN, line="fpdm bake pie --out table"
    )


def test_every_kind_of_option_arrives() -> None:
    made = bake(
        *("pie", "bread", "--out=my table", "--class", "sweet", "--json"),
        *("--heat", "2.1e2", "--racks", "1", "3", "5", "--fan", "--mode", "grill"),
    )
    assert made == Bake(
        dishes=("pie", "bread"),
        out=Path("my table"),
        minutes=30,  # the default depends on the heat
        class_="sweet",
        oven=Oven(210.0, (1, 3, 5), True, "grill"),
        json=True,
        line="fpdm bake pie bread '--out=my table' --class sweet --json --heat 2.1e2 --racks 1 3 5 --fan --mode grill",
    )


@pytest.mark.parametrize("words", [["--rack", "1"], ["--racks", "1"]])
def test_an_option_may_have_another_name(words: list[str]) -> None:
    assert bake("pie", "--out", "table", *words).oven.racks == (1,)


def test_flags_can_be_taken_back_and_numbers_be_negative() -> None:
    made = bake("pie", "--out", "table", "--fan", "--no-fan", "--minutes", "-5")
    assert (made.oven.fan, made.minutes) == (False, -5)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["pie", "--out", "x", "--haet", "3"], "unknown argument --haet; did you mean --heat?"),
        (["--haet", "3", "pie", "--out", "x"], "unknown argument --haet; did you mean --heat?"),
        (["pie", "--out", "x", "--zzz"], "unknown argument --zzz; see fpdm bake --help"),
        (["pie", "--out", "x", "-z"], "unknown argument -z; see fpdm bake --help"),
        (["pie", "--out", "x", "--serial", "3"], "unknown argument --serial"),
        (["pie", "--out", "x", "--line", "3"], "unknown argument --line"),
        (["pie", "--out", "x", "--no-fna"], "unknown argument --no-fna; did you mean --no-fan?"),
        (["pie"], "--out is missing (Where it goes); see fpdm bake --help"),
        (["--out", "x"], "DISHES is missing"),
        (["pie", "--out"], "--out has no value"),
        (["pie", "--out", "--fan"], "--out has no value"),
        (["pie", "--out", "x", "--minutes", "ten"], "--minutes is 'ten'; expected an integer"),
        (["pie", "--out", "x", "--minutes", "a/--b: c: d"], "--minutes is 'a/--b: c: d'; expected an integer"),
        (["pie", "--out", "x", "--minutes", "1.5"], "--minutes is '1.5'; expected an integer"),
        (["pie", "--out", "x", "--heat", "hot"], "--heat is 'hot'; expected a number"),
        (["pie", "--out", "x", "--racks", "1", "top"], "--racks is ['1', 'top']; expected integers"),
        (["pie", "--out", "x", "--mode", "girll"], "--mode is 'girll'; expected one of top, bottom, grill; did you"),
        (["pie", "--out", "x", "--fan=no"], "--fan takes no value, but has 'no'; give --fan or --no-fan"),
        (["pie", "--out", "x", "--heat", "nan"], "heat is nan; expected up to 300 degrees"),
        (["pie", "--out", "x", "--minutes", "x" * 200], "x" * 50),
    ],
)
def test_mistakes_are_value_errors_of_one_line(words: list[str], says: str) -> None:
    with pytest.raises(ValueError) as raised:
        bake(*words)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not {*str(raised.value)} & {*"│─╭╰"}


def test_help_explains_every_option_by_group(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        bake("--heat", "250", "--help")
    assert not left.value.code
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "example: fpdm bake pie --out table" in shown
    text = " ".join(shown[shown.index("╭") :].replace("│", " ").split())
    order = ["positional arguments", "DISHES", "─ options", "--class STR", "--json", "oven options", "--heat FLOAT"]
    assert [*map(text.index, order)] == sorted(map(text.index, order))
    for expected in (
        "What to bake. (required)",
        "Where it goes. Not into the oven. (required)",
        "(default: 30)",  # at 250 degrees
        "Of the dish (default: any). ",
        "Where it is baked.",
        "In degrees Celsius. (default: 180.0)",
        "--rack [INT [INT ...]], --racks [INT [INT ...]] Which racks to use, counted from below. (default: 2 4)",
        "--fan, --no-fan Blow. (default: no)",
        "--mode {top,bottom,grill} Where the heat comes from. (default: top)",
    ):
        assert expected in text
    assert "serial" not in text
    assert "--line" not in text


def test_help_comes_in_spite_of_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bake("--haet", "3", "pie", "-h")
    assert "--heat FLOAT" in capsys.readouterr().out


def test_help_can_be_printed_where_lines_cannot(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("sys.__stdout__", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with pytest.raises(SystemExit):
        bake("--help")
    assert capsys.readouterr().out.isascii()


def test_options_have_names_of_their_own_in_every_command() -> None:
    from fpdm.commands.compare import Compare
    from fpdm.commands.describe import Describe
    from fpdm.commands.sample import Sample
    from fpdm.commands.train import Train

    for kind in (Compare, Describe, Sample, Train):
        names = [name for option in options(kind, {}) for name in option.names]
        assert len(names) == len({*names}), kind


class Words(TypedDict, total=False):
    a: int
    b: float
    c: Positional[str]


def test_tyro_returns_only_what_was_given() -> None:
    """The contract that `_read` stands on: keys of a TypedDict that were not given are absent, strangers come back."""
    read, unknown = tyro.cli(Words, args=["--b", "nan", "--d", "--e=1"], add_help=False, return_unknown_args=True)
    assert "a" not in read
    assert math.isnan(read.get("b", 0.0))  # nan passes: the dataclasses must refuse it
    assert unknown == ["--d", "--e=1"]
    read, unknown = tyro.cli(Words, args=["word"], add_help=False, return_unknown_args=True)
    assert (read, unknown) == ({"c": "word"}, [])


@pytest.mark.parametrize("words", [["--a", "x"], ["--a"]])
def test_tyro_speaks_in_a_box_on_stderr_and_leaves_with_2(words: list[str]) -> None:
    said, silent = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(silent), pytest.raises(SystemExit) as left:
        tyro.cli(Words, args=words, add_help=False, return_unknown_args=True)
    assert left.value.code == 2
    assert said.getvalue().count("\n") > 2
    assert not silent.getvalue()
