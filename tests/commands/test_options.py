"""The options of a command made up here, and what cyclopts must go on doing for them."""

from __future__ import annotations

import inspect
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from cyclopts import App, CycloptsError

from fpdm import cli
from fpdm.commands.options import OTHER_WORDS, QUIET, Fields, _suggestion, add_options, explain
from fpdm.errors import did_you_mean
from tests.commands.parsed import option_names, values


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
        pad: Felt under the dish.
    """

    heat: float = 180.0
    racks: tuple[int, ...] = (2, 4)
    fan: bool = False
    mode: Literal["top", "bottom", "grill"] = "top"
    serial: int = 7
    pad: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.heat < 300:
            raise ValueError(f"heat is {self.heat}; expected up to 300 degrees")


OVEN = Oven(serial=8)
MAIN_OPTIONS = ("heat", "minutes")


def defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"minutes": 30 if given.get("heat", 180) > 200 else 60}


def bake(
    dishes: tuple[str, ...],
    *,
    out: Path,
    minutes: int,
    class_: str | None = None,
    crust: bool | None = None,
    weights: tuple[float, ...] = (),
    oven: Annotated[Oven, Fields(without=("serial",), also={"racks": "rack"})] = OVEN,
    line: str = "",
    given: Mapping[str, Any] | None = None,
) -> None:
    """Bake dishes.

    They come out warm.

    Args:
        dishes: What to bake.
        out: Where it goes. Not into the oven.
        minutes: How long; depends on the heat.
        class_: Of the dish (default: any).
        crust: Whether it has a crust (default: as the dish likes).
        weights: Of the dishes.
        oven: Where it is baked.
        line: The command line.
        given: What is given.
    """


def application() -> App:
    app = cli.application()
    app.command(bake, help_epilogue="fpdm bake pie --out table")
    return app


def baked(*words: str) -> dict[str, Any]:
    found = values("bake", *words, line="as called", app=application())
    return {name: value for name, value in found.items() if name != "given"}


def mistake(*words: str) -> str:
    with pytest.raises((CycloptsError, ValueError)) as raised:
        baked(*words)
    return explain(raised.value) if isinstance(raised.value, CycloptsError) else str(raised.value)


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    app = application()
    add_options(app, ["bake", *words], "")
    command, bound, _ = app.parse_args(["bake", *words], **QUIET)
    command(*bound.args, **bound.kwargs)
    return capsys.readouterr().out


PLAIN = {
    "dishes": ("pie",), "out": Path("table"), "minutes": 60, "class_": None, "crust": None, "weights": (),
    "oven": OVEN, "line": "as called",
}  # fmt: skip


def test_what_is_not_given_keeps_its_default() -> None:
    assert baked("pie", "--out", "table") == PLAIN


def test_what_is_given_is_told_by_itself() -> None:
    words = ("pie", "--out", "table", "--rack", "2", "4", "--no-crust")
    found = values("bake", *words, app=application())
    assert found["oven"] == OVEN
    assert found["given"] == {"dishes": ("pie",), "out": Path("table"), "racks": (2, 4), "crust": False}


def test_every_kind_of_option_arrives() -> None:
    assert baked(
        *("pie", "bread", "--out=my table", "--class", "sweet", "--json", "--crust", "--weights", "1e-1", "2"),
        *("--heat", "2.1e2", "--racks", "1", "3", "5", "--fan", "--mode", "grill", "--pad", "3"),
    ) == {
        "dishes": ("pie", "bread"),
        "out": Path("my table"),
        "minutes": 30,  # the default depends on the heat
        "class_": "sweet",
        "crust": True,
        "weights": (0.1, 2.0),
        "oven": Oven(210.0, (1, 3, 5), True, "grill", 8, 3),
        "line": "as called",
    }


@pytest.mark.parametrize("words", [["--rack", "1"], ["--racks", "1"], ["--racks=1"]])
def test_an_option_may_have_another_name(words: list[str]) -> None:
    assert baked("pie", "--out", "table", *words)["oven"].racks == (1,)


def test_flags_can_be_taken_back_and_numbers_be_negative() -> None:
    made = baked("pie", "--out", "table", "--fan", "--no-fan", "--no-crust", "--minutes", "4", "--minutes", "-5")
    assert (made["oven"].fan, made["crust"], made["minutes"]) == (False, False, -5)
    assert baked("pie", "--out", "table", "--fan=yes")["oven"].fan


def test_words_that_python_or_shells_read_otherwise_stay_texts() -> None:
    for word in ("none", "null", "", "[1]", "{}", "true"):
        assert baked("pie", "--out", "table", "--class", word)["class_"] == word
    assert baked("--out", "table", "--", "--pie")["dishes"] == ("--pie",)


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
        (["pie", "--out", "x", "--pad", "1.5"], "--pad is '1.5'; expected an integer"),
        (["pie", "--out", "x", "--pad", "none"], "--pad is 'none'; expected an integer"),
        (["pie", "--out", "x", "--heat", "hot"], "--heat is 'hot'; expected a number"),
        (["pie", "--out", "x", "--racks", "1", "top"], "--racks is ['1', 'top']; expected integers"),
        (["pie", "--out", "x", "--racks", "1", "2.5"], "--racks is ['1', '2.5']; expected integers"),
        (["pie", "--out", "x", "--weights", "1", "top"], "--weights is ['1', 'top']; expected numbers"),
        (["pie", "--out", "x", "--mode", "girll"], "--mode is 'girll'; expected one of top, bottom, grill; did you"),
        (["pie", "--out", "x", "--fan=maybe"], "--fan takes no value, but has 'maybe'; leave the value out"),
        (["pie", "--out", "x", "--heat", "nan"], "heat is nan; expected up to 300 degrees"),
        (["pie", "--out", "x", "--heat", "-inf"], "heat is -inf; expected up to 300 degrees"),
        (["pie", "--out", "x", "--minutes", "x" * 200], "x" * 50),
    ],
)
def test_mistakes_are_one_line(words: list[str], says: str) -> None:
    message = mistake(*words)
    assert says in message
    assert "\n" not in message
    assert not {*message} & {*"│─╭╰"}


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        ("train digits --lr 1", "--learning-rate"),
        ("train digits --lr=1", "--learning-rate"),
        ("train digits --fp16", "--mixed-precision"),
        ("train digits --bf16", "--mixed-precision"),
        ("train digits --max_train_steps 3", "--steps"),
        ("train digits --num-steps 3", "--steps"),
        ("train digits --gradient_checkpointing", "--activation-checkpointing"),
        ("train digits --precision bf16", "--mixed-precision"),
        ("train digits --save-every 3", "--checkpoint-every"),
        ("train digits --depth 3", "--model"),
        ("train --resolution 64", "--size"),
        ("train --dataset x", "--data"),
        ("train digits --n-epochs 3", "--steps"),
        ("train digits --dry", "--dry-run"),
        ("train digits --resume x", "--out"),
        ("train digits --resume-from-checkpoint x", "--out"),
        ("train digits --log-dir x", "--out"),
        ("sample run --cfg-scale 4", "--guidance"),
        ("sample run --guidance-scale 4", "--guidance"),
        ("sample run --sampling-method ddim", "--sampler"),
        ("sample run --steps 50", "--budget"),
        ("sample run --num-inference-steps 50", "--budget"),
        ("sample run --num-samples 4", "--num-images"),
        ("sample run -n 4", "--num-images"),
        ("sample --ckpt run", "RUN"),
        ("sample run --vae x", "--autoencoder"),
        ("compare a b --samples 9", "--num-images"),
        ("evaluate run --reference x --num-samples 9", "--num-images"),
        ("evaluate --ckpt x", "RUN"),
        ("prepare --data-path x", "DATA"),
        ("reference --dataset x", "IMAGES"),
        ("prepare x --autoencoder y --num_workers 3", "--workers"),
        ("train-autoencoder x --resolution 3", "--size"),
    ],
)
def test_words_of_other_programs_are_understood(capsys: pytest.CaptureFixture[str], words: str, ours: str) -> None:
    assert cli.main([*words.split(), "--out", "x"]) == 2
    assert f"; did you mean {ours} (" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        "sample run --lr 1",
        "sample run --fp16",
        "sample run --scale-factor 1",
        "train digits --gpus 4",
        "train digits --device cuda",
        "train digits --eps 1",
        "train digits --hidden 1",
        "train digits --inception x",
        "prepare x --count 3",
        "evaluate run --height 3",
        "describe dit-xl/2 --num-images 3",
    ],
)
def test_no_option_of_another_meaning_is_suggested(capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert cli.main(words.split()) == 2
    assert f"; see fpdm {words.split()[0]} --help" in capsys.readouterr().err


def test_words_of_other_programs_lead_to_options_that_there_are() -> None:
    known = {name for command in cli.COMMANDS for names in option_names(command).values() for name in names}
    assert {one if one.isupper() else f"--{one}" for one in OTHER_WORDS} <= known


def test_help_explains_every_option_by_group(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "--heat", "250", "--help")
    assert "\x1b" not in text
    assert text.endswith("\nfpdm bake pie --out table\n")
    assert "They come out warm." in text
    text = " ".join(text[text.index("╭") :].replace("│", " ").split())
    order = ["─ Arguments", "DISHES", "─ Main options", "--heat", "--minutes", "─ Oven", "--racks", "─ Other options"]
    order += ["--out", "--class", "--json"]
    assert [*map(text.index, order)] == sorted(map(text.index, order))
    for expected in (
        "What to bake. [required]",
        "Where it goes. Not into the oven. [required]",
        "(default: 30)",  # at 250 degrees
        "Of the dish (default: any). ",
        "Where it is baked.",
        "In degrees Celsius. (default: 180.0)",
        "Which racks to use, counted from below. (default: 2 4)",
        "Of the dishes. (default: none)",
        "--fan --no-fan",
        "Blow. (default: no)",
        "Where the heat comes from. (default: top) [choices: top, bottom, grill]",
    ):
        assert expected in text
    assert "--rack" in text
    assert "--racks" in text
    assert "serial" not in text
    assert "--line" not in text


def test_help_comes_in_spite_of_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--heat" in shown(capsys, "--haet", "3", "pie", "-h")


def test_help_can_be_printed_where_lines_cannot(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stdout)
    shown(capsys, "--help")
    stdout.flush()
    text = stdout.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert "--heat" in text


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_options_have_names_of_their_own_and_a_help(name: str) -> None:
    names = [one for names in option_names(name).values() for one in names]
    assert len(names) == len({*names})
    assert {"--json", "--debug"} <= {*names}
    app = cli.application()
    add_options(app, [name], "")
    assert all(one.parameter.help for one in app[name].assemble_argument_collection())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_summary_is_the_first_line_of_the_documentation(name: str) -> None:
    command: Any = cli.application()[name].default_command
    assert inspect.getdoc(command).splitlines()[0] == cli.COMMANDS[name].summary  # type: ignore[union-attr]


def test_of_a_repeated_option_the_last_occurrence_counts() -> None:
    found = values(
        "compare", "a", "--out", "x", "--budgets", "28", "30", "--budgets", "56", "--seed", "1", "--seed", "2"
    )
    assert found["comparison"].budgets == (56,)
    assert found["comparison"].seed == 2


def test_help_before_a_command_is_the_help_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help", "describe"]) == 0
    first = capsys.readouterr().out
    assert cli.main(["describe", "--help"]) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_slips_of_the_finger_are_understood(name: str) -> None:
    """Without one character, with one twice, with two swapped; almost always, as some options are near each other."""
    assert not [one for one in slips(name) if f"mean {name}?" not in did_you_mean(one, cli.COMMANDS)]
    known = {one: "" for names in option_names(name).values() for one in names if one.startswith("--")}
    tried = [(f"--{one}", option) for option in known if len(option) > 5 for one in slips(option[2:])]
    missed = [
        (word, option)
        for word, option in tried
        if word not in known and option.removeprefix("--no-").removeprefix("--") not in _suggestion(word, known)
    ]
    assert len(missed) <= 0.02 * len(tried), missed


def slips(word: str) -> set[str]:
    places = range(len(word))
    missing = {word[:place] + word[place + 1 :] for place in places}
    twice = {word[:place] + word[place] + word[place:] for place in places}
    swapped = {word[:place] + word[place + 1] + word[place] + word[place + 2 :] for place in places[:-1]}
    return (missing | twice | swapped) - {word}
