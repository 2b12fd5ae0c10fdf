"""Frozen configurations: constraints beside the fields, JSON in and out, and mistakes told in one line.

Pydantic checks the values. msgspec imports 0.07 s faster, but checks a dataclass only when it decodes one, not when it
is constructed; it accepts unknown and repeated keys and infinity; and its errors are texts without the value.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import re
import types
import typing
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AllowInfNan, ConfigDict, TypeAdapter, ValidationError, WrapValidator
from pydantic.dataclasses import dataclass
from typing_extensions import dataclass_transform

from fpdm.errors import did_you_mean

T = TypeVar("T")

# Pydantic would turn an integer into a float, and the file would be written otherwise than it was read.
Number = Annotated[float, AllowInfNan(False), WrapValidator(lambda value, check: (check(value), value)[1])]
PositiveNumber = Annotated[Number, Gt(0), Lt(1e30)]  # PyTorch's float32 ends at 3e38
NonNegativeNumber = Annotated[Number, Ge(0), Lt(1e30)]
Share = Annotated[Number, Ge(0), Lt(1)]
# No library of ours takes longer integers, and PyTorch's own errors would be about something else.
PositiveInt = Annotated[int, Ge(1), Lt(2**63)]
NonNegativeInt = Annotated[int, Ge(0), Lt(2**63)]
Pixels = Annotated[int, Ge(1), Le(2**16)]  # along a side of an image
BatchSize = Annotated[int, Ge(1), Le(10**7)]
BlockPasses = Annotated[int, Ge(1), Le(10**7)]
Iterations = Annotated[int, Ge(0), Le(1000)]  # of a fixed point
Workers = Annotated[int, Ge(1), Le(1024)]
Seed = Annotated[int, Ge(0), Lt(2**32)]  # of training: NumPy's and PyTorch's own
NoiseSeed = Annotated[int, Ge(0), Lt(2**63)]  # of samples

WRITER = "fpdm"
"""Key of a JSON file with the version that wrote it; see `files.write_json`."""
_DEPTH = 32  # of nested objects and arrays; ours have fewer than ten


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def configuration(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass whose fields are checked against their annotations.

    A constraint stands in the annotation, as `Annotated[int, Ge(1)]` does. A text in it, as in
    `Annotated[str, "the path of a folder"]`, is what the message says was expected. Types are strict: a bool is no int.

    Raises:
        ValueError: A value is of another type or out of range, when an instance is made.
    """
    made = dataclass(frozen=True, config=ConfigDict(strict=True, allow_inf_nan=False, extra="forbid"))(cls)
    init = made.__init__

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **values: Any) -> None:
        try:
            init(self, *args, **values)
        except ValidationError as error:
            raise ValueError(_message(error, made, made.__name__)) from None

    made.__init__ = checked
    return made  # type: ignore[return-value]  # the same class


def parse_json(text: str, name: str) -> Any:
    """Parse JSON, in which no key may be given twice. The version that `files.write_json` added is left out.

    Args:
        text: The JSON.
        name: What messages call it, such as "the recipe" or a path.

    Raises:
        ValueError: The text is not JSON, is nested deeper than anything of ours, or gives a key twice.
    """
    try:
        values = json.loads(text, object_pairs_hook=_without_duplicates)
        level, depth = [values], 0
        while level:  # what is read must also pass through functions that call themselves once for each level
            if depth > _DEPTH:
                raise RecursionError
            inner = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, (dict, list)))
            level, depth = list(itertools.chain.from_iterable(inner)), depth + 1
    except _RepeatedKeyError as error:
        raise ValueError(f"{name} gives the key {error} twice; give it once") from None
    except RecursionError:
        raise ValueError(f"{name} is not JSON of ours: it is nested more than {_DEPTH} levels deep") from None
    except ValueError as error:  # a JSONDecodeError, or a number of thousands of digits
        raise ValueError(f"{name} is not JSON: {error}") from None
    if isinstance(values, dict) and isinstance(values.get(WRITER), str):
        del values[WRITER]
    return values


def check(name: str, value: Any, hint: Any) -> None:
    """Check a value against an annotation, as a field of a configuration is.

    Args:
        name: What messages call it.
        value: The value.
        hint: The annotation.

    Raises:
        ValueError: It is of another type or out of range.
    """
    try:
        TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False)).validate_python(value)
    except ValidationError as error:
        raise ValueError(_message(error, hint, name)) from None


def from_values(kind: type[T], values: Any, name: str) -> T:
    """Make a configuration of what JSON holds. Keys that are left out take their defaults.

    Args:
        kind: Its class.
        values: Objects as dictionaries, arrays as lists.
        name: What messages call the whole.

    Raises:
        ValueError: A key is unknown or missing, or a value is wrong.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(values))
    except ValidationError as error:
        raise ValueError(_message(error, kind, name)) from None


def to_json(value: Any) -> str:
    """Write a dataclass, a configuration or a result, as JSON with every field; paths become texts."""
    return json.dumps(dataclasses.asdict(value), indent=1, default=str)


class Record:
    """Base of dataclasses that can be written as JSON."""

    def to_json(self) -> str:
        """Write the record as JSON with every field; paths become texts."""
        return to_json(self)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings: `{"train": {"steps": 1}}` becomes `{"train.steps": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def differences(
    old: Any, new: Any, ignored: Collection[str] = (), places: Mapping[str, str] = types.MappingProxyType({})
) -> list[str]:
    """List what two dataclasses, or mappings, differ in, as "train.steps: 1 -> 2".

    Identity is content: where the hashes of what is in two places are known, these are compared and not the places.

    Args:
        old: The one.
        new: The other.
        ignored: Fields that may differ.
        places: Fields that are paths or names of something, each with the field that has the SHA-256 of its content;
            that field is empty where the content is not known.
    """
    before, after = _flat(old), _flat(new)
    known = {place for place, content in places.items() if before.get(content) and after.get(content)}
    unknown = {content for place, content in places.items() if place not in known}
    free = {*ignored, *known, *unknown}
    keys = [key for key in {**before, **after} if key not in free and before.get(key) != after.get(key)]
    return [_change(key, before, after) for key in keys]


def moves(old: Any, new: Any, places: Mapping[str, str]) -> list[str]:
    """List the places that differ although their content is the same; the arguments are those of `differences`."""
    before, after = _flat(old), _flat(new)
    return [
        _change(place, before, after)
        for place, content in places.items()
        if before.get(place) != after.get(place) and before.get(content) == after.get(content) not in (None, "")
    ]


def warn_of_moves(found: Sequence[str]) -> None:
    """Warn of each place that `moves` has found, in a line of its own."""
    for one in found:
        warnings.warn(f"the same content in another place: {one}", RuntimeWarning, stacklevel=3)


def _flat(value: Any) -> dict[str, Any]:
    return flatten(value if isinstance(value, Mapping) else dataclasses.asdict(value))


def _change(key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    old, new = (
        value[:12] if isinstance(value, str) and _SHA256.fullmatch(value) else value
        for value in (before.get(key), after.get(key))
    )
    return f"{key}: {old} -> {new}"


_SHA256 = re.compile("[0-9a-f]{64}")


class _RepeatedKeyError(Exception):
    """A key of an object is given twice."""


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise _RepeatedKeyError(repr(next(key for key, count in counts.items() if count > 1)))
    return values


def _message(error: ValidationError, kind: Any, name: str) -> str:
    """Tell the first of Pydantic's errors in one line."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":  # from a `__post_init__`
        return str(first["ctx"]["error"])  # type: ignore[typeddict-item]
    hint, owner, parent = kind, kind, name
    for part in first["loc"]:
        owner, parent = hint, name
        if dataclasses.is_dataclass(bare(owner)):
            # An argument that was given by its position has a number.
            name = dataclasses.fields(bare(owner))[part].name if isinstance(part, int) else part
            hint = typing.get_type_hints(bare(owner), include_extras=True).get(name)
        else:
            # Items of a tuple have numbers, values of a mapping have names.
            hint = typing.get_args(bare(owner))[-1 if isinstance(part, str) else 0]
    if first["type"] == "unexpected_keyword_argument":
        known = [field.name for field in dataclasses.fields(bare(owner))]
        return f"{parent} has an unknown key {name!r}{did_you_mean(repr(name), map(repr, known))}"
    if first["type"] == "missing" and isinstance(first["loc"][-1], int):
        return f"{name} has an entry that is too short"
    if first["type"] in ("missing", "missing_argument"):
        return f"{parent} lacks {name}; expected {_expected(hint)}"
    value = first["input"]
    if first["type"] == "json_invalid":  # half a character is all that JSON of ours can have wrong
        return f"{name} has a text that is not UTF-8; expected whole characters"
    if first["type"] == "string_unicode":
        return f"{name} is {value!r}; expected text in UTF-8"
    if dataclasses.is_dataclass(bare(hint)):
        return f"{name} is {type(value).__name__}; expected an object"
    if isinstance(value, (tuple, list)) and not value:
        return f"{name} is empty; expected at least one"
    finite = not isinstance(value, float) or math.isfinite(value)
    hints = typing.get_args(bare(hint)) if typing.get_origin(bare(hint)) is Literal else ()
    near = did_you_mean(value, hints) if isinstance(value, str) else ""
    large = first["type"] == "less_than"
    return f"{name} is {value!r}; expected {_expected(hint, large=large) if finite else 'a finite number'}{near}"


def _split(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Split an annotation into its type, without None, and its constraints."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return _split(next(one for one in typing.get_args(hint) if one is not types.NoneType))
    return (typing.get_args(hint)[0], hint.__metadata__) if typing.get_origin(hint) is Annotated else (hint, ())


def bare(hint: Any) -> Any:
    """Return the type of an annotation, without None and without its constraints."""
    return _split(hint)[0]


def _expected(hint: Any, *, large: bool = False) -> str:
    """Say in words which values an annotation allows; where PyTorch's numbers end is said of `large` ones only."""
    kind, metadata = _split(hint)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    for one in metadata:
        if isinstance(one, str):
            return one
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        return f"{_expected(arguments[0])} each"
    words = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
    bounds = {Ge: ("of at least", "ge"), Gt: ("above", "gt"), Le: ("up to", "le"), Lt: ("below", "lt")}
    found = {type(one): getattr(one, bounds[type(one)][1]) for one in metadata if type(one) in bounds}
    if found.get(Lt) in (2**63, 1e30) and not large:
        del found[Lt]
    said = [f"{bounds[one][0]} {'2^63' if bound == 2**63 else bound}" for one, bound in found.items()]
    return " ".join([words.get(kind, "another type"), " and ".join(said)]).rstrip()
