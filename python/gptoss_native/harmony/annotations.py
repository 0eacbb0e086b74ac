"""Python annotations to JSON schema, in those words that the model's prompt can express."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterable, Mapping, Sequence, Set
from enum import Enum
from typing import Any, Literal, Union

from gptoss_native.config.strict_json import shown
from gptoss_native.harmony.docstrings import read_docstring
from gptoss_native.harmony.messages import MessageError
from gptoss_native.harmony.plain import as_json
from gptoss_native.harmony.references import without_references

Schema = dict[str, Any]

_SIMPLE: dict[Any, Schema] = {
    str: {"type": "string"}, int: {"type": "integer"}, float: {"type": "number"}, bool: {"type": "boolean"},
    None: {"type": "null"}, type(None): {"type": "null"}, Any: {}, object: {}, inspect.Parameter.empty: {},
    list: {"type": "array"}, tuple: {"type": "array"}, set: {"type": "array"}, frozenset: {"type": "array"},
    dict: {"type": "object"}, Mapping: {"type": "object"}, Sequence: {"type": "array"}, Iterable: {"type": "array"},
}
_EXPECTED = ("expected str, int, float, bool, list, dict, Literal, Enum, Optional, a dataclass, a TypedDict or a "
             "pydantic model")
_ARRAYS = (list, set, frozenset, Sequence, Iterable, Set)


def annotation_schema(annotation: Any, where: str, outer: tuple[Any, ...] = ()) -> Schema:
    """JSON schema of the values that `annotation` admits.

    str, int, float, bool, None, Any, Literal, Enum, Optional and unions, lists, sets, tuples, dicts with keys of text,
    dataclasses, TypedDict, pydantic models, and Annotated with a text, which becomes the description. A default that
    can only be told apart from others by its class is not expressed. Raises MessageError, naming `where`, for others.

    outer: the classes around this one, which must not come again: the schema would have no end.
    """
    if isinstance(annotation, typing.Hashable) and annotation in _SIMPLE:
        return dict(_SIMPLE[annotation])
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        schema = annotation_schema(arguments[0], where, outer)
        for text in arguments[1:]:
            text = text if isinstance(text, str) else getattr(text, "description", None)
            if isinstance(text, str):
                schema["description"] = text
        return schema
    if origin is Literal:
        return _enum([as_json(value, where) for value in arguments], where)
    if origin in (Union, types.UnionType):
        return _union(arguments, where, outer)
    if origin in _ARRAYS or origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return {"type": "array", "items": annotation_schema(arguments[0], where, outer)}
    if origin is tuple:
        kinds = [annotation_schema(argument, where, outer) for argument in arguments]
        same = kinds and all(kind == kinds[0] for kind in kinds)
        return {"type": "array", "items": kinds[0] if same else {}, "minItems": len(kinds), "maxItems": len(kinds)}
    if origin in (dict, Mapping) and arguments[0] in (str, Any):
        return {"type": "object", "additionalProperties": annotation_schema(arguments[1], where, outer)}
    if isinstance(annotation, typing.NewType):
        return annotation_schema(annotation.__supertype__, where, outer)
    if isinstance(annotation, type):
        return _class_schema(annotation, where, outer)
    raise MessageError(f"{where} has the annotation {shown(annotation)}, which JSON does not express; {_EXPECTED}")


def _enum(values: list[Any], where: str) -> Schema:
    """Values of one kind keep it: "string" with its choices is what the prompt can express."""
    kinds = {bool: "boolean", str: "string", int: "integer", float: "number"}
    found = {kinds.get(type(value)) for value in values if value is not None}
    if len(found) != 1 or None in found:
        return {"enum": values}
    schema: Schema = {"type": found.pop(), "enum": [value for value in values if value is not None]}
    return {**schema, "nullable": True} if None in values else schema


def _union(members: tuple[Any, ...], where: str, outer: tuple[Any, ...]) -> Schema:
    """`X | None` is nullable; of simple types a list of them; of others a choice, which the prompt shows in lines."""
    present = [member for member in members if member is not type(None)]
    nullable = len(present) < len(members)
    schemas = [annotation_schema(member, where, outer) for member in present]
    if len(schemas) == 1:
        schema = schemas[0]
    elif all(set(schema) == {"type"} and isinstance(schema["type"], str) for schema in schemas):
        names = list(dict.fromkeys(schema["type"] for schema in schemas))
        return {"type": [*names, "null"] if nullable else names}
    else:
        schema = {"oneOf": schemas}
        if nullable:
            return {"oneOf": [*schemas[:-1], {**schemas[-1], "nullable": True}]}
    return {**schema, "nullable": True} if nullable else schema


def _class_schema(kind: type[Any], where: str, outer: tuple[Any, ...]) -> Schema:
    if kind in outer:
        raise MessageError(f"{where} has the annotation {kind.__name__}, which contains itself; a tool's parameters "
                           "must have an end")
    outer = (*outer, kind)
    if issubclass(kind, Enum):
        return _enum([as_json(member, where) for member in kind], where)
    if dataclasses.is_dataclass(kind):
        return _fields_schema(kind, where, outer, {
            each.name: each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
            for each in dataclasses.fields(kind) if each.init})
    if typing.is_typeddict(kind):
        required: frozenset[str] = getattr(kind, "__required_keys__", frozenset())
        return _fields_schema(kind, where, outer, {name: name in required for name in kind.__annotations__})
    schema = getattr(kind, "model_json_schema", None)
    if callable(schema):
        return without_references(schema(), where)
    for base in (bool, int, float, str, dict, list):
        if issubclass(kind, base):
            return dict(_SIMPLE[base])
    raise MessageError(f"{where} has the annotation {kind.__name__}, which JSON does not express; {_EXPECTED}")


def field_types(kind: type[Any]) -> dict[str, Any]:
    """The annotations of a class with fields, resolved. MessageError where they cannot be."""
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except Exception as error:  # whatever evaluating a string may raise
        raise MessageError(f"an annotation of {kind.__name__} cannot be resolved: {error}") from None
    for name, hint in hints.items():
        while typing.get_origin(hint) is not None and str(typing.get_origin(hint)).endswith(("Required", "ReadOnly")):
            hint = typing.get_args(hint)[0]
        hints[name] = hint
    return hints


def _fields_schema(kind: type[Any], where: str, outer: tuple[Any, ...], fields: Mapping[str, bool]) -> Schema:
    """Of a class with annotated fields. fields: name -> whether it has to be given."""
    hints = field_types(kind)
    _, described = read_docstring(kind.__doc__)
    properties: Schema = {}
    for name in fields:
        properties[name] = annotation_schema(hints[name], f"the field {name} of {kind.__name__}, in {where},", outer)
        if described.get(name):
            properties[name]["description"] = described[name]
    required = [name for name, needed in fields.items() if needed]
    schema: Schema = {"type": "object", "properties": properties}
    return {**schema, "required": required} if required else schema
