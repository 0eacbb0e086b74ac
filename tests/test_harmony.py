"""Harmony: conversations to tokens as the format says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gptoss_native import harmony
from gptoss_native.errors import GptOssError, TokenizerError
from gptoss_native.harmony import DeveloperContent, Message, MessageError, Parser, SystemContent
from gptoss_native.harmony.render import DropAnalysis, without_old_analysis
from gptoss_native.tokenizer import Tokenizer
from vocabularies import SMALL_VOCAB_SIZE, released_tokenizer, small_document, small_tokenizer, with_controls

SYSTEM = """<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.
Knowledge cutoff: 2024-06

Reasoning: medium

# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>"""
USER = {"role": "user", "content": "Hi"}
PROMPT_OF_HI = SYSTEM + "<|start|>user<|message|>Hi<|end|><|start|>assistant"


def rendered(messages: Any, **options: Any) -> str:
    return small_tokenizer().decode(harmony.render(messages, small_tokenizer(), **options))


# Rendering


def test_a_question_renders_to_its_known_ids() -> None:
    ids = harmony.render([USER], released_tokenizer())
    assert ids[:4] == [200006, 17360, 200008, 3575]
    assert ids[-7:] == [200006, 1428, 200008, 12194, 200007, 200006, 173781]


def test_a_question_renders_under_a_system_message() -> None:
    assert rendered([USER]) == PROMPT_OF_HI
    assert rendered([USER], reasoning="high") == PROMPT_OF_HI.replace("medium", "high")


def test_the_callers_facts_stand_in_the_system_message() -> None:
    system = SystemContent("I am a test.", None, None, "2025-08-05", ("final",), False)
    assert rendered([USER], system=system).startswith(
        "<|start|>system<|message|>I am a test.\nCurrent date: 2025-08-05\n\n# Valid channels: final.<|end|>"
    )
    assert "Reasoning: low" in rendered([USER], system=system, reasoning="low")
    empty = SystemContent(None, None, None, None, ())
    assert rendered([USER], system=empty).startswith("<|start|>system<|message|><|end|><|start|>user")


def test_no_date_is_filled_in() -> None:
    assert "Current date" not in rendered([USER])


@pytest.mark.parametrize("role", ["system", "developer"])
def test_instructions_become_a_developer_message_in_place(role: str) -> None:
    instructions = {"role": role, "content": " Be brief.\r\n"}
    expected = "<|start|>developer<|message|># Instructions\n\n Be brief.\r\n<|end|>"
    assert rendered([instructions, USER]) == PROMPT_OF_HI.replace(SYSTEM, SYSTEM + expected)
    assert rendered([USER, instructions]).endswith(f"Hi<|end|>{expected}<|start|>assistant")


def test_a_system_message_of_the_caller_replaces_ours() -> None:
    own = Message("system", SystemContent(model_identity="Mine", reasoning_effort="low"))
    text = rendered([own, USER], reasoning="high")
    assert text.startswith("<|start|>system<|message|>Mine\n") and text.count("<|start|>system") == 1
    assert "Reasoning: low" in text


def test_earlier_answers_go_to_the_final_channel() -> None:
    text = rendered(
        [USER, {"role": "assistant", "content": "Hello."}, {"role": "user", "name": "alice", "content": "?"}]
    )
    assert text.endswith(
        "Hi<|end|><|start|>assistant<|channel|>final<|message|>Hello.<|end|>"
        "<|start|>user:alice<|message|>?<|end|><|start|>assistant"
    )


def test_unset_fields_of_clients_are_ignored() -> None:
    dumped: dict[str, Any] = {
        "role": "assistant",
        "content": "Hello.",
        "refusal": None,
        "tool_calls": None,
        "annotations": [],
    }
    assert rendered([USER, dumped]) == rendered([USER, {"role": "assistant", "content": "Hello."}])


def test_parts_of_a_text_are_tokenized_apart() -> None:
    tokenizer = small_tokenizer()
    parts = [{"type": "text", "text": "T"}, {"type": "text", "text": "he"}]
    ids = harmony.render([{"role": "user", "content": parts}], tokenizer)
    apart = [*tokenizer.encode("T"), *tokenizer.encode("he")]
    assert apart != tokenizer.encode("The")
    assert ids[-len(tokenizer.encode("assistant")) - 2 - len(apart) :][: len(apart)] == apart
    developer = [{"role": "developer", "content": parts}, USER]
    assert "# Instructions\n\nThe<|end|>" in rendered(developer)


def test_all_header_fields_render_in_their_order() -> None:
    def text(message: Message) -> str:
        return small_tokenizer().decode(harmony.render_message(message, small_tokenizer()))

    call = Message(
        "assistant", "{}", channel="commentary", recipient="functions.f", content_type="<|constrain|>json"
    )
    assert (
        text(call)
        == "<|start|>assistant to=functions.f<|channel|>commentary <|constrain|>json<|message|>{}<|call|>"
    )
    assert text(replace(call, content_type="json")).endswith("commentary json<|message|>{}<|call|>")
    assert text(replace(call, recipient="all")).startswith("<|start|>assistant<|channel|>commentary")
    result = Message("tool", "42", name="functions.f", channel="commentary", recipient="assistant")
    assert text(result) == "<|start|>functions.f to=assistant<|channel|>commentary<|message|>42<|end|>"
    assert text(Message("user", ("a", "b"), channel="")) == "<|start|>user<|channel|><|message|>ab<|end|>"


def spellings() -> list[str]:
    return [*small_tokenizer().specials, "<|reserved_599|>"]


def test_control_spellings_in_content_stay_text() -> None:
    tokenizer = small_tokenizer()
    for spelling in spellings():
        text = f"a{spelling}b"
        messages = [{"role": role, "content": text} for role in ("system", "developer", "user", "assistant")]
        ids = harmony.render(messages, tokenizer, system=SystemContent(text, conversation_start_date=text))
        plain = harmony.render([{**m, "content": "x"} for m in messages], tokenizer)
        controls = set(tokenizer.specials.values())
        assert [i for i in ids if i in controls] == [i for i in plain if i in controls]


@pytest.mark.parametrize("field", ["name", "channel", "recipient", "content_type"])
def test_control_spellings_in_header_fields_are_refused(field: str) -> None:
    for spelling in spellings():
        for value in (spelling, f"functions.f{spelling}x", f"<|constrain|>{spelling}"):
            if field == "content_type" and value == "<|constrain|>":
                continue
            fields: dict[str, Any] = {field: value}
            message = replace(Message("user", "x"), **fields)
            with pytest.raises(MessageError, match="a header field must not spell a control token"):
                harmony.render_message(message, small_tokenizer())


REFUSED: list[tuple[Any, str]] = [
    ("Hi", "expected a list of messages"),
    ({"role": "user", "content": "Hi"}, "expected a list of messages"),
    (None, "expected a list of messages"),
    ([], "at least one message"),
    (["Hi"], r"messages\[0\] is 'Hi'"),
    (
        [USER, {"content": "Hi"}],
        r"messages\[1\] has role None; supported are user, assistant, system, developer, tool",
    ),
    ([{"role": "tool", "content": "42", "tool_call_id": "1"}], "the call '1', which no earlier message made"),
    ([{"role": ["user"], "content": "x"}], "has role"),
    (
        [{"role": "user", "content": "", "tool_calls": [{"id": "1"}]}],
        "'tool_calls', which is not supported",
    ),
    ([{"role": "user", "content": "x", "channel": "final"}], "'channel', which is not supported"),
    (
        [{"role": "assistant", "content": "x", "channel": "thoughts"}],
        "channel 'thoughts', expected one of analysis",
    ),
    ([{"role": "assistant", "content": "x", "channel": 3}], "3 as channel, expected text"),
    ([{"role": "user", "content": "x", "name": ""}], "'' as name, expected text"),
    ([{"role": "user", "content": "x", "name": "<|end|>"}], r"name.*contains <\|end\|>"),
    ([{"role": "user"}], "has None as content, expected text or a list of text parts"),
    ([{"role": "user", "content": 3}], "has 3 as content"),
    ([{"role": "user", "content": b"x"}], "as content"),
    ([{"role": "user", "content": {"type": "text", "text": "x"}}], "as content"),
    ([{"role": "user", "content": ["x"]}], r"content\[0\] is 'x', expected"),
    ([{"role": "user", "content": [{"type": "text", "text": 1}]}], r"content\[0\] is"),
    (
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}],
            }
        ],
        r"content\[1\] has type 'image_url'; this model reads text only",
    ),
    ([Message("tool", "42")], "needs the name of the tool"),
    ([Message("user", SystemContent())], "SystemContent belongs in a message with role 'system'"),
    ([Message("user", DeveloperContent("x"))], "DeveloperContent belongs in a message with role 'developer'"),
    ([Message("owner", "x")], "role 'owner', expected one of"),  # type: ignore[arg-type]
    ([Message("user", 3)], "content of type int"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("messages", "expected"), REFUSED)
def test_messages_that_cannot_be_rendered_are_refused_in_a_sentence(messages: Any, expected: str) -> None:
    with pytest.raises(MessageError, match=expected) as error:
        harmony.render(messages, small_tokenizer())
    assert "\n" not in str(error.value) and isinstance(error.value, GptOssError)


def test_an_unknown_reasoning_effort_is_refused() -> None:
    with pytest.raises(MessageError, match="one of low, medium, high, found 'extreme'"):
        harmony.render([USER], small_tokenizer(), reasoning="extreme")  # type: ignore[arg-type]


def talk(*channels: str) -> list[Message]:
    """One message each: "user", or the channel of an assistant's; its content is its index."""
    return [
        Message("user", str(i)) if c == "user" else Message("assistant", str(i), channel=c)
        for i, c in enumerate(channels)
    ]


TWO_TURNS = talk("user", "analysis", "final", "user", "analysis", "commentary", "final")
IN_A_TOOL_LOOP = talk("user", "analysis", "final", "user", "analysis", "commentary", "analysis")


@pytest.mark.parametrize(
    ("messages", "policy", "kept"),
    [
        (TWO_TURNS, "last_final", "02356"),
        (TWO_TURNS, "first_final", "023456"),
        (TWO_TURNS, "none", "0123456"),
        (IN_A_TOOL_LOOP, "last_final", "023456"),
        (IN_A_TOOL_LOOP, "first_final", "0123456"),
        (talk("user", "analysis"), "last_final", "01"),
        (talk("user"), "first_final", "0"),
    ],
)
def test_old_reasoning_is_dropped_by_policy(messages: list[Message], policy: DropAnalysis, kept: str) -> None:
    assert "".join(message.text for message in without_old_analysis(messages, policy)) == kept


def test_render_drops_reasoning_before_the_last_answer() -> None:
    messages = [USER, {"role": "assistant", "channel": "analysis", "content": "Hm."}]
    assert "Hm." in rendered(messages)
    messages += [{"role": "assistant", "content": "Hello."}, USER]
    assert "Hm." not in rendered(messages)
    assert "Hm." in rendered(messages, drop_analysis="none")


def without_specials(folder: Path, *names: str) -> Tokenizer:
    document = small_document()
    for entry in document["added_tokens"]:
        if entry["content"] in [f"<|{name}|>" for name in names]:
            entry["content"] = f"<|reserved_{entry['id']}|>"
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(document))
    return Tokenizer.from_file(path, SMALL_VOCAB_SIZE)


@pytest.mark.parametrize("name", ["start", "message", "end", "channel", "return"])
def test_a_vocabulary_without_the_format_is_refused_by_name(tmp_path: Path, name: str) -> None:
    tokenizer = without_specials(tmp_path, name)
    with pytest.raises(TokenizerError, match=rf"<\|{name}\|>"):
        Parser(tokenizer)
    with pytest.raises(TokenizerError, match=rf"<\|{name}\|>"):
        harmony.stop_ids(tokenizer)


def test_generation_stops_on_return_call_and_endoftext_but_not_on_end(tmp_path: Path) -> None:
    assert harmony.stop_ids(released_tokenizer()) == {200002, 200012, 199999}
    specials = small_tokenizer().specials
    assert harmony.stop_ids(small_tokenizer()) == {
        specials[s] for s in ("<|return|>", "<|call|>", "<|endoftext|>")
    }
    tokenizer = without_specials(tmp_path, "call", "endoftext", "constrain")
    assert harmony.stop_ids(tokenizer) == {specials["<|return|>"]}
    parser = Parser(tokenizer)
    parser.feed(with_controls(tokenizer, "<|channel|>final<|message|>Hi<|return|>"))
    assert parser.text == "Hi"
