"""JSON values as what the annotations of a Python function ask for: the way back from `annotation_schema`."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Literal, Union

from gptoss_native.config.strict_json import shown
from gptoss_native.harmony.annotations import field_types
from gptoss_native.harmony.callables import hints_of
from gptoss_native.harmony.messages import MessageError
from gptoss_native.harmony.plain import as_json

_SIMPLE = (str, bool, int, float)


def argument_values(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call, each of the class that its parameter asks for: enums, dataclasses, pydantic models, sets
    and tuples, also within others.

    Numbers, texts and lists stay what they are where something else is asked for. Raises MessageError, naming the
    argument, for what is no member of an enum or lacks a field, and whatever a class raises.
    """
    try:
        hints = hints_of(function, "the function")
    except MessageError:  # of one that was described by hand
        return dict(arguments)
    return {name: _value(value, hints.get(name, Any), f"the argument {name}") for name, value in arguments.items()}


def _value(value: Any, annotation: Any, where: str) -> Any:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _value(value, inner[0], where)
    if isinstance(annotation, typing.NewType):
        return _value(value, annotation.__supertype__, where)
    if origin is Literal:
        return _member(value, inner, where)
    if origin in (Union, types.UnionType):
        return _of_several(value, inner, where)
    kind = annotation if origin is None else origin
    if not isinstance(kind, type):
        return value
    if isinstance(value, list) and issubclass(kind, (list, tuple, set, frozenset)):
        apart = kind is tuple and Ellipsis not in inner and len(inner) == len(value)
        several = inner if apart else inner[:1] * len(value)
        items = [_value(item, each, f"{where}[{i}]") for i, (item, each) in enumerate(zip(value, several))]
        return kind(items if inner else value)
    if origin is not None:
        if isinstance(value, dict) and issubclass(kind, Mapping) and len(inner) == 2:
            return {key: _value(item, inner[1], f"{where}[{shown(key)}]") for key, item in value.items()}
        if isinstance(value, list) and len(inner) == 1:  # Sequence and the like
            return [_value(item, inner[0], f"{where}[{i}]") for i, item in enumerate(value)]
        return value
    return _instance(value, kind, where)


def _instance(value: Any, kind: type[Any], where: str) -> Any:
    if isinstance(value, float) and kind is int and value.is_integer():
        return int(value)
    if isinstance(value, int) and kind is float and not isinstance(value, bool):
        return float(value)
    if kind in _SIMPLE or kind in (object, dict, list):
        return value
    if issubclass(kind, Enum):
        return _member(value, tuple(kind), where)
    if dataclasses.is_dataclass(kind):
        return kind(**_fields(value, kind, where, {each.name: each for each in dataclasses.fields(kind) if each.init}))
    if typing.is_typeddict(kind):
        return _fields(value, kind, where, kind.__annotations__)
    if callable(validate := getattr(kind, "model_validate", None)):
        return validate(value)
    made_of = next((base for base in _SIMPLE if issubclass(kind, base) and isinstance(value, base)), None)
    return value if made_of is None else kind(value)


def _fields(value: Any, kind: type[Any], where: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MessageError(f"{where} is {shown(value)}, expected an object with {', '.join(fields)}")
    needed = getattr(kind, "__required_keys__", None)
    if needed is None:
        needed = [name for name, each in fields.items()
                  if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING]
    missing, unknown = [name for name in needed if name not in value], [name for name in value if name not in fields]
    if missing or unknown:
        raise MessageError(f"{where} " + (f"lacks {', '.join(missing)}" if missing else f"has no {', '.join(unknown)}")
                           + f"; expected an object with {', '.join(fields)}")
    hints = field_types(kind)
    return {name: _value(item, hints[name], f"{where}.{name}") for name, item in value.items()}


def _member(value: Any, members: tuple[Any, ...], where: str) -> Any:
    """Of an enum or a Literal: the one that is written so in JSON."""
    written = [as_json(member, where) for member in members]
    for member, each in zip(members, written):
        if each == value and isinstance(each, bool) == isinstance(value, bool):
            return member
    raise MessageError(f"{where} is {shown(value)}, expected one of {', '.join(map(shown, written))}")


def _of_several(value: Any, kinds: tuple[Any, ...], where: str) -> Any:
    """Of a union: as the first of its members that it can be; as it is where it can be none of several."""
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    if len(kinds) == 1:
        return _value(value, kinds[0], where)
    if type(value) in kinds and type(value) in _SIMPLE:
        return value
    for kind in kinds:
        try:
            made = _value(value, kind, where)
        except Exception:  # a class refused it
            continue
        if kind is Any or made is not value or _is_of(value, kind):
            return made
    return value


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value that stayed what it was is one of those; of a Literal, or it would have been refused."""
    kind = typing.get_origin(kind) or kind
    return kind is Literal or isinstance(kind, type) and kind not in _SIMPLE and isinstance(value, kind)
