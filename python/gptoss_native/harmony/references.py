"""Schemas as pydantic writes them, in words that the model's prompt can express: no `$ref`, no `anyOf` with null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gptoss_native.harmony.messages import MessageError


def without_references(schema: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`schema` with each `$ref` into its `$defs` replaced by what it names, `anyOf` by `nullable` or `oneOf`, and
    `title` left out, which pydantic makes from the name. Raises MessageError if a definition contains itself."""
    definitions = {f"#/$defs/{name}": definition for name, definition in schema.get("$defs", {}).items()}
    result = _resolved(schema, definitions, (), where)
    assert isinstance(result, dict)
    result.pop("$defs", None)
    return result


def _resolved(value: Any, definitions: Mapping[str, Any], outer: tuple[str, ...], where: str) -> Any:
    if isinstance(value, list):
        return [_resolved(item, definitions, outer, where) for item in value]
    if not isinstance(value, Mapping):
        return value
    reference = value.get("$ref")
    if isinstance(reference, str) and reference in definitions:
        if reference in outer:
            raise MessageError(f"{where} has a schema in which {reference} contains itself; a tool's parameters must "
                               "have an end")
        named = _resolved(definitions[reference], definitions, (*outer, reference), where)
        beside = {key: item for key, item in value.items() if key != "$ref"}
        return {**named, **_resolved(beside, definitions, outer, where)}
    result: dict[str, Any] = {}
    for key, item in value.items():
        if key == "properties" and isinstance(item, Mapping):  # names, not words of the schema
            result[key] = {name: _resolved(each, definitions, outer, where) for name, each in item.items()}
        elif key in ("default", "enum", "const", "examples"):
            result[key] = item
        elif key not in ("$defs", "title"):
            result[key] = _resolved(item, definitions, outer, where)
    if isinstance(result.get("const"), str) and "enum" not in result:
        result.update(type="string", enum=[result["const"]])
    return _without_any_of(result)


def _without_any_of(schema: dict[str, Any]) -> dict[str, Any]:
    variants = schema.get("anyOf")
    if not isinstance(variants, list) or not all(isinstance(variant, dict) for variant in variants):
        return schema
    rest = {key: item for key, item in schema.items() if key != "anyOf"}
    if "default" in rest and rest["default"] is None:
        del rest["default"]
    present = [variant for variant in variants if variant.get("type") != "null"]
    nullable = len(present) < len(variants)
    if len(present) == 1:
        merged = {**present[0], **rest}
        return {**merged, "nullable": True} if nullable else merged
    if present and nullable:
        present[-1] = {**present[-1], "nullable": True}
    return {"oneOf": present, **rest}
