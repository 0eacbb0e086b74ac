"""Messages and tools as whatever object a client library has, made into plain mappings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from gptoss_native.harmony.messages import MessageError


def plain(value: Any, where: str) -> Any:
    """A pydantic model or a dataclass as a mapping of its fields; all else as it is.

    Raises MessageError, naming `where`, if the model cannot be dumped.
    """
    if isinstance(value, (Mapping, str, type)):
        return value
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        try:
            try:  # fields of a class that others derive from, as in openai-harmony, whole
                return dump(mode="json", by_alias=True, serialize_as_any=True)
            except TypeError:  # pydantic before 2.7
                return dump(mode="json", by_alias=True)
        except Exception as error:
            raise MessageError(f"{where}, a {type(value).__name__}, cannot be dumped: {error}") from None
    return value
