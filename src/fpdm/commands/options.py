"""From a frozen dataclass to the options of a command, by tyro.

A field is an option, its line under `Attributes:` the help. A field that is a dataclass is a group of options, whose
names are as flat as the others. Only what was given is taken from the command line, so that defaults may depend on it.
Values are checked by the dataclasses; here they get their types only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import itertools
import re
import shlex
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from typing import Annotated, Any, Protocol, TypedDict, TypeVar

import docstring_parser
import tyro
from tyro.conf import OmitArgPrefixes, arg

C = TypeVar("C", bound="Command")
Given = Mapping[str, Any]
"""What stood on the command line, by field; of a group another mapping."""


class Result(Protocol):
    """What a command has done."""

    def to_text(self) -> str:
        """For people."""
        ...

    def to_json(self) -> str:
        """For machines."""
        ...


@dataclass(frozen=True, kw_only=True)
class Command:
    """What all commands have.

    Attributes:
        json: Print the result as JSON, and nothing else on stdout.
        debug: Show where an error comes from.
        line: The command as it was called; no option.
    """

    json: bool = False
    debug: bool = False
    line: str = field(default="", metadata={"option": False})

    @classmethod
    def defaults(cls, given: Given) -> dict[str, Any]:
        """Values of the fields whose default depends on what was given."""
        return {}

    def execute(self) -> Result | None:
        """Do it; None in a process that leaves the word to another."""
        raise NotImplementedError


@dataclass(frozen=True)
class Group:
    """How a field that is a dataclass becomes a group of options; `Annotated` says so.

    Attributes:
        without: Its fields that are no options.
        also: Other names of some of its fields.
    """

    without: tuple[str, ...] = ()
    also: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Option:
    """An option, or an argument that stands alone.

    Attributes:
        path: The field, behind its group if it is in one.
        hint: Its type.
        help: What it does.
        default: What it is if it is left out; `MISSING` if it may not be.
        also: Another name.
    """

    path: tuple[str, ...]
    hint: Any
    help: str
    default: Any
    also: str | None = None

    @property
    def positional(self) -> bool:
        """Whether it has no name before it."""
        return typing.get_origin(self.hint) is Annotated  # by tyro's Positional, the only annotation in use

    @property
    def names(self) -> tuple[str, ...]:
        """How it may be written, its own name first."""
        word = self.path[-1].rstrip("_").replace("_", "-")
        if self.positional:
            return (word.upper(),)
        if self.hint is bool:
            return f"--{word}", f"--no-{word}"
        return (f"--{word}", f"--{self.also}") if self.also else (f"--{word}",)

    def for_tyro(self) -> Any:
        """The type, with what tyro is to show of it."""
        own, *others = self.names
        return Annotated[
            self.hint,
            arg(
                name=own.lstrip("-"),
                aliases=None if self.hint is bool else others,  # tyro makes --no-x by itself
                metavar=own if self.positional else None,
                help=self.help,
                help_behavior_hint=_shown(self.default),
            ),
        ]


def options(kind: type[Command], defaults: Mapping[str, Any]) -> list[Option]:
    """All options of a command, those of its groups included.

    Args:
        kind: The command.
        defaults: Values of fields, before those of the class.
    """
    found = []
    hints, helps, groups = typing.get_type_hints(kind, include_extras=True), _attributes(kind), _groups(kind)
    for one in sorted(dataclasses.fields(kind), key=lambda one: hasattr(Command, one.name)):  # those of all come last
        default = defaults.get(one.name, one.default)
        if one.name in groups:
            found += _grouped(one.name, *groups[one.name], default)
        elif one.metadata.get("option", True):
            found.append(Option((one.name,), _without_none(hints[one.name]), helps[one.name], default))
    return found


def _groups(kind: type[Command]) -> dict[str, tuple[type, Group]]:
    """The fields that are dataclasses."""
    found = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        inner, *notes = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
        if dataclasses.is_dataclass(inner):
            found[name] = inner, next((note for note in notes if isinstance(note, Group)), Group())
    return found


def _grouped(name: str, kind: type, how: Group, default: Any) -> list[Option]:
    hints, helps = typing.get_type_hints(kind), _attributes(kind)
    return [
        Option((name, key), hints[key], helps[key], getattr(default, key, MISSING), how.also.get(key))
        for key in (one.name for one in dataclasses.fields(kind))
        if key not in how.without
    ]


def parse(kind: type[C], words: Sequence[str], *, prog: str, summary: str, example: str) -> C:
    """The command that these words make.

    Raises:
        ValueError: An argument that is unknown (the nearest is named) or missing, or no value of its type.
        SystemExit: The help was asked for, and is printed.
    """
    asked = {"-h", "--help"} & {*words}
    given, unknown = _read(kind, [word for word in words if word not in asked], prog)
    if asked:
        # Where words are unknown, tyro's reading of the others is not to be relied on.
        print(f"{_help(kind, kind.defaults({} if unknown else given), prog, summary)}\nexample: {example}")
        raise SystemExit(0)
    if unknown:
        raise ValueError(_unknown(unknown, kind, prog))
    return _built(kind, {**given, "line": shlex.join([*prog.split(), *words])}, kind.defaults(given), prog)


def _read(kind: type[Command], words: Sequence[str], prog: str) -> tuple[Given, list[str]]:
    """What was given, and the words that nothing takes."""
    flags = {name: one.names for one in options(kind, {}) if one.hint is bool for name in one.names}
    for name, equals, value in (word.partition("=") for word in words):
        if equals and name in flags:  # tyro would take the value for an argument of its own
            raise ValueError(f"{name} takes no value, but has {value!r}; give {' or '.join(flags[name])}")
    screen = _Screen()
    try:
        with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
            return tyro.cli(_for_tyro(kind, {}), args=words, prog=prog, add_help=False, return_unknown_args=True)
    except SystemExit:
        raise ValueError(_one_line(screen.getvalue(), kind)) from None


def _help(kind: type[Command], defaults: Mapping[str, Any], prog: str, summary: str) -> str:
    screen = _Screen()
    with contextlib.redirect_stdout(screen), contextlib.suppress(SystemExit):
        tyro.cli(_for_tyro(kind, defaults), args=["--help"], prog=prog, description=summary)
    return screen.getvalue()


class _Screen(io.StringIO):
    """No terminal, so that tyro writes no colours; it draws lines in what stdout can show."""

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute there
        return getattr(sys.__stdout__, "encoding", "ascii")


def _for_tyro(kind: type[Command], defaults: Mapping[str, Any]) -> Any:
    """The options as typed dictionaries, of which tyro returns those keys only that were given."""
    keys: dict[str, Any] = {}
    for path, found in itertools.groupby(options(kind, defaults), key=lambda option: option.path[:-1]):
        own = {option.path[-1]: option.for_tyro() for option in found}
        if path:
            (name,) = path
            inner = TypedDict(name, own, total=False)  # type: ignore[misc]  # its keys are known to no checker
            own = {name: Annotated[OmitArgPrefixes[inner], arg(help=_attributes(kind)[name])]}
        keys |= own
    return TypedDict(kind.__name__, keys, total=False)  # type: ignore[misc]


def _built(kind: type[C], given: Given, defaults: Mapping[str, Any], prog: str) -> C:
    values, groups = {}, _groups(kind)
    for one in dataclasses.fields(kind):
        default = defaults.get(one.name, one.default)
        if one.name in groups:
            values[one.name] = dataclasses.replace(default, **given.get(one.name, {}))
        else:
            values[one.name] = given.get(one.name, default)
    for option in options(kind, values):
        if option.default is MISSING:
            raise ValueError(f"{option.names[0]} is missing ({option.help.split('. ')[0]}); see {prog} --help")
    return kind(**values)


def _unknown(words: Sequence[str], kind: type[Command], prog: str) -> str:
    word = next((word for word in words if word.startswith("-")), None)
    if word is None:
        return f"unexpected argument {words[0]!r}; see {prog} --help"
    known = [name for option in options(kind, {}) for name in option.names if not option.positional]
    near = difflib.get_close_matches(word.split("=")[0].replace("_", "-"), known, 1)
    return f"unknown argument {word}; " + (f"did you mean {near[0]}?" if near else f"see {prog} --help")


_EXPECTED = {
    int: "an integer",
    float: "a number",
    tuple[int, ...]: "integers",
    tuple[float, ...]: "numbers",
}


def _one_line(box: str, kind: type[Command]) -> str:
    """What tyro says of a value, in our words where they are known, else what stands above its first rule."""
    inside = (line.strip("│| ") for line in box.splitlines()[1:])
    text = " ".join(itertools.takewhile(lambda line: line.strip("─-+╰╯"), inside))
    if found := re.fullmatch(r"Error parsing (?:\S*/)?(--[\w-]+): .*?: (.*)", text):
        (hint,) = (option.hint for option in options(kind, {}) if found[1] in option.names)
        return f"{found[1]} is {found[2]}; expected {_EXPECTED.get(hint, hint)}"
    if found := re.match(r"Missing value for argument .*?(--[\w-]+)", text):
        return f"{found[1]} has no value"
    if found := re.fullmatch(r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*)\)\.", text):
        choices = re.findall(r"'(.*?)'", found[3])
        near = difflib.get_close_matches(found[1], choices, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{found[2]} is {found[1]!r}; expected one of {', '.join(choices)}{hint}"
    return text


def _shown(default: Any) -> str:
    if default is MISSING:
        return "(required)"
    if isinstance(default, bool):
        return f"(default: {'yes' if default else 'no'})"
    if default is None or default == "":
        return ""  # the help says what that means
    return f"(default: {' '.join(map(str, default)) or 'none' if isinstance(default, tuple) else default})"


def _attributes(kind: type) -> dict[str, str]:
    """The lines under `Attributes:`, by field, of the classes behind it too."""
    return {
        parameter.arg_name: " ".join((parameter.description or "").split())
        for one in reversed(kind.__mro__)
        for parameter in docstring_parser.parse(one.__dict__.get("__doc__") or "").params
    }


def _without_none(hint: Any) -> Any:
    """`X | None` is X: None is what leaving it out means."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = (one for one in typing.get_args(hint) if one is not types.NoneType)
    return hint
