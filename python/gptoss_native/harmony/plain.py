"""Messages and tools as whatever object a client library has, made into plain mappings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar, Protocol

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
