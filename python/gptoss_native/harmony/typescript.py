"""JSON schema to the TypeScript in which the model is told of a function's parameters.

The rules are those of the openai-harmony library, with which the model's prompts are made: `anyOf`, `$ref`, `const`,
limits and formats are not expressed, and some lines are laid out oddly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gptoss_native.harmony.json_text import MAX_DEPTH, json_text
from gptoss_native.harmony.messages import MessageError

Schema = Mapping[str, Any]


def type_text(schema: Any, indent: str = "", *, compat: bool = False, depth: int = 0) -> str:
    """The TypeScript type of values that `schema` describes; "any" for what the rules do not express.

    indent: of the line that the type stands on. compat: a nullable type stays as it is if the letters "null" occur
    anywhere in it, as in openai-harmony. Raises MessageError if the schema is nested very deeply.
    """
    if depth > MAX_DEPTH:
        raise MessageError(f"a JSON schema is nested more than {MAX_DEPTH} levels deep; a few are expected")
    return _Writer(compat, depth).type(schema, indent)


class _Writer:
    def __init__(self, compat: bool, depth: int) -> None:
        self.compat, self.depth = compat, depth

    def type(self, schema: Any, indent: str) -> str:
        if not isinstance(schema, Mapping):
            return "any"
        variants, kind = schema.get("oneOf"), schema.get("type")
        if isinstance(variants, (list, tuple)):
            return "".join(self._variant(variant, indent) for variant in variants)
        if isinstance(kind, (list, tuple)) and kind:
            names = ["number" if name == "integer" else name for name in kind if isinstance(name, str)]
            return " | ".join(names) or "any"
        if kind == "object":
            return self._object(schema, indent)
        if kind == "string":
            return " | ".join(f'"{name}"' for name in _texts(schema.get("enum"))) or "string"
        if kind in ("number", "integer"):
            return "number"
        if kind == "boolean":
            return "boolean"
        if kind == "array":
            return self._nested(schema["items"], indent) + "[]" if "items" in schema else "Array<any>"
        return "any"

    def _nested(self, schema: Any, indent: str) -> str:
        return type_text(schema, indent, compat=self.compat, depth=self.depth + 1)

    def _nullable(self, schema: Any, indent: str) -> str:
        text = self._nested(schema, indent)
        if not isinstance(schema, Mapping) or schema.get("nullable") is not True:
            return text
        kind = schema.get("type")
        admits_null = "null" in text if self.compat else isinstance(kind, (list, tuple)) and "null" in kind
        return text if admits_null else f"{text} | null"

    def _variant(self, variant: Any, indent: str) -> str:
        line = f"\n{indent} | {self._nullable(variant, indent + '   ')}"
        if isinstance(variant, Mapping):
            line += _comment([_description(variant), _default(variant, quoted=True)])
        return line

    def _object(self, schema: Schema, indent: str) -> str:
        description = _description(schema)
        out = "" if description is None else f"{indent}// {description}\n"
        required = set(_texts(schema.get("required")))
        properties = schema.get("properties")
        lines = []
        if isinstance(properties, Mapping):
            lines = [self._property(str(key), value, indent, key in required) for key, value in properties.items()]
        return f"{out}{{\n{''.join(lines)}{indent}}}"

    def _property(self, key: str, value: Any, indent: str, required: bool) -> str:
        schema: Schema = value if isinstance(value, Mapping) else {}
        out = _heading(schema, indent)
        name = f"{indent}{key}{'' if required else '?'}:"
        variants = schema.get("oneOf")
        if isinstance(variants, (list, tuple)):
            return out + self._union(schema, variants, name, indent)
        out += f"{name} {self._nullable(value, indent + '    ')},"
        if "oneOf" not in schema:
            out += _comment([_default(schema)])
        return out + "\n"

    def _union(self, schema: Schema, variants: Any, name: str, indent: str) -> str:
        """A property that is one of several types, a line each."""
        description = _description(schema)
        first = variants[0] if variants and isinstance(variants[0], Mapping) else {}
        above = description is not None and description != _description(first)
        out = f"{indent}// {description}\n" if above else ""
        default = _default(schema)
        if default is not None:
            out += f"{indent}// {default}\n"
        out += f"{name}\n"
        for index, variant in enumerate(variants):
            out += f"{indent} | {self._nullable(variant, indent + '   ')}"
            if isinstance(variant, Mapping):
                own = _description(variant)
                repeated = own == description or index == 0 and above
                out += _comment([None if repeated else own, _default(variant)])
            out += "\n"
        return f"{out}{indent},\n"


def _heading(schema: Schema, indent: str) -> str:
    """Title, description and examples, above the property."""
    out = ""
    if isinstance(schema.get("title"), str):
        out += f"{indent}// {schema['title']}\n{indent}//\n"
    description = _description(schema)
    if "oneOf" not in schema and description is not None:
        out += f"{indent}// {description}\n"
    examples = schema.get("examples")
    if isinstance(examples, (list, tuple)) and examples:
        out += f"{indent}// Examples:\n"
        out += "".join(f'{indent}// - "{example}"\n' for example in _texts(examples))
    return out


def _comment(parts: list[str | None]) -> str:
    present = [part for part in parts if part is not None]
    return f" // {' '.join(present)}" if present else ""


def _description(schema: Schema) -> str | None:
    description = schema.get("description")
    return description if isinstance(description, str) else None


def _default(schema: Schema, quoted: bool = False) -> str | None:
    """A string stands raw in quotes; beside an enum without any, or with `quoted` as JSON. All else is JSON."""
    if "default" not in schema:
        return None
    default, enum = schema["default"], schema.get("enum")
    if isinstance(default, str) and not (isinstance(enum, (list, tuple)) and enum):
        return f'default: "{default}"'
    return f"default: {default}" if isinstance(default, str) and not quoted else f"default: {json_text(default)}"


def _texts(values: Any) -> list[str]:
    return [value for value in values if isinstance(value, str)] if isinstance(values, (list, tuple)) else []
