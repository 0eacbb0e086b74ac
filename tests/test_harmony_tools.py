"""Harmony: tools and response formats as the model is told of them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict

import pytest

from gptoss_native import harmony
from gptoss_native.harmony import (
    DeveloperContent,
    Message,
    MessageError,
    ResponseFormat,
    SystemContent,
    Tool,
    Toolbox,
)
from gptoss_native.harmony.annotations import annotation_schema
from gptoss_native.harmony.content import developer_text, system_text, tools_text
from gptoss_native.harmony.docstrings import read_docstring
from gptoss_native.harmony.json_text import json_text
from gptoss_native.harmony.typescript import type_text
from vocabularies import small_tokenizer

USER = {"role": "user", "content": "Hi"}


def test_functions_are_declared_in_a_developer_message() -> None:
    weather = Tool("get_weather", "Weather of a place.\nNow.", {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": "City"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
        },
        "required": ["location"],
    })
    content = DeveloperContent("Be brief.", (harmony.functions(weather, Tool("now")),))
    assert developer_text(content) == """# Instructions

Be brief.

# Tools

## functions

namespace functions {

// Weather of a place.
// Now.
type get_weather = (_: {
// City
location: string,
unit?: "celsius" | "fahrenheit", // default: celsius
}) => any;

type now = () => any;

} // namespace functions"""
    assert developer_text(DeveloperContent()) == "" and developer_text(DeveloperContent("")) == "# Instructions\n\n"


def test_built_in_tools_are_declared_in_the_system_message_and_can_be_worded_anew() -> None:
    text = system_text(SystemContent(tools=(harmony.python("Stateless."), harmony.browser())))
    assert "Reasoning: medium\n\n# Tools\n\n## browser\n\n// Tool for browsing.\n" in text
    assert "// sources=web (default: web)\nnamespace browser {\n\n// Searches for" in text
    assert "} // namespace browser\n\n## python\n\nStateless.\n\n# Valid channels" in text
    assert "stateful Jupyter notebook" in system_text(SystemContent(tools=(harmony.python(),)))


def test_functions_anywhere_are_mentioned_beside_the_channels() -> None:
    told = "Channel must be included for every message.\nCalls to these tools must go to the commentary channel: 'functions'."
    system, user = Message("system", SystemContent()), Message("user", "x")
    for tools, mentioned in ((harmony.functions(Tool("f")), True), (harmony.functions(), False), (harmony.python(), False)):
        developer = Message("developer", DeveloperContent(None, (tools,)))
        ids = harmony.render_conversation([system, user, developer], small_tokenizer())
        assert (told in small_tokenizer().decode(ids)) == mentioned


def test_response_formats_follow_the_tools() -> None:
    formats = (ResponseFormat("shopping_list", {"type": "object"}, "Items\nto buy"), ResponseFormat("bare", {}))
    text = developer_text(DeveloperContent("Help.", (), formats))
    assert text == ('# Instructions\n\nHelp.\n\n# Response Formats\n\n## shopping_list\n\n// Items\n// to buy\n{"type":"object"}'
                    "\n\n## bare\n\n{}")
    assert developer_text(DeveloperContent(None, (), formats[1:])) == "# Response Formats\n\n## bare\n\n{}"
    client = {"type": "json_schema", "json_schema": {"name": "bare", "schema": {}, "strict": True}}
    prompt = small_tokenizer().decode(harmony.render([{"role": "system", "content": "Help."}, USER], small_tokenizer(), response_format=client))
    assert "<|start|>developer<|message|># Instructions\n\nHelp.\n\n# Response Formats\n\n## bare\n\n{}<|end|><|start|>user" in prompt
    with pytest.raises(MessageError, match="as the response format, found"):
        harmony.render([USER], small_tokenizer(), response_format={"type": "json_object"})


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (None, "any"),
        ({}, "any"),
        ({"type": "null"}, "any"),
        ({"type": ["string", "integer", "null"]}, "string | number | null"),
        ({"type": "array"}, "Array<any>"),
        ({"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}, '"a" | "b"[]'),
        ({"type": "string", "enum": []}, "string"),
        ({"anyOf": [{"type": "string"}]}, "any"),
        ({"oneOf": []}, ""),
        ({"oneOf": [{"type": "string", "description": "A"}, {"type": "integer", "default": 1}]}, "\n | string // A\n | number // default: 1"),
        ({"type": "object"}, "{\n}"),
        ({"type": "object", "description": "D", "properties": {"a": {"type": "object", "description": "E", "properties": {"b": {}}}}},
         "// D\n{\n// E\na?:     // E\n{\n    b?: any,\n    },\n}"),
        ({"type": "object", "properties": {"a": {"title": "T", "examples": ["x", 3], "description": "", "default": None}}, "required": ["a", 3, "zz"]},
         '{\n// T\n//\n// \n// Examples:\n// - "x"\na: any, // default: null\n}'),
        ({"type": "object", "properties": {"a": {"oneOf": [{"type": "string", "description": "S"}, {"type": "number"}], "description": "D", "default": 1}}},
         "{\n// D\n// default: 1\na?:\n | string\n | number\n,\n}"),
        ({"type": "object", "properties": {"a": {"type": "string", "nullable": True}, "b": {"type": ["null"], "nullable": True}}},
         "{\na?: string | null,\nb?: null,\n}"),
    ],
)
def test_schemas_become_types(schema: Any, expected: str) -> None:
    assert type_text(schema) == type_text(schema, compat=True) == expected


def test_null_in_a_name_does_not_make_a_type_nullable_but_in_compat() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "enum": ["nullify"], "nullable": True}}}
    assert type_text(schema) == '{\na?: "nullify" | null,\n}'
    assert type_text(schema, compat=True) == '{\na?: "nullify",\n}'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, "1.0"), (0.0, "0.0"), (-0.0, "-0.0"), (1e15, "1000000000000000.0"), (1e16, "1e16"), (1e-5, "0.00001"), (1.5e-7, "1.5e-7"),
        (1.2345678901234568e29, "1.2345678901234568e29"), (123456.75, "123456.75"), (-1e300, "-1e300"), (5e-324, "5e-324"),
        (2**64 - 1, "18446744073709551615"), (2**64, "1.8446744073709552e19"), (-(2**63), "-9223372036854775808"),
        (True, "true"), (None, "null"), ("é\"\\\n\x1f\x7f", '"é\\"\\\\\\n\\u001f\x7f"'), ({"b": [1, {}], "a": ()}, '{"b":[1,{}],"a":[]}'),
    ],
)
def test_values_are_written_as_json(value: Any, expected: str) -> None:
    assert json_text(value) == expected


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"type": "array", "items": value}
    return value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, {1: 2}, object(), b"x", nested(5000), {"a": {3}}])
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(MessageError):
        json_text(value)
    with pytest.raises(MessageError):
        type_text({"type": "object", "properties": {"a": {"default": value}}})


def test_a_schema_without_end_is_refused() -> None:
    with pytest.raises(MessageError, match="levels deep"):
        type_text(nested(5000))


# Tools of callers


CHAT = {"type": "function", "function": {"name": "f", "description": "F.", "parameters": {"type": "object", "properties": {}}, "strict": True}}
FLAT = {"type": "function", "name": "f", "description": "F.", "parameters": {"type": "object", "properties": {}}, "strict": True}


@pytest.mark.parametrize("spec", [CHAT, FLAT, CHAT["function"]], ids=["chat", "responses", "bare"])
def test_tools_come_in_every_way_that_clients_have(spec: Any) -> None:
    [tool] = harmony.toolbox([spec]).functions
    assert tool == Tool("f", "F.", {"type": "object", "properties": {}})


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ("f", "expected a list of tools, found 'f'"),
        (CHAT, "expected a list of tools"),
        ([3], r"tools\[0\] is 3, expected"),
        ([{"type": "web_search"}], "type 'web_search'; only functions"),
        ([{"type": "function", "function": "f"}], "'f' as function, expected an object"),
        ([{"type": "function", "function": {}}], "the name '', expected letters"),
        ([{"name": "get weather"}], "the name 'get weather', expected letters"),
        ([{"name": "f", "description": 3}], "3 as description, expected text"),
        ([{"name": "f", "parameters": "x"}], "'x' as parameters, expected a JSON schema"),
        ([{"name": "f"}, {"name": "f"}], "names of their own, found f, f"),
        ([lambda x: x], "expected a function with a name"),
    ],
)
def test_tools_that_are_none_are_refused_in_a_sentence(tools: Any, expected: str) -> None:
    with pytest.raises(MessageError, match=expected) as error:
        harmony.render([USER], small_tokenizer(), tools=tools)
    assert "\n" not in str(error.value)


def test_aliases_must_be_of_functions_and_unique() -> None:
    with pytest.raises(MessageError, match="aliases has 'g', expected one of the functions: f"):
        Toolbox((Tool("f"),), aliases={"g": "h"})
    with pytest.raises(MessageError, match="names of their own"):
        Toolbox((Tool("f"), Tool("g")), aliases={"g": "f"})


def test_tools_are_told_in_the_callers_developer_message_or_one_of_their_own() -> None:
    decode = small_tokenizer().decode
    alone = decode(harmony.render([USER], small_tokenizer(), tools=[CHAT, harmony.python("Py.")]))
    assert "## python\n\nPy.\n\n# Valid" in alone and "<|end|><|start|>developer<|message|># Tools\n\n## functions" in alone
    beside = decode(harmony.render([{"role": "developer", "content": "Be brief."}, USER], small_tokenizer(), tools=[CHAT]))
    assert "<|start|>developer<|message|># Instructions\n\nBe brief.\n\n# Tools" in beside and beside.count("<|start|>developer") == 1
    late = decode(harmony.render([USER, {"role": "developer", "content": "Be brief."}], small_tokenizer(), tools=[CHAT]))
    assert late.count("<|start|>developer") == 2
    own = Message("developer", DeveloperContent(None, (harmony.functions(Tool("g")),)))
    with pytest.raises(MessageError, match="all of them in one place"):
        harmony.render([own, USER], small_tokenizer(), tools=[CHAT])
    with pytest.raises(MessageError, match="put those into its SystemContent"):
        harmony.render([Message("system", SystemContent()), USER], small_tokenizer(), tools=[harmony.python()])


def test_namespaces_are_ordered_by_the_bytes_of_their_keys() -> None:
    text = tools_text([harmony.python("P"), harmony.functions(Tool("f")), harmony.browser("B")])
    assert [line for line in text.split("\n") if line.startswith("## ")] == ["## browser", "## functions", "## python"]


# Python functions


class Unit(enum.Enum):
    CELSIUS = "celsius"
    FAHRENHEIT = "fahrenheit"


class Place(TypedDict, total=False):
    city: str
    country: str


@dataclass
class Options:
    """Options.

    Args:
        limit: how many
    """

    limit: int = 3
    tags: list[str] = field(default_factory=list)
    place: Optional[Place] = None  # noqa: UP045


UserId = NewType("UserId", int)


@dataclass
class Tree:
    children: list[Tree]


def get_weather(location: str, unit: Literal["celsius", "fahrenheit"] = "celsius", days: int = 1) -> str:
    """Weather of a place.

    In words.

    Args:
        location: The city,
            and the country.
        unit (str): Of temperatures.

    Returns:
        A text.
    """
    return f"{location}{unit}{days}"


def test_a_function_is_a_tool() -> None:
    tool = harmony.tool_from_callable(get_weather)
    assert tool == Tool("get_weather", "Weather of a place.\n\nIn words.", {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": "The city, and the country."},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "Of temperatures.", "default": "celsius"},
            "days": {"type": "integer", "default": 1},
        },
        "required": ["location"],
    })
    prompt = small_tokenizer().decode(harmony.render([USER], small_tokenizer(), tools=[get_weather]))
    assert "type get_weather = (_: {\n// The city, and the country.\nlocation: string,\n// Of temperatures.\nunit?:" in prompt


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (str, {"type": "string"}), (int, {"type": "integer"}), (float, {"type": "number"}), (bool, {"type": "boolean"}),
        (Any, {}), (None, {"type": "null"}), (list, {"type": "array"}), (dict, {"type": "object"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (Sequence[str], {"type": "array", "items": {"type": "string"}}),
        (set[str], {"type": "array", "items": {"type": "string"}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (tuple[int, int], {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (Optional[int], {"type": "integer", "nullable": True}),  # noqa: UP045
        (int | str, {"type": ["integer", "string"]}),
        (int | str | None, {"type": ["integer", "string", "null"]}),
        (int | list[int], {"oneOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal[1, 2], {"type": "integer", "enum": [1, 2]}),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (Literal["a", None], {"type": "string", "enum": ["a"], "nullable": True}),
        (Unit, {"type": "string", "enum": ["celsius", "fahrenheit"]}),
        (UserId, {"type": "integer"}),
        (Annotated[int, "How many"], {"type": "integer", "description": "How many"}),
        (Place, {"type": "object", "properties": {"city": {"type": "string"}, "country": {"type": "string"}}}),
        (Options, {"type": "object", "properties": {
            "limit": {"type": "integer", "description": "how many"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "place": {"type": "object", "properties": {"city": {"type": "string"}, "country": {"type": "string"}}, "nullable": True}}}),
    ],
)
def test_annotations_become_schemas(annotation: Any, expected: Any) -> None:
    assert annotation_schema(annotation, "x") == expected


@pytest.mark.parametrize("annotation", [bytes, object(), dict[int, str], Callable[[int], int], complex, Tree])
def test_annotations_that_json_cannot_say_are_refused(annotation: Any) -> None:
    with pytest.raises(MessageError, match="the parameter x"):
        annotation_schema(annotation, "the parameter x")


def test_pydantic_models_are_written_out() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Inner(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        """Inner."""

        value: int = pydantic.Field(description="A value")
        title: str = "x"

    class Outer(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        inner: Inner
        others: list[Inner] = []
        maybe: Optional[int] = None  # noqa: UP045
        either: int | list[int] = 1
        kind: Literal["a"] = "a"

    schema = annotation_schema(Outer, "x")
    assert "$" not in json_text(schema) and schema["required"] == ["inner"]
    assert schema["properties"]["inner"]["properties"]["value"] == {"type": "integer", "description": "A value"}
    assert "title" in schema["properties"]["inner"]["properties"]
    assert schema["properties"]["maybe"] == {"type": "integer", "nullable": True}
    assert "maybe?: number | null," in type_text(schema) and 'kind?: "a", // default: a' in type_text(schema)

    class Node(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        children: list[Node]

    Node.model_rebuild(_types_namespace={"Node": Node})
    with pytest.raises(MessageError, match="contains itself"):
        annotation_schema(Node, "x")
    request = pydantic.create_model("ChatMessage", role=(str, "user"), content=(str, "Hi"))()
    assert harmony.render([request], small_tokenizer()) == harmony.render([USER], small_tokenizer())


def stars(*args: int) -> None: ...
def double_stars(**kwargs: int) -> None: ...
def positional(x: int, /) -> None: ...
def unresolved(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def odd_default(x: int = object()) -> None: ...  # type: ignore[assignment]
def odd(x: bytes) -> None: ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (stars, r"stars takes \*args"),
        (double_stars, r"double_stars takes \*\*kwargs"),
        (positional, "the parameter x of positional is positional-only"),
        (unresolved, "an annotation of unresolved cannot be resolved: .*Nowhere"),
        (odd_default, "the default of the parameter x of odd_default is <object"),
        (odd, "the parameter x of odd has the annotation bytes, which JSON does not express"),
        (lambda x: x, "expected a function with a name"),
        (Toolbox.told, "told is a method without its object; give that of an object"),
    ],
)
def test_functions_that_a_model_cannot_call_are_refused(function: Any, expected: str) -> None:
    with pytest.raises(MessageError, match=expected):
        harmony.tool_from_callable(function)


def test_what_a_function_gives_back_need_not_be_known() -> None:
    def tool(x: int) -> Nowhere: ...  # type: ignore[name-defined]  # noqa: F821

    assert harmony.tool_from_callable(tool).parameters == {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


def test_methods_and_partials_and_objects_are_functions_too() -> None:
    class Adder:
        """Adds."""

        def add(self, x: int, y: Unit = Unit.CELSIUS) -> int:
            """Adds x."""
            return x

        def __call__(self, z: int) -> int:
            return z

    method = harmony.tool_from_callable(Adder().add)
    assert method.name == "add" and method.parameters is not None
    assert method.parameters["properties"]["y"]["default"] == "celsius" and list(method.parameters["properties"]) == ["x", "y"]
    called = harmony.tool_from_callable(Adder(), "adder")
    assert called.parameters is not None and called.parameters["properties"] == {"z": {"type": "integer"}}
    fixed = harmony.tool_from_callable(partial(get_weather, unit="celsius"), "weather")
    assert fixed.parameters is not None and fixed.parameters["required"] == ["location"]
    assert harmony.tool_from_callable(partial(get_weather, "Paris")).name == "get_weather"
    assert (fixed.description or "").startswith("Weather of a place.")
    assert harmony.tool_from_callable(Adder()) == Tool("Adder", "Adds.", called.parameters)
    assert harmony.tool_from_callable(lambda: 1, "one") == Tool("one")


NUMPY = """Does things.

    More of it.

    Parameters
    ----------
    x : int
        The x,
        in metres.
    y, z : float, optional
        Both.

    Returns
    -------
    int
        Nothing.
    """
SPHINX = """Does things.

    More of it.

    :param x: The x,
        in metres.
    :param float y: Both.
    :param z: Both.
    :type z: float
    :returns: nothing
    :raises ValueError: never
    """
GOOGLE = """Does things.

    More of it.

    Args:
        x (int): The x,
            in metres.
        y: Both.
        z: Both.

    Raises:
        ValueError: never
    """


@pytest.mark.parametrize("docstring", [NUMPY, SPHINX, GOOGLE], ids=["numpy", "sphinx", "google"])
def test_docstrings_describe_parameters(docstring: str) -> None:
    assert read_docstring(docstring) == ("Does things.\n\nMore of it.", {"x": "The x, in metres.", "y": "Both.", "z": "Both."})


def test_docstrings_without_parameters_are_left_alone() -> None:
    assert read_docstring(None) == (None, {})
    assert read_docstring("Note: this is prose.\n\nSo is: this.") == ("Note: this is prose.\n\nSo is: this.", {})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (DeveloperContent(3), "the instructions of a message with role 'developer' is 3, expected text or None"),
        (DeveloperContent(tools="f"), "expected a tuple for tools, found 'f'"),
        (DeveloperContent(tools=(Tool("f"),)), "expected ToolNamespace: functions"),
        (DeveloperContent(tools=(harmony.functions({"name": "f"}),)), "the tools of functions hold {'name': 'f'}, expected Tool"),
        (DeveloperContent(tools=(harmony.functions(Tool(3)),)), "the tool's name of .* is 3, expected text"),
        (DeveloperContent(tools=(harmony.functions(Tool("f", 3)),)), "the tool's description of .* is 3, expected text or None"),
        (DeveloperContent(tools=(harmony.ToolNamespace("n", key=3),)), "the tool namespace's key of .* is 3"),
        (DeveloperContent(response_formats=({"name": "x"},)), "response_formats hold .*, expected ResponseFormat"),
        (DeveloperContent(response_formats=(ResponseFormat("x", {"a": object()}),)), "expected a JSON value"),
        (SystemContent(model_identity=3), "the model_identity of a message with role 'system' is 3"),
        (SystemContent(conversation_start_date=3), "the conversation_start_date"),
        (SystemContent(valid_channels="final"), "expected a tuple for valid_channels, found 'final'"),
        (SystemContent(valid_channels=(3,)), "the valid_channels of .* is 3, expected text"),
    ],
)
def test_contents_of_the_wrong_type_are_refused_in_a_sentence(content: Any, expected: str) -> None:
    role: Any = "system" if isinstance(content, SystemContent) else "developer"
    with pytest.raises(MessageError, match=expected):
        harmony.render_conversation([Message(role, content)], small_tokenizer())


def test_half_surrogate_pairs_become_replacement_characters_everywhere() -> None:
    lone = "a\ud800b"
    tool = {"name": "f", "description": lone, "parameters": {"type": "object", "properties": {lone: {"type": "string", "default": lone, "enum": [lone]}}}}
    messages = [{"role": "user", "content": lone}, {"role": "assistant", "tool_calls": [{"id": lone, "function": {"name": "f", "arguments": {lone: lone}}}]},
                {"role": "tool", "tool_call_id": lone, "content": [lone]}]
    box = Toolbox(harmony.toolbox([tool]).functions, (harmony.ToolNamespace(lone, lone, (), lone),))
    prompt = harmony.render(messages, small_tokenizer(), tools=box, system=SystemContent(lone, conversation_start_date=lone))
    assert "a\ufffdb" in small_tokenizer().decode(prompt)
