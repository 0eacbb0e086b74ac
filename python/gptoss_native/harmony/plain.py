"""Messages, tools and results as whatever objects a program has, made into plain mappings and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, ClassVar, Protocol

from gptoss_native.config.strict_json import shown
from gptoss_native.harmony.json_text import MAX_DEPTH
from gptoss_native.harmony.messages import MessageError


class Model(Protocol):
    """A pydantic model, of OpenAI's libraries for one."""

    def model_dump(self, *, mode: str, by_alias: bool) -> Any: ...


class Dataclass(Protocol):
    """An object of a class with @dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


def plain(value: Any, where: str) -> Any:
    """A dataclass, an object of OpenAI's libraries or a pydantic model as a mapping of its fields; all else as it is.

    Raises MessageError, naming `where`, if the object cannot be dumped.
    """
    if isinstance(value, (Mapping, str, type)):
        return value
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    to_dict, dump = getattr(value, "to_dict", None), getattr(value, "model_dump", None)
    try:
        if callable(to_dict):
            return to_dict()
        return dump(mode="json", by_alias=True) if callable(dump) else value
    except Exception as error:  # whatever a model's own code raises
        raise MessageError(f"{where}, a {type(value).__name__}, cannot be dumped: {error}") from None


def as_json(value: Any, where: str, depth: int = 0) -> Any:
    """A value in words of JSON: enums by their value, sets and tuples as lists, dataclasses and models as objects,
    numbers and arrays of numpy, dates as ISO 8601 has them. Raises MessageError, naming `where`, for all else."""
    if depth > MAX_DEPTH:
        raise MessageError(f"{where} is nested more than {MAX_DEPTH} levels deep; a few are expected")
    if isinstance(value, Enum):
        return as_json(value.value, where, depth + 1)
    if value is None or isinstance(value, (str, int)) or isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, (list, tuple)):
        return [as_json(item, where, depth + 1) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((as_json(item, where, depth + 1) for item in value), key=repr)
    value = plain(value, where)
    if isinstance(value, Mapping):
        return {_key(key, where): as_json(item, where, depth + 1) for key, item in value.items()}
    for name in ("tolist", "isoformat"):
        if callable(convert := getattr(value, name, None)) and not isinstance(value, type):
            return as_json(convert(), where, depth + 1)
    raise MessageError(f"{where} is {shown(value)}, expected a JSON value")


def _key(key: Any, where: str) -> str:
    """As json.dumps has them: a number or True as it is written."""
    key = key.value if isinstance(key, Enum) else key
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, (int, float)):
        return json.dumps(key)
    raise MessageError(f"{where} has the key {shown(key)}, expected text as the key of a JSON object")
