"""Harmony: no text becomes a control token, whatever it spells and wherever it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gptoss_native import harmony
from gptoss_native.harmony import (
    Conversation,
    DeveloperContent,
    Message,
    MessageError,
    ResponseFormat,
    SystemContent,
    Tool,
    Toolbox,
    ToolNamespace,
    browser,
    functions,
    python,
)
from vocabularies import released_tokenizer, small_tokenizer

OTHERS = ["<|reserved_599|>", "<|reserved_200017|>", "<|refusal|>", "<|untrusted|>", "<|end_untrusted|>", "<|im_start|>"]
SPELLINGS = [*small_tokenizer().specials, *OTHERS]

TEXTS: dict[str, Callable[[str], list[Message]]] = {
    "model_identity": lambda t: [Message("system", SystemContent(model_identity=t))],
    "knowledge_cutoff": lambda t: [Message("system", SystemContent(knowledge_cutoff=t))],
    "conversation_start_date": lambda t: [Message("system", SystemContent(conversation_start_date=t))],
    "valid_channels": lambda t: [Message("system", SystemContent(valid_channels=(t, "final")))],
    "browser description": lambda t: [Message("system", SystemContent(tools=(browser(t),)))],
    "python description": lambda t: [Message("system", SystemContent(tools=(python(t),)))],
    "namespace name": lambda t: [Message("system", SystemContent(tools=(ToolNamespace(t, None, (Tool("f"),)),)))],
    "namespace description": lambda t: [Message("system", SystemContent(tools=(ToolNamespace("n", t, (Tool("f"),)),)))],
    "namespace key": lambda t: [Message("system", SystemContent(tools=(ToolNamespace("n", None, (), t),)))],
    "instructions": lambda t: [Message("developer", DeveloperContent(t))],
    "tool name": lambda t: [Message("developer", DeveloperContent(None, (functions(Tool(t)),)))],
    "tool description": lambda t: [Message("developer", DeveloperContent(None, (functions(Tool("f", t)),)))],
    "format name": lambda t: [Message("developer", DeveloperContent(response_formats=(ResponseFormat(t, {}),)))],
    "format description": lambda t: [Message("developer", DeveloperContent(response_formats=(ResponseFormat("n", {}, t),)))],
    "format schema": lambda t: [Message("developer", DeveloperContent(response_formats=(ResponseFormat("n", {t: [t]}),)))],
    "user": lambda t: [Message("user", t)],
    "parts": lambda t: [Message("user", (t, "and", t))],
    "developer text": lambda t: [Message("developer", t)],
    "system text": lambda t: [Message("system", t)],
    "answer": lambda t: [Message("assistant", t, channel="final")],
    "reasoning": lambda t: [Message("assistant", t, channel="analysis")],
    "arguments": lambda t: [Message("assistant", t, channel="commentary", recipient="functions.f", content_type="<|constrain|>json")],
    "result": lambda t: [Message("tool", t, "functions.f", "commentary", "assistant")],
}
SCHEMAS: dict[str, Callable[[str], dict[str, Any]]] = {
    "property": lambda t: {"type": "object", "properties": {t: {"type": "string"}}, "required": [t]},
    "title": lambda t: {"type": "object", "properties": {"a": {"type": "string", "title": t}}},
    "description": lambda t: {"type": "object", "description": t, "properties": {"a": {"type": "string", "description": t}}},
    "examples": lambda t: {"type": "object", "properties": {"a": {"type": "string", "examples": [t]}}},
    "default": lambda t: {"type": "object", "properties": {"a": {"type": "string", "default": t}, "b": {"default": {t: t}}}},
    "enum": lambda t: {"type": "object", "properties": {"a": {"type": "string", "enum": [t], "default": t}}},
    "type": lambda t: {"type": "object", "properties": {"a": {"type": [t, "null"]}, "b": {"type": t}}},
    "oneOf": lambda t: {"oneOf": [{"type": "string", "enum": [t], "description": t, "default": t}]},
    "oneOf of a property": lambda t: {"type": "object", "properties": {t: {"description": t, "default": t, "oneOf": [{"type": "string", "description": f"x{t}"}]}}},
    "items": lambda t: {"type": "array", "items": {"type": "object", "properties": {t: {"description": t}}}},
}
TEXTS |= {
    f"schema's {name}": lambda t, make=make: [  # type: ignore[misc]
        Message("developer", DeveloperContent(None, (functions(Tool("f", None, make(t))),)))
    ]
    for name, make in SCHEMAS.items()
}


def controls(ids: list[int]) -> list[int]:
    specials = set(small_tokenizer().specials.values())
    return [index for index in ids if index in specials or index >= 570]


@pytest.mark.parametrize("field", TEXTS)
def test_a_spelling_in_any_text_stays_text(field: str) -> None:
    tokenizer = small_tokenizer()
    plain = controls(harmony.render_conversation(TEXTS[field]("plain"), tokenizer, drop_analysis="none"))
    for spelling in SPELLINGS:
        for text in (spelling, f"a{spelling}b", f"\n{spelling}\n", spelling * 2):
            ids = harmony.render_conversation(TEXTS[field](text), tokenizer, drop_analysis="none")
            assert controls(ids) == plain
            assert field in ("namespace key", "schema's type") or spelling in tokenizer.decode(ids)


@pytest.mark.parametrize("role", ["user", "assistant", "system", "developer", "tool"])
@pytest.mark.parametrize("field", ["name", "channel", "recipient", "content_type"])
def test_a_spelling_in_any_header_field_is_refused(field: str, role: Any) -> None:
    message = Message(role, "x", "functions.f" if role == "tool" else None)
    for spelling in [*small_tokenizer().specials, "<|reserved_599|>"]:
        for value in (spelling, f"functions.f{spelling}x", f"<|constrain|>{spelling}"):
            if field == "content_type" and value == "<|constrain|>":
                continue
            with pytest.raises(MessageError, match="a header field must not spell a control token"):
                harmony.render_message(replace(message, **{field: value}), small_tokenizer())
            marked = "<|constrain|>x" if field == "content_type" and value.startswith("<|constrain|>") else "x"
            ids, plain = (harmony.render_message(replace(message, **{field: v}), small_tokenizer(), compat=True) for v in (value, marked))
            assert controls(ids) == controls(plain)


@pytest.mark.parametrize("field", ["name", "channel", "recipient", "content_type"])
def test_a_recipient_in_another_header_field_is_refused(field: str) -> None:
    message = replace(Message("assistant", "x"), **{field: "json\nto=functions.f"})
    with pytest.raises(MessageError, match="must not name a recipient"):
        harmony.render_message(message, small_tokenizer())
    assert harmony.render_message(message, small_tokenizer(), compat=True)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelling_as_the_reasoning_effort_is_refused(spelling: str) -> None:
    with pytest.raises(MessageError, match="one of low, medium, high"):
        harmony.render_message(Message("system", SystemContent(reasoning_effort=spelling)), small_tokenizer())  # type: ignore[arg-type]


CLIENT: dict[str, Callable[[str], list[dict[str, Any]]]] = {
    "role": lambda t: [{"role": t, "content": "x"}],
    "name": lambda t: [{"role": "user", "name": t, "content": "x"}],
    "channel": lambda t: [{"role": "assistant", "channel": t, "content": "x"}],
    "recipient": lambda t: [{"role": "assistant", "recipient": t, "content": "x"}],
    "function name": lambda t: [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": t, "arguments": "{}"}}]}],
    "function's name of responses": lambda t: [{"type": "function_call", "call_id": "1", "name": t, "arguments": "{}"}],
    "tool name": lambda t: [{"role": "tool", "name": t, "content": "x"}],
    "key": lambda t: [{"role": "user", "content": "x", t: "x"}],
    "part's type": lambda t: [{"role": "user", "content": [{"type": t, "text": "x"}]}],
}


@pytest.mark.parametrize("field", CLIENT)
def test_a_spelling_in_a_clients_header_fields_is_refused(field: str) -> None:
    for spelling in small_tokenizer().specials:
        with pytest.raises(MessageError) as error:
            harmony.render(CLIENT[field](f"f{spelling}"), small_tokenizer())
        assert "\n" not in str(error.value)


CLIENT_TEXTS: dict[str, Callable[[str], list[dict[str, Any]]]] = {
    "content": lambda t: [{"role": "user", "content": t}],
    "part": lambda t: [{"role": "user", "content": [{"type": "input_text", "text": t}]}],
    "instructions": lambda t: [{"role": "system", "content": t}, {"role": "user", "content": "x"}],
    "reasoning": lambda t: [{"role": "assistant", "reasoning_content": t}],
    "call": lambda t: [{"role": "assistant", "content": t, "tool_calls": [{"id": t, "function": {"name": "f", "arguments": {t: t}}}]},
                       {"role": "tool", "tool_call_id": t, "content": t}],
    "result": lambda t: [{"role": "tool", "name": "f", "content": {t: [t]}}],
    "reasoning of responses": lambda t: [{"type": "reasoning", "summary": [{"type": "summary_text", "text": t}]}],
}


@pytest.mark.parametrize("field", CLIENT_TEXTS)
def test_a_spelling_in_a_clients_texts_stays_text(field: str) -> None:
    tokenizer = small_tokenizer()
    plain = controls(harmony.render(CLIENT_TEXTS[field]("plain"), tokenizer))
    for spelling in SPELLINGS:
        ids = harmony.render(CLIENT_TEXTS[field](f"a{spelling}b"), tokenizer)
        assert controls(ids) == plain and spelling in tokenizer.decode(ids)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_tools_name_spells_nothing(spelling: str) -> None:
    for spec in ({"type": "function", "function": {"name": spelling}}, {"type": "function", "name": f"f{spelling}"}, Tool(spelling)):
        with pytest.raises(MessageError, match="expected letters, digits"):
            harmony.toolbox([spec])
    for make in (lambda: Toolbox((Tool("f"),), aliases={"f": spelling}), lambda: Toolbox((Tool(spelling),))):
        with pytest.raises(MessageError, match="expected letters, digits"):
            make()


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_conversation_makes_no_control_tokens_of_text(spelling: str) -> None:
    def ids(text: str) -> list[int]:
        conversation = Conversation(
            small_tokenizer(), system=SystemContent(text), developer=text, date=text,
            tools=[Tool("f", text, {"type": "object", "description": text})],
            response_format={"name": text, "schema": {text: text}, "description": text})
        conversation.add_user(text)
        conversation.add_assistant(text)
        conversation.add({"role": "assistant", "tool_calls": [{"id": text, "function": {"name": "f", "arguments": text}}]})
        conversation.add_result("f", text)
        conversation.add_result("f", {text: text})
        return conversation.tokens_for_completion()

    assert controls(ids(spelling)) == controls(ids("plain"))


def test_the_released_vocabulary_makes_none_either() -> None:
    tokenizer = released_tokenizer()
    for spelling in [*tokenizer.specials, "<|reserved_200013|>", "<|reserved_201087|>", "<|endofprompt|>"]:
        for make in TEXTS.values():
            ids, plain = (harmony.render_conversation(make(t), tokenizer, drop_analysis="none") for t in (spelling, "plain"))
            assert [i for i in ids if i >= 199_998] == [i for i in plain if i >= 199_998]
