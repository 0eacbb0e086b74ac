"""Harmony: what a model gives as JSON, as the classes that a Python function asks for; and results as JSON."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict

import numpy as np
import pytest

from gptoss_native.harmony import MessageError
from gptoss_native.harmony.annotations import annotation_schema
from gptoss_native.harmony.plain import as_json
from gptoss_native.harmony.values import argument_values


class Unit(enum.Enum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Place(TypedDict, total=False):
    city: str
    unit: Unit


@dataclass
class Point:
    x: int
    y: float = 0.0


@dataclass
class Path:
    points: list[Point]
    unit: Unit = Unit.CELSIUS
    tags: set[str] = field(default_factory=set)


UserId = NewType("UserId", int)
Choice = Literal["a", 1, True]


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (str, "x", "x"), (int, 3, 3), (int, 3.0, 3), (int, 3.5, 3.5), (float, 3, 3.0), (bool, True, True), (float, True, True),
        (int, "3", "3"), (str, 3, 3), (Any, {"a": [1]}, {"a": [1]}), (UserId, 3.0, 3),
        (list, [1], [1]), (list[int], [1.0, 2], [1, 2]), (set[str], ["a", "b"], {"a", "b"}), (frozenset[int], [1], frozenset({1})),
        (tuple, [1, "a"], (1, "a")), (tuple[int, ...], [1.0, 2.0], (1, 2)), (tuple[int, Unit], [1.0, "kelvin"], (1, Unit.KELVIN)),
        (Sequence[Unit], ["kelvin"], [Unit.KELVIN]), (list[int], "no list", "no list"),
        (dict[str, Unit], {"a": "kelvin"}, {"a": Unit.KELVIN}), (Mapping[str, int], {"a": 1.0}, {"a": 1}),
        (Unit, "kelvin", Unit.KELVIN), (Level, 2, Level.HIGH), (Choice, 1, 1), (Choice, True, True), (Choice, "a", "a"),
        (Optional[Unit], None, None), (Optional[Unit], "kelvin", Unit.KELVIN),  # noqa: UP045
        (Annotated[Unit, "of temperatures"], "kelvin", Unit.KELVIN),
        (Place, {"unit": "kelvin"}, {"unit": Unit.KELVIN}),
        (Point, {"x": 1.0}, Point(1)), (list[Point], [{"x": 1, "y": 2}], [Point(1, 2.0)]),
        (Path, {"points": [{"x": 1}], "unit": "kelvin", "tags": ["a"]}, Path([Point(1)], Unit.KELVIN, {"a"})),
        (int | str, "3", "3"), (float | int, 3, 3), (int | list[int], [1.0], [1]), (Point | Unit | int | None, "kelvin", Unit.KELVIN),
        (Point | Place, {"unit": "kelvin"}, {"unit": Unit.KELVIN}), (Point | Unit, {"x": 1}, Point(1)), (Point | Unit, 5, 5),
        (Literal["a"] | int, "a", "a"), (Place | dict[str, int], {"n": 1}, {"n": 1}),
    ],
)  # fmt: skip
def test_arguments_are_of_the_classes_that_are_asked_for(annotation: Any, value: Any, expected: Any) -> None:
    def tool(x: Any) -> None: ...

    tool.__annotations__["x"] = annotation
    annotation_schema(annotation, "x")  # what the model is told of
    found = argument_values(tool, {"x": value})["x"]
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (Unit, "rankine", "the argument x is 'rankine', expected one of 'celsius', 'kelvin'"),
        (Level, True, "the argument x is True, expected one of 1, 2"),
        (Choice, 2, "expected one of 'a', 1, True"),
        (list[Unit], ["celsius", 3], r"the argument x\[1\] is 3, expected one of"),
        (Point, 3, "the argument x is 3, expected an object with x, y"),
        (Point, {"y": 1}, "the argument x lacks x; expected an object with x, y"),
        (Point, {"x": 1, "z": 1}, "the argument x has no z; expected an object with x, y"),
        (Path, {"points": [{}]}, r"the argument x.points\[0\] lacks x"),
        (dict[str, Unit], {"a": 1}, r"the argument x\['a'\] is 1"),
    ],
)
def test_what_a_class_cannot_be_made_of_is_said(annotation: Any, value: Any, said: str) -> None:
    def tool(x: Any) -> None: ...

    tool.__annotations__["x"] = annotation
    with pytest.raises(MessageError, match=said) as error:
        argument_values(tool, {"x": value})
    assert "\n" not in str(error.value)


def test_pydantic_models_are_made_and_checked() -> None:
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Query", text=(str, ...), limit=(int, pydantic.Field(3, ge=1)))

    def search(query: Any, more: Any = ()) -> None: ...

    search.__annotations__.update(query=model, more=list[model])
    found = argument_values(search, {"query": {"text": "x"}, "more": [{"text": "y", "limit": 5}]})
    assert found == {"query": model(text="x"), "more": [model(text="y", limit=5)]}
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        argument_values(search, {"query": {"text": "x", "limit": 0}})


def test_functions_that_were_described_by_hand_get_what_the_model_gave() -> None:
    def unresolved(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    for function in (unresolved, print, lambda **_: None):
        assert argument_values(function, {"x": [1.0]}) == {"x": [1.0]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Unit.KELVIN, "kelvin"), ((1, {2}), [1, [2]]), ({"b", "a"}, ["a", "b"]), ([Point(1)], [{"x": 1, "y": 0.0}]),
        ({"p": {"q": Path([Point(1)])}}, {"p": {"q": {"points": [{"x": 1, "y": 0.0}], "unit": "celsius", "tags": []}}}),
        ({1: "a", 2.5: "b", None: "c", False: "d", Unit.KELVIN: "e"}, {"1": "a", "2.5": "b", "null": "c", "false": "d", "kelvin": "e"}),
        (np.int64(3), 3), (np.float32(0.5), 0.5), (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]), (np.bool_(True), True),
        (datetime.date(2026, 11, 26), "2026-11-26"), ([datetime.datetime(2026, 11, 26, 12)], ["2026-11-26T12:00:00"]),
    ],
)  # fmt: skip
def test_results_become_json(value: Any, expected: Any) -> None:
    assert as_json(value, "the result") == expected


def test_results_that_are_no_json_are_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for value in (object(), b"x", float("nan"), {"a": float("inf")}, {(1, 2): 3}, Unit, datetime.date, endless, [lambda: 1]):
        with pytest.raises(MessageError, match="the result"):
            as_json(value, "the result")
