"""Command-line options from the signature of a function, with cyclopts.

A parameter before the `*` is an argument, one after it an option; the help is its line under `Args:`. A configuration
becomes a group of options, one for each field. Only types are checked here; configurations check their own values.

This module adds what cyclopts lacks: fields whose defaults come from an instance rather than from the class, defaults
that depend on other options (those of `fpdm train` are the recipe's), and errors in one line of our form.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

import docstring_parser
from cyclopts import App, CycloptsError, Group, Parameter, Token, convert
from cyclopts.exceptions import CoercionError, MissingArgumentError, UnknownOptionError, UnusedCliTokensError

from fpdm.errors import did_you_mean

QUIET: Any = {"print_error": False, "exit_on_error": False}
MANNERS: Any = {"show_default": False, "consume_multiple": True, "negative_iterable": (), "allow_repeating": True}
EXPECTED = {int: "an integer", float: "a number", tuple[int, ...]: "integers", tuple[float, ...]: "numbers"}
COMMON = {"json": "Print the result as JSON, and nothing else, on stdout.", "debug": "Show the traceback of an error."}


class Result(Protocol):
    """Interface of the result of a command."""

    def to_text(self) -> str:
        """Describe the result to people."""
        ...

    def to_json(self) -> str:
        """Encode the result as JSON."""
        ...


class Fields(NamedTuple):
    """Annotation of a configuration: its fields that are not options, and second names of those that are."""

    without: tuple[str, ...] = ()
    also: Mapping[str, str] = {}


def add_options(app: App, words: Sequence[str], line: str) -> None:
    """Give the command that `words` begin with its options, and `line` to its parameter `line` if it has one.

    If the command's module has a function `defaults`, it maps the given options to defaults that depend on them.
    """
    called, rest = app[words[0]], [word for word in words if word not in app.help_flags]
    command: Any = called.default_command
    called.help = _documentation(command).split("\n\nArgs:")[0]
    values, defaults = {"line": line}, getattr(sys.modules[command.__module__], "defaults", None)
    if defaults is not None:
        required = [name for name, one in inspect.signature(command).parameters.items() if one.default is one.empty]
        called.default_command, given = _flat(command, {**dict.fromkeys(required), **defaults({})}), {}
        try:
            given = app.parse_args(rest, **QUIET)[1].arguments
        except CycloptsError:
            if len(rest) == len(words):  # else help is printed in spite of the mistake
                raise
        values |= defaults(given)
    called.default_command = _flat(command, values)


def _flat(command: Callable[..., Any], values: Mapping[str, Any]) -> Callable[..., Any]:
    """Replace each configuration among the parameters by its fields, and add the options of all commands."""
    own, helps = inspect.signature(command, eval_str=True).parameters, _descriptions(command)
    defaults = {name: values.get(name, one.default) for name, one in own.items()}
    options, groups = [], {}
    for name, one in own.items():
        if typing.get_origin(one.annotation) is Annotated:
            kind, fields = typing.get_args(one.annotation)
            hints, inner = typing.get_type_hints(kind), _descriptions(kind)
            group = Group(name.replace("_", " ").capitalize(), help=helps[name], sort_key=len(groups))
            groups[name] = [field.name for field in dataclasses.fields(kind) if field.name not in fields.without]
            for key in groups[name]:
                default = getattr(defaults[name], key, one.empty)
                options.append(_option(key, hints[key], default, inner[key], group, fields.also.get(key, "")))
        elif name != "line":
            group = "Options" if one.kind is one.KEYWORD_ONLY else "Arguments"
            options.append(_option(name, one.annotation, defaults[name], helps[name], group))
    options += [_option(name, bool, False, text, "Options") for name, text in COMMON.items()]

    def run(*args: Any, **given: Any) -> Any:
        given.update(zip(own, args, strict=False))
        for name, keys in groups.items():
            given[name] = dataclasses.replace(defaults[name], **{key: given.pop(key) for key in keys if key in given})
        return command(**{name: given.get(name, default) for name, default in defaults.items()})

    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in options}
    return run


def _option(name: str, hint: Any, default: Any, text: str, group: Group | str, also: str = "") -> inspect.Parameter:
    if default not in (inspect.Parameter.empty, None, ""):  # else the text says what happens
        shown = ("no", "yes")[default] if isinstance(default, bool) else default
        text += f" (default: {' '.join(map(str, default)) or 'none' if isinstance(default, tuple) else shown})"
    note = Parameter(alias=f"--{also}" if also else (), group=group, help=text, converter=_convert, **MANNERS)
    hint = hint | None if default is None else hint  # cyclopts checks defaults where pydantic is there
    kind = inspect.Parameter.POSITIONAL_ONLY if group == "Arguments" else inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=Annotated[hint, note])


def _convert(hint: Any, tokens: Sequence[Token]) -> Any:
    if tokens[0].keyword:  # of an option that is repeated, the last occurrence counts
        tokens = tokens[max(place for place, token in enumerate(tokens) if token.index == 0) :]
    given = [token.value for token in tokens]
    if hint in (Path, Path | None) and "" in given:  # which would be the working folder
        raise CoercionError(msg=f"{tokens[0].keyword or 'argument'} is empty; expected a path")
    try:
        if hint in (int, tuple[int, ...]):  # which cyclopts would round "1.5" to
            [int(value) for value in given]
        return convert(hint, tokens)
    except (ValueError, CoercionError):
        value, choices = given if len(given) > 1 else given[0], _choices(hint)
        expected = EXPECTED.get(hint) or f"one of {', '.join(choices)}{did_you_mean(given[0], choices)}"
        raise CoercionError(msg=f"{tokens[0].keyword} is {value!r}; expected {expected}") from None


def _choices(hint: Any) -> list[str]:
    """List the values of a `Literal`, or of a tuple of them."""
    inner = typing.get_args(hint)
    return _choices(inner[0]) if typing.get_origin(hint) is tuple else list(map(str, inner))


def _documentation(what: Any) -> str:
    """Return a docstring, from the source where Python was told to drop it (-OO)."""
    if sys.flags.optimize < 2:
        return inspect.cleandoc(what.__doc__ or "")
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(what))).body
    return ast.get_docstring(definition) or ""  # type: ignore[arg-type]  # a function or a class


def _descriptions(what: Any) -> dict[str, str]:
    found = docstring_parser.parse(_documentation(what)).params
    return {one.arg_name: " ".join((one.description or "").split()) for one in found}


def explain(error: CycloptsError) -> str:
    """Say in one line what is wrong with the command line."""
    see, argument = f"; see {' '.join(['fpdm', *(error.command_chain or ())])} --help", error.argument
    if isinstance(error, UnknownOptionError):
        word, known = error.token.keyword or error.token.value, error.argument_collection
        near = did_you_mean(word, [name for one in known for name in one.names])
        return f"unknown argument {word}{near or see}"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"unexpected argument {error.unused_tokens[0]!r}{see}"
    if isinstance(error, CoercionError) and error.target_type is bool and error.token is not None:
        return f"{error.token.keyword} takes no value, but has {error.token.value!r}; leave the value out"
    if isinstance(error, MissingArgumentError) and argument is not None:
        text = (argument.parameter.help or "").split(". ")[0].rstrip(".")
        return f"{error.keyword} has no value" if error.keyword else f"{argument.name} is missing ({text}){see}"
    return " ".join(str(error).split())
