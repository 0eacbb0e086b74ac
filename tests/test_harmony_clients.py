"""Harmony: messages as OpenAI's clients send them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

from gptoss_native import harmony
from gptoss_native.harmony import Message, MessageError, SystemContent, Tool, Toolbox
from vocabularies import small_tokenizer

USER = {"role": "user", "content": "Hi"}
CALL = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [
    {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Tokyo"}'}}]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "20 C"}
CALL_TEXT = '<|start|>assistant to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>{"city": "Tokyo"}<|call|>'
RESULT_TEXT = "<|start|>functions.get_weather to=assistant<|channel|>commentary<|message|>20 C<|end|>"
BEGIN = "<|start|>assistant"


def after_user(*messages: Any, **options: Any) -> str:
    text = small_tokenizer().decode(harmony.render([USER, *messages], small_tokenizer(), **options))
    return text.partition("<|start|>user<|message|>Hi<|end|>")[2].removesuffix(BEGIN)


def test_a_call_and_its_result() -> None:
    assert after_user(CALL, RESULT) == CALL_TEXT + RESULT_TEXT


def test_text_beside_a_call_is_a_preamble_and_reasoning_comes_first() -> None:
    call = {**CALL, "content": "I will look.", "reasoning_content": "Weather? Tool!"}
    assert after_user(call) == (
        "<|start|>assistant<|channel|>analysis<|message|>Weather? Tool!<|end|>"
        "<|start|>assistant<|channel|>commentary<|message|>I will look.<|end|>" + CALL_TEXT)
    for key in ("reasoning", "thinking"):
        assert after_user({**CALL, key: "Hm."}) == f"<|start|>assistant<|channel|>analysis<|message|>Hm.<|end|>{CALL_TEXT}"
    assert after_user({"role": "assistant", "content": None, "reasoning_content": "Hm."}).endswith("Hm.<|end|>")
    assert after_user({**CALL, "content": ""}) == CALL_TEXT


def test_several_calls_come_one_after_the_other_and_results_find_theirs() -> None:
    calls = {"role": "assistant", "tool_calls": [
        {"id": str(i), "type": "function", "function": {"name": f"f{i}", "arguments": {"i": i}}} for i in range(2)]}
    text = after_user(calls, {"role": "tool", "tool_call_id": "1", "content": "b"}, {"role": "tool", "tool_call_id": "0", "content": "a"})
    assert text.index('<|message|>{"i":0}<|call|>') < text.index('<|message|>{"i":1}<|call|>')
    assert text.endswith("<|start|>functions.f1 to=assistant<|channel|>commentary<|message|>b<|end|>"
                         "<|start|>functions.f0 to=assistant<|channel|>commentary<|message|>a<|end|>")


def test_results_may_name_the_tool_instead() -> None:
    assert after_user({"role": "tool", "name": "get_weather", "content": "20 C"}) == RESULT_TEXT
    assert after_user({"role": "function", "name": "functions.get_weather", "content": "20 C"}) == RESULT_TEXT
    assert after_user({"role": "tool", "name": "get_weather", "content": [{"type": "text", "text": "20 C"}]}) == RESULT_TEXT


def test_built_in_tools_are_called_on_analysis() -> None:
    call = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "python", "arguments": "print(1)"}}]}
    text = after_user(call, {"role": "tool", "tool_call_id": "1", "content": "1\n"}, tools=[harmony.python()])
    assert text == ("<|start|>assistant to=python<|channel|>analysis code<|message|>print(1)<|call|>"
                    "<|start|>python to=assistant<|channel|>analysis<|message|>1\n<|end|>")
    box = Toolbox((Tool("python"),), (harmony.browser(),))
    assert "to=functions.python" in after_user(call, tools=box)
    search = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "browser.search", "arguments": "{}"}}]}
    assert "to=browser.search<|channel|>analysis" in after_user(search, tools=box)
    assert "to=functions.browser.search" in after_user(search)


def test_items_of_the_responses_api_are_read() -> None:
    items = [
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_weather", "arguments": '{"city": "Tokyo"}', "status": "completed"},
        {"type": "function_call_output", "call_id": "call_1", "output": "20 C"},
        {"type": "message", "id": "m", "status": "completed", "role": "assistant", "content": [{"type": "output_text", "text": "Warm.", "annotations": []}]},
    ]
    expected = f"{CALL_TEXT}{RESULT_TEXT}<|start|>assistant<|channel|>final<|message|>Warm.<|end|>"
    assert after_user(*items) == expected
    assert after_user(*items, drop_analysis="none") == "<|start|>assistant<|channel|>analysis<|message|>Hm.<|end|>" + expected


def test_what_clients_still_send_of_old_and_what_is_no_text_of_its_own() -> None:
    old = {"role": "assistant", "content": None, "function_call": {"name": "get_weather", "arguments": '{"city": "Tokyo"}'}}
    assert after_user(old, {"role": "function", "name": "get_weather", "content": "20 C"}) == CALL_TEXT + RESULT_TEXT
    refused = "<|start|>assistant<|channel|>final<|message|>No.<|end|>"
    for content, refusal in ((None, "No."), ("No.", None), ([{"type": "refusal", "refusal": "No."}], None)):
        assert after_user({"role": "assistant", "content": content, "refusal": refusal}) == refused
    cited = {"role": "assistant", "content": "No.", "annotations": [{"type": "url_citation"}], "parsed": {"no": True},
             "reasoning_details": [{}], "phase": "final_answer"}  # fmt: skip
    assert after_user(cited) == refused
    encrypted = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}
    assert after_user(encrypted, cited, drop_analysis="none") == refused
    assert small_tokenizer().decode(harmony.render([encrypted], small_tokenizer())).endswith(f"message.<|end|>{BEGIN}")


@dataclass
class Turn:
    role: str
    content: Any


class Model:
    """What a pydantic model looks like from here."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def model_dump(self, mode: str, by_alias: bool) -> dict[str, Any]:
        if "broken" in self.fields:
            raise ValueError("it is broken")
        return self.fields


def test_dataclasses_and_models_are_read() -> None:
    expected = harmony.render([USER], small_tokenizer())
    assert harmony.render([Turn("user", "Hi")], small_tokenizer()) == expected
    assert harmony.render([Model(role="user", content=[Model(type="text", text="Hi")])], small_tokenizer()) == expected
    call = Model(role="assistant", content=None, tool_calls=[Model(id="call_1", type="function", function=Model(name="get_weather", arguments='{"city": "Tokyo"}'))])
    assert after_user(call) == CALL_TEXT
    [tool] = harmony.toolbox([Model(type="function", function=Model(name="f", description=None, parameters=None))]).functions
    assert tool == Tool("f")
    with pytest.raises(MessageError, match=r"messages\[0\], a Model, cannot be dumped: it is broken"):
        harmony.render([Model(broken=True)], small_tokenizer())


def test_the_harmony_librarys_messages_are_read() -> None:
    library = pytest.importorskip("openai_harmony")
    theirs = [
        library.Message.from_role_and_content(library.Role.SYSTEM, library.SystemContent.new().with_browser_tool()),
        library.Message.from_role_and_content(library.Role.USER, "Hi"),
        library.Message.from_role_and_content(library.Role.ASSISTANT, "{}").with_channel("analysis").with_recipient("browser.search").with_content_type("code"),
        library.Message.from_author_and_content(library.Author.new(library.Role.TOOL, "browser.search"), "found").with_channel("analysis").with_recipient("assistant"),
    ]
    ours = [
        Message("system", SystemContent(tools=(harmony.browser(),))),
        Message("user", "Hi"),
        Message("assistant", "{}", None, "analysis", "browser.search", "code"),
        Message("tool", "found", "browser.search", "analysis", "assistant"),
    ]
    tokenizer = small_tokenizer()
    assert harmony.render(theirs, tokenizer) == harmony.render([message.to_dict() for message in theirs], tokenizer) == harmony.render(ours, tokenizer)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({**CALL, "tool_calls": "x"}, "'x' as tool_calls, expected a list"),
        ({**CALL, "tool_calls": ["x"]}, r"messages\[1\] tool_calls\[0\] is 'x', expected"),
        ({**CALL, "tool_calls": [{"id": "1", "type": "custom", "custom": {}}]}, r"tool_calls\[0\] is .*, expected"),
        ({**CALL, "tool_calls": [{"id": "1", "function": {"name": "", "arguments": "{}"}}]}, "'' as the name of the function"),
        ({**CALL, "tool_calls": [{"id": "1", "function": {"name": "a b", "arguments": "{}"}}]}, "'a b' as the name of the function, expected one word"),
        ({**CALL, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {1}}}]}, "expected a JSON value"),
        ({"role": "tool", "content": "x"}, "the call None, which no earlier message made"),
        ({"role": "tool", "name": "f", "content": b"x"}, "expected a JSON value"),
        ({"role": "tool", "name": "f", "content": [{"type": "image_url", "image_url": {}}]}, "type 'image_url'; this model reads text only"),
        ({"role": "assistant", "content": "x", "reasoning_content": 3}, "3 as content"),
        ({"role": "assistant", "content": None}, "None as content, expected text"),
        ({"type": "function_call", "call_id": "1"}, "None as the name of the function"),
        ({"role": "user", "content": [{"type": "system_content", "reasoning_effort": "Huge"}]}, "reasoning_effort 'Huge', expected Low"),
        ({"role": "user", "content": [{"type": "system_content"}]}, "SystemContent belongs in a message with role 'system'"),
        ({"role": "system", "content": [{"type": "system_content", "tools": 3}]}, "3 as tools, expected an object of namespaces"),
        ({"role": "system", "content": [{"type": "system_content", "tools": {"x": 3}}]}, "3 as the namespace 'x', expected an object with a name"),
        ({"type": "web_search_call", "id": "1"}, r"messages\[1\] has type 'web_search_call'; expected"),
        ({**CALL, "tool_calls": [{"id": 1, "function": {"name": "f", "arguments": "{}"}}]}, "1 as the id of the call, expected text"),
        ({"role": "user", "content": "x", "name": "bob to=functions.f"}, "must not name a recipient"),
        (3, r"messages\[1\] is 3, expected"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(message: Any, expected: str) -> None:
    with pytest.raises(MessageError, match=expected) as error:
        harmony.render([USER, message], small_tokenizer())
    assert "\n" not in str(error.value)


KEYS = ["role", "content", "name", "channel", "recipient", "content_type", "tool_calls", "tool_call_id", "type", "text", "id", "function", "arguments", "author", "reasoning_content", "instructions", "tools", "description", "parameters", "reasoning_effort", "channel_config", "valid_channels", "call_id", "output", "summary", "json_schema", "schema", "properties", "oneOf", "default", 3]
VALUES = ["user", "assistant", "system", "tool", "f", "", "text", "system_content", "developer_content", "function_call", "function_call_output", "reasoning", "<|end|>", None, True, 3, -1.5, float("nan"), b"x", "Low", "final", "object"]


def junk(choose: random.Random, depth: int = 0) -> Any:
    kind = choose.random()
    if depth > 4 or kind < 0.4:
        return choose.choice(VALUES)
    if kind < 0.6:
        return [junk(choose, depth + 1) for _ in range(choose.randrange(3))]
    return {choose.choice(KEYS): junk(choose, depth + 1) for _ in range(choose.randrange(5))}


def test_junk_is_rendered_or_refused_in_a_sentence() -> None:
    choose, rendered = random.Random(3), 0
    for _ in range(3000):
        message = {"role": choose.choice(VALUES[:4]), "content": choose.choice(["x", "", None, junk(choose, 2)])}
        if choose.random() < 0.5:
            message[choose.choice(KEYS)] = junk(choose, 2)  # type: ignore[index]
        options: dict[str, Any] = {}
        if choose.random() < 0.4:
            options["tools"] = choose.choice([[junk(choose)], [{"name": "f", "description": junk(choose, 3), "parameters": junk(choose)}]])
        if choose.random() < 0.2:
            options["response_format"] = junk(choose)
        try:
            harmony.render([USER, message], small_tokenizer(), **options)
            rendered += 1
        except MessageError as error:
            assert "\n" not in str(error)
    assert rendered > 100
