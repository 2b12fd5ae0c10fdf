"""Configurations: constraints, JSON, and mistakes in one line."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, MinLen

from fpdm.configuration import (
    NonNegativeNumber,
    PositiveInt,
    PositiveNumber,
    Share,
    configuration,
    differences,
    flatten,
    from_values,
    moves,
    parse_json,
    to_json,
    warn_of_moves,
)


@configuration
class Inner:
    path: Annotated[str, "the path of a folder"] = "here"
    count: PositiveInt = 3
    size: PositiveNumber = 1.0
    share: Share = 0.5
    least: Annotated[int, Ge(2)] = 2
    flag: bool = False
    kind: Literal["uniform", "weighted", "none"] = "uniform"
    weights: Annotated[tuple[NonNegativeNumber, ...], MinLen(1)] = (1.0,)


@configuration
class Outer:
    name: str
    inner: Inner = dataclasses.field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.name == self.inner.path:
            raise ValueError("name is that of the folder; expected another")


WRONG: list[tuple[str, Any, str]] = [
    ("path", 5, "path is 5; expected the path of a folder"),
    ("count", 0, "count is 0; expected an integer of at least 1"),
    ("count", 1.0, "count is 1.0; expected an integer of at least 1"),
    ("count", True, "count is True; expected an integer of at least 1"),
    ("count", "1", "count is '1'; expected an integer of at least 1"),
    ("size", 0, "size is 0; expected a number above 0"),
    ("size", True, "size is True; expected a number above 0"),
    ("size", "1", "size is '1'; expected a number above 0"),
    ("size", 1e300, "size is 1e+300; expected a number above 0 and below 1e+30"),
    ("weights", (1.0, 1e30), "weights is 1e+30; expected a number of at least 0 and below 1e+30"),
    ("size", math.nan, "size is nan; expected a finite number"),
    ("size", math.inf, "size is inf; expected a finite number"),
    ("share", 1.0, "share is 1.0; expected a number of at least 0 and below 1"),
    ("least", 1, "least is 1; expected an integer of at least 2"),
    ("flag", 1, "flag is 1; expected true or false"),
    ("kind", "wieghted", "kind is 'wieghted'; expected one of uniform, weighted, none; did you mean weighted?"),
    ("kind", 1, "kind is 1; expected one of uniform, weighted, none"),
    ("weights", (), "weights is empty; expected at least one"),
    ("weights", (1.0, -2.0), "weights is -2.0; expected a number of at least 0"),
]


@pytest.mark.parametrize(("field", "value", "message"), WRONG)
def test_a_wrong_value_is_told_in_one_line(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as made:
        Inner(**{field: value})
    assert str(made.value) == message
    before = [getattr(Inner(), one.name) for one in dataclasses.fields(Inner)]
    place = [one.name for one in dataclasses.fields(Inner)].index(field)
    with pytest.raises(ValueError, match=r".") as placed:
        Inner(*before[:place], value)
    assert str(placed.value) == message
    with pytest.raises(ValueError, match=r".") as replaced:
        dataclasses.replace(Inner(), **{field: value})
    assert str(replaced.value) == message
    written = json.loads(json.dumps({"name": "a", "inner": {field: value}}))
    with pytest.raises(ValueError, match=r".") as read:
        from_values(Outer, written, "whole")
    assert str(read.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the whole is not JSON"),
        ("[]", "whole is list; expected an object"),
        ("{}", "whole lacks name; expected a text"),
        ('{"name": "a", "name": "b"}', "the whole gives the key 'name' twice; give it once"),
        ('{"name": "a", "inner": {"count": 1, "count": 2}}', "the whole gives the key 'count' twice; give it once"),
        ('{"name": "a", "inner": 5}', "inner is int; expected an object"),
        ('{"name": "a", "inner": {"cuont": 5}}', "inner has an unknown key 'cuont'; did you mean 'count'?"),
        ('{"name": "a", "outer": 5}', "whole has an unknown key 'outer'"),
        ('{"name": "here"}', "name is that of the folder; expected another"),
        ('{"name": "a", "inner": {"size": NaN}}', "size is nan; expected a finite number"),
    ],
)
def test_wrong_json_is_told_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        from_values(Outer, parse_json(text, "the whole"), "whole")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_it_is_a_frozen_dataclass() -> None:
    one = Outer("a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.name = "b"  # type: ignore[misc]
    assert [field.name for field in dataclasses.fields(Outer)] == ["name", "inner"]
    assert dataclasses.asdict(one)["inner"]["weights"] == (1.0,)
    assert dataclasses.replace(one, name="b") == Outer("b") != one
    assert len({one, Outer("a")}) == 1


def test_json_round_trip_keeps_integers_where_numbers_are_allowed() -> None:
    one = Outer("a", Inner(size=2**70 + 1, weights=(1, 0.5)))
    text = to_json(one)
    assert f'"size": {2**70 + 1}' in text
    again = from_values(Outer, parse_json(text, "the whole"), "whole")
    assert again == one
    assert to_json(again) == text


def test_left_out_keys_take_their_defaults() -> None:
    assert from_values(Outer, {"name": "a"}, "whole") == Outer("a")


def test_results_with_paths_are_written() -> None:
    @dataclasses.dataclass(frozen=True)
    class Result:
        out: Path

    assert json.loads(to_json(Result(Path("a/b")))) == {"out": "a/b"}


def test_differences_are_named_by_their_path() -> None:
    old, new = Outer("a"), Outer("b", Inner(count=4, flag=True))
    assert differences(old, new, {"name"}) == ["inner.count: 3 -> 4", "inner.flag: False -> True"]
    assert differences(old, old) == []
    assert differences({"a": {"b": 1}}, {"a": {"c": 2}}) == ["a.b: 1 -> None", "a.c: None -> 2"]
    assert flatten({"a": {"b": {"c": 1}}, "d": 2}) == {"a.b.c": 1, "d": 2}


def test_content_is_compared_instead_of_its_place_where_it_is_known() -> None:
    places, known = {"data.at": "data.hash"}, "a" * 64
    one = {"data": {"at": "/a", "hash": known}, "count": 1}
    moved = {"data": {"at": "/b", "hash": known}, "count": 1}
    other = {"data": {"at": "/b", "hash": "b" * 64}, "count": 1}
    unknown = {"data": {"at": "/b", "hash": ""}, "count": 1}
    assert (differences(one, moved, (), places), moves(one, moved, places)) == ([], ["data.at: /a -> /b"])
    assert differences(one, other, (), places) == [f"data.hash: {'a' * 12} -> {'b' * 12}"]
    assert differences(one, unknown, (), places) == ["data.at: /a -> /b"]
    assert differences(unknown, {**unknown, "count": 2}, (), places) == ["count: 1 -> 2"]
    assert not moves(one, other, places) + moves(one, unknown, places) + moves(unknown, unknown, places)
    assert not moves(one, one, places)
    with pytest.warns(RuntimeWarning, match="^the same content in another place: a$"):
        warn_of_moves(["a"])
    warn_of_moves([])


@dataclasses.dataclass(frozen=True)
class _Row:
    kind: Literal["samples", "real"]


@dataclasses.dataclass(frozen=True)
class _Sheet:
    rows: tuple[_Row, ...]
    columns: int
    measures: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Nested:
    sheet: _Sheet | None = None


@pytest.mark.parametrize(
    ("sheet", "says"),
    [
        (
            {"columns": 1, "rows": [{"kind": "real"}] * 5 + [{"kind": "zzz"}]},
            "kind is 'zzz'; expected one of samples, real",
        ),
        ({"columns": "x", "rows": []}, "columns is 'x'; expected an integer"),
        ({"columns": 1, "rows": [], "measures": {"a": "b"}}, "measures is 'b'; expected a number"),
    ],
)
def test_mistakes_within_what_may_be_none_are_named(sheet: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        from_values(_Nested, {"sheet": sheet}, "comparison")
