"""Harmony: conversations to tokens as the format says, and whatever a model generates back to messages."""

from __future__ import annotations

import json
import os
import random
import string
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptoss_native import harmony
from gptoss_native.errors import GptOssError, TokenizerError
from gptoss_native.events import (
    Delta,
    Done,
    Event,
    MessageDone,
    OtherDelta,
    PreambleDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from gptoss_native.harmony import DeveloperContent, Message, MessageError, Parser, SystemContent
from gptoss_native.harmony.messages import CHANNELS, kind_of
from gptoss_native.harmony.render import DropAnalysis, without_old_analysis
from gptoss_native.tokenizer import Tokenizer
from vocabularies import SMALL_VOCAB_SIZE, ranks_file, released_tokenizer, small_document, small_tokenizer, with_controls

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
        "<|start|>system<|message|>I am a test.\nCurrent date: 2025-08-05\n\n# Valid channels: final.<|end|>")
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
    text = rendered([USER, {"role": "assistant", "content": "Hello."}, {"role": "user", "name": "alice", "content": "?"}])
    assert text.endswith("Hi<|end|><|start|>assistant<|channel|>final<|message|>Hello.<|end|>"
                         "<|start|>user:alice<|message|>?<|end|><|start|>assistant")


def test_unset_fields_of_clients_are_ignored() -> None:
    dumped = {"role": "assistant", "content": "Hello.", "refusal": None, "tool_calls": None, "annotations": []}
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

    call = Message("assistant", "{}", channel="commentary", recipient="functions.f", content_type="<|constrain|>json")
    assert text(call) == "<|start|>assistant to=functions.f<|channel|>commentary <|constrain|>json<|message|>{}<|call|>"
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
            with pytest.raises(MessageError, match="a header field must not spell a control token"):
                harmony.render_message(replace(Message("user", "x"), **{field: value}), small_tokenizer())


REFUSED: list[tuple[Any, str]] = [
    ("Hi", "expected a list of messages"),
    ({"role": "user", "content": "Hi"}, "expected a list of messages"),
    (None, "expected a list of messages"),
    ([], "at least one message"),
    (["Hi"], r"messages\[0\] is 'Hi'"),
    ([USER, {"content": "Hi"}], r"messages\[1\] has role None; supported are system, developer, user, assistant"),
    ([{"role": "tool", "content": "42", "tool_call_id": "1"}], "role 'tool'.*tools are not supported yet"),
    ([{"role": ["user"], "content": "x"}], "has role"),
    ([{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}], "'tool_calls', which is not supported"),
    ([{"role": "user", "content": "x", "channel": "final"}], "'channel', which is not supported"),
    ([{"role": "assistant", "content": "x", "channel": "thoughts"}], "channel 'thoughts', expected one of analysis"),
    ([{"role": "assistant", "content": "x", "channel": 3}], "3 as channel, expected text"),
    ([{"role": "user", "content": "x", "name": ""}], "'' as name, expected text"),
    ([{"role": "user", "content": "x", "name": "<|end|>"}], r"name.*contains <\|end\|>"),
    ([{"role": "user"}], "has None as content, expected text or a list of text parts"),
    ([{"role": "user", "content": 3}], "has 3 as content"),
    ([{"role": "user", "content": b"x"}], "as content"),
    ([{"role": "user", "content": {"type": "text", "text": "x"}}], "as content"),
    ([{"role": "user", "content": ["x"]}], r"content\[0\] is 'x', expected"),
    ([{"role": "user", "content": [{"type": "text", "text": 1}]}], r"content\[0\] is"),
    ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]}],
     r"content\[1\] has type 'image_url'; this model reads text only"),
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
    return [Message("user", str(i)) if c == "user" else Message("assistant", str(i), channel=c)
            for i, c in enumerate(channels)]


TWO_TURNS = talk("user", "analysis", "final", "user", "analysis", "commentary", "final")
IN_A_TOOL_LOOP = talk("user", "analysis", "final", "user", "analysis", "commentary", "analysis")


@pytest.mark.parametrize(("messages", "policy", "kept"), [
    (TWO_TURNS, "last_final", "02356"), (TWO_TURNS, "first_final", "023456"), (TWO_TURNS, "none", "0123456"),
    (IN_A_TOOL_LOOP, "last_final", "023456"), (IN_A_TOOL_LOOP, "first_final", "0123456"),
    (talk("user", "analysis"), "last_final", "01"), (talk("user"), "first_final", "0"),
])
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
    assert harmony.stop_ids(small_tokenizer()) == {specials[s] for s in ("<|return|>", "<|call|>", "<|endoftext|>")}
    tokenizer = without_specials(tmp_path, "call", "endoftext", "constrain")
    assert harmony.stop_ids(tokenizer) == {specials["<|return|>"]}
    assert parse("<|channel|>final<|message|>Hi<|return|>", tokenizer).text == "Hi"


# Parsing


def parse(completion: str, tokenizer: Tokenizer | None = None) -> Parser:
    tokenizer = tokenizer or small_tokenizer()
    parser = Parser(tokenizer)
    parser.feed(with_controls(tokenizer, completion))
    parser.finish()
    return parser


def told(message: Message) -> tuple[str | None, ...]:
    """A message as (kind, channel, text), and behind it what is unusual about it."""
    kind = message.kind if message.role == "assistant" else message.role
    unusual = [message.recipient, message.content_type, "malformed" if message.malformed else None]
    return (kind, message.channel, message.text, *[item for item in unusual if item is not None])


FINE = "<|channel|>final<|message|>ok<|return|>"
OK = ("text", "final", "ok")
A = ("reasoning", "analysis", "a")
CALL = ("call", "commentary", "{}", "functions.f")

CASES: list[tuple[str, str, list[tuple[str | None, ...]]]] = [
    ("well formed", f"<|channel|>analysis<|message|>a<|end|><|start|>assistant{FINE}", [A, OK]),
    ("preamble", f"<|channel|>commentary<|message|>a<|end|><|start|>assistant{FINE}", [("preamble", "commentary", "a"), OK]),
    ("nothing", "", []),
    ("final only (38)", FINE, [OK]),
    ("endoftext ends", "<|channel|>final<|message|>ok<|endoftext|>", [OK]),
    # text where a header belongs
    ("refusal (1)", " I can't.\n<|end|>", [("text", None, " I can't.\n", "malformed")]),
    ("refusal, then fine (1)", f"No.<|end|><|start|>assistant{FINE}", [("text", None, "No.", "malformed"), OK]),
    ("refusal without end (1)", f"No.<|start|>assistant{FINE}", [("text", None, "No.", "malformed"), OK]),
    ("long refusal (1)", "I can't help anyone at all with that.<|return|>",
     [("text", None, "I can't help anyone at all with that.", "malformed")]),
    ("refusal of one letter (1)", "!<|return|>", [("text", None, "!", "malformed")]),
    ("refusal in a later message (2)", f"{FINE}<|start|>assistant No.<|end|>", [OK, ("text", None, " No.", "malformed")]),
    ("refusal, then a channel (24)", f"I can't do it, and I will not.{FINE}",
     [("text", None, "I can't do it, and I will not.", "malformed"), (*OK, "malformed")]),
    ("refusal, then a message (24)", "I can't do it, and I will not.<|message|>ok",
     [("text", None, "I can't do it, and I will not.", "malformed"), ("text", None, "ok", "malformed")]),
    ("prose before a message", "I can't<|message|>ok", [("text", None, "I can't", "malformed"), ("text", None, "ok", "malformed")]),
    # channels
    ("question mark (3)", "<|channel|>commentary?<|message|>a", [("preamble", "commentary", "a", "malformed")]),
    ("doubled name (3)", "<|channel|>commentary?commentary?<|end|>", [("preamble", "commentary", "", "malformed")]),
    ("number (3)", "<|channel|>commentary 2?<|message|>a", [("preamble", "commentary", "a", "malformed")]),
    ("doubled marker (3)", "<|channel|>commentary to=assistant<|channel|>commentary?<|message|>a",
     [("preamble", "commentary", "a", "assistant", "malformed")]),
    ("only question marks (3)", f"<|channel|>??<|end|><|start|>assistant{FINE}", [("text", "??", "", "malformed"), OK]),
    ("glued text (3)", "<|channel|>analysisWe need<|end|>", [("reasoning", "analysis", "We need", "malformed")]),
    ("text after the name (3)", "<|channel|>analysis We need<|message|> more",
     [("reasoning", "analysis", " We need more", "malformed")]),
    ("long text after the name (3)", "<|channel|>analysis We need to think about this for a while.<|end|>",
     [("reasoning", "analysis", " We need to think about this for a while.", "malformed")]),
    ("a sentence for a name (3)", "<|channel|>I think so<|message|>.", [("text", None, "I think so.", "malformed")]),
    ("dashes (3)", "<|channel|>\u2013\u2013commentary<|message|>a", [("preamble", "commentary", "a", "malformed")]),
    ("unknown name (4)", "<|channel|>mardown<|message|>a", [("text", "mardown", "a", "malformed")]),
    ("unknown name of a call (4)", "<|channel|>mardown to=functions.f<|message|>{}",
     [("call", "mardown", "{}", "functions.f", "malformed")]),
    ("capital", "<|channel|>Final<|message|>a", [("text", "final", "a", "malformed")]),
    ("blank before the name", "<|channel|> final<|message|>a", [("text", "final", "a", "malformed")]),
    ("empty (5)", "<|channel|><|message|>a", [("text", None, "a", "malformed")]),
    ("none (6)", "<|message|>a<|return|>", [("text", None, "a")]),
    # recipients and content types
    ("recipient first (7)", " to=functions.f<|channel|>commentary <|constrain|>json<|message|>{}<|call|>",
     [(*CALL, "<|constrain|>json")]),
    ("recipient last (7)", "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>",
     [(*CALL, "<|constrain|>json")]),
    ("glued type (8)", "<|channel|>commentary to=functions.f<|constrain|>json<|message|>{}<|call|>",
     [(*CALL, "<|constrain|>json")]),
    ("type on final (10)", "<|channel|>final <|constrain|>json<|message|>{}", [("text", "final", "{}", "<|constrain|>json")]),
    ("bare type on final (10)", "<|channel|>final json<|message|>{}", [("text", "final", "{}", "json")]),
    ("type apart (11)", "<|channel|>commentary to=functions.f<|constrain|> json<|message|>{}",
     [(*CALL, "<|constrain|>json", "malformed")]),
    ("type before recipient (11)", "<|channel|>commentary <|constrain|>json to=functions.f<|message|>{}",
     [(*CALL, "<|constrain|>json")]),
    ("bare recipient", "<|channel|>commentary functions.f json<|message|>{}", [(*CALL, "json", "malformed")]),
    ("spelled marker in the name (13)", "<|channel|>commentary to=functions.f<|chan" + "nel|>commentary json<|message|>{}",
     [(*CALL, "json", "malformed")]),
    ("reasoning channel (14)", "<|channel|>analysis to=python code<|message|>1<|call|>",
     [("call", "analysis", "1", "python", "code")]),
    ("to the assistant (15)", "<|channel|>commentary to=assistant<|message|>a", [("preamble", "commentary", "a", "assistant")]),
    ("call ended by end (18)", "<|channel|>commentary to=functions.f<|message|>{}<|end|>", [CALL]),
    ("stray word before the header (19)", "commentary<|channel|>commentary to=functions.f<|message|>{}<|call|>",
     [(*CALL, "malformed")]),
    # between messages
    ("end, return (21)", "<|channel|>final<|message|>ok<|end|><|return|>", [OK]),
    ("end, blanks, end (21)", "<|channel|>final<|message|>ok<|end|>\n <|end|><|endoftext|>", [OK]),
    ("tail after return (21)", f"{FINE} and<|return|>", [OK, ("text", None, " and", "malformed")]),
    ("role without start (22)", f"<|channel|>analysis<|message|>a<|end|>assistant{FINE}", [A, (*OK, "malformed")]),
    ("channel without start (22)", f"<|channel|>analysis<|message|>a<|end|>{FINE}", [A, (*OK, "malformed")]),
    ("bare channel name (22)", "<|channel|>analysis<|message|>a<|end|>commentary to=functions.f<|message|>{}",
     [A, (*CALL, "malformed")]),
    ("no role after start (22)", f"<|channel|>analysis<|message|>a<|end|><|start|>{FINE}", [A, (*OK, "malformed")]),
    ("start twice (23)", f"<|start|><|start|>assistant{FINE}", [(*OK, "malformed")]),
    ("role twice (23)", f"assistantassistant{FINE}", [(*OK, "malformed")]),
    ("role thrice (23)", f"<|start|>assistantassistant assistant{FINE}", [(*OK, "malformed")]),
    ("header of the prompt again (23)", f"<|start|>assistant{FINE}", [(*OK, "malformed")]),
    ("restarted header (23)", f"<|channel|>analysis<|start|>assistant{FINE}", [(*OK, "malformed")]),
    ("role and name glued (23)", "assistantfinal<|message|>ok", [(*OK, "malformed")]),
    # control tokens inside content
    ("start in content (24)", f"<|channel|>analysis<|message|>a<|start|>assistant{FINE}", [A, OK]),
    ("channel in content (24)", f"<|channel|>analysis<|message|>a{FINE}", [A, (*OK, "malformed")]),
    ("call after text (24)", "<|channel|>analysis<|message|>a<|channel|>commentary to=functions.f<|message|>{}",
     [A, (*CALL, "malformed")]),
    ("no header in content (24)", "<|channel|>final<|message|>The<|channel|> fox<|message|> and<|constrain|> dog",
     [("text", "final", "The fox and dog", "malformed")]),
    ("name and no more in content (24)", "<|channel|>final<|message|>The<|channel|>final<|return|>",
     [("text", "final", "Thefinal", "malformed")]),
    ("name and other words in content (24)", "<|channel|>final<|message|>The<|channel|>final of this year was a good one",
     [("text", "final", "Thefinal of this year was a good one", "malformed")]),
    ("startoftext in content", "<|channel|>final<|message|>o<|startoftext|>k", [(*OK, "malformed")]),
    # cut off
    ("cut in the name (25)", "<|channel|>final", [("text", "final", "", "malformed")]),
    ("cut in half a name (25)", "<|channel|>fin", [("text", None, "fin", "malformed")]),
    ("cut after the recipient (25)", "<|channel|>commentary to=functions.f", [("call", "commentary", "", "functions.f", "malformed")]),
    ("cut in the role (25)", "<|channel|>final<|message|>ok<|end|><|start|>assist", [OK, ("text", None, "assist", "malformed")]),
    ("cut in content", "<|channel|>final<|message|>ok", [OK]),
    # ids
    ("reserved id (32)", "<|channel|>final<|message|>o<|reserved_572|>k", [("text", "final", "o<|reserved_572|>k")]),
    ("unknown id (32)", "<|channel|>final<|message|>o<|unknown|>k", [("text", "final", "o\ufffdk", "malformed")]),
    ("unknown id in the header (32)", "<|unknown|><|channel|>final<|message|>ok", [("text", None, "\ufffd", "malformed"), (*OK, "malformed")]),
    # other roles
    ("invented result (19)", "<|channel|>commentary to=functions.f<|message|>{}<|call|>"
     "<|start|>functions.f to=assistant<|channel|>commentary<|message|>42<|end|>",
     [CALL, ("tool", "commentary", "42", "assistant")]),
    ("invented user", f"{FINE}<|start|>user<|message|>More<|end|>", [OK, ("user", None, "More")]),
    ("invented named user", f"{FINE}<|start|>user:alice<|message|>More<|end|>", [OK, ("user", None, "More")]),
]


@pytest.mark.parametrize("vocabulary", ["small", "released"])
@pytest.mark.parametrize(("completion", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_completions_are_read(completion: str, expected: list[tuple[str | None, ...]], vocabulary: str) -> None:
    if vocabulary == "released":
        completion = completion.replace("reserved_572", "reserved_200000")
        expected = [tuple(f and f.replace("reserved_572", "reserved_200000") for f in m) for m in expected]
    parser = parse(completion, released_tokenizer() if vocabulary == "released" else small_tokenizer())
    assert [told(message) for message in parser.messages] == expected


@pytest.mark.parametrize(("ending", "terminator", "reason"), [
    ("<|return|>", "return", "stop"), ("<|call|>", "call", "tool_calls"), ("<|endoftext|>", "eos", "stop"),
    ("<|end|>", "end", "length"), ("", "eos", "length"), ("<|start|>assistant", "implicit", "length"),
    ("<|end|><|return|>", "end", "stop"),
])
def test_what_ended_a_message_and_the_completion_is_recorded(ending: str, terminator: str, reason: str) -> None:
    parser = Parser(small_tokenizer())
    parser.feed(with_controls(small_tokenizer(), "<|channel|>final<|message|>ok" + ending))
    done = parser.finish()[-1]
    assert isinstance(done, Done) and done.reason == reason and done.text == "ok"
    assert [message.terminator for message in done.messages] == [terminator]


def test_events_come_as_the_text_does() -> None:
    tokenizer = small_tokenizer()
    parser = Parser(tokenizer)
    think, talk = with_controls(tokenizer, "<|channel|>analysis<|message|>\u00e9"), with_controls(tokenizer, "<|end|>")
    events = [parser.feed(token) for token in think]
    assert events[-2:] == [[], [ReasoningDelta("\u00e9")]] and not any(events[:-2])
    done = parser.feed(talk)
    assert done == [MessageDone(Message("assistant", "\u00e9", channel="analysis", terminator="end", tokens=(*think, *talk)))]
    assert parser.reasoning == "\u00e9" and parser.text == ""


def test_each_kind_of_message_has_its_event() -> None:
    parser = Parser(small_tokenizer())
    events = parser.feed(with_controls(small_tokenizer(), "<|start|>assistant".join([
        "<|channel|>analysis<|message|>a<|end|>", "<|channel|>commentary<|message|>b<|end|>", "<|channel|>final<|message|>c<|end|>",
        " to=functions.f<|channel|>commentary<|message|>d<|call|>"]) + "<|start|>user<|message|>e"))
    deltas = [event for event in events if not isinstance(event, MessageDone)]
    assert deltas == [ReasoningDelta("a"), PreambleDelta("b"), TextDelta("c"), ToolCallDelta("functions.f", "d"), OtherDelta("user", "e")]
    done = parser.finish()[-1]
    assert isinstance(done, Done) and (done.reasoning, done.preamble, done.text) == ("a", "b", "c")


def test_half_a_character_at_the_end_is_told_before_the_message_is_done() -> None:
    parser = Parser(small_tokenizer())
    parser.feed([*with_controls(small_tokenizer(), "<|channel|>final<|message|>o"), 0xF0, 0x9F])
    delta, done = parser.feed(small_tokenizer().specials["<|return|>"])
    assert delta == TextDelta("\ufffd") and isinstance(done, MessageDone) and done.message.text == "o\ufffd"


def test_refusals_stream_before_they_end() -> None:
    parser = Parser(small_tokenizer())
    events = parser.feed(small_tokenizer().encode("I am sorry, but I can not do any of that."))
    assert events and all(isinstance(event, TextDelta) for event in events)


def test_parsing_without_a_role_reads_prompts_too() -> None:
    tokenizer = small_tokenizer()
    parser = Parser(tokenizer, role=None)
    parser.feed(with_controls(tokenizer, PROMPT_OF_HI + FINE))
    assert [message.role for message in parser.messages] == ["system", "user", "assistant"]
    assert not any(message.malformed for message in parser.messages)


# Properties of any stream

HEADER_WORDS = ["assistant", "user", "analysis", "commentary", "final", " to=functions.f", " to=assistant", " json", "\n", "?",
                "functions.f", " python", "<|channel|>", "to=", "<|constrain|>"]
CONTROLS = ["start", "end", "message", "channel", "constrain", "return", "call", "endoftext", "startoftext", "reserved_572"]


def fragment(kind: int, choose: random.Random) -> list[int]:
    tokenizer = small_tokenizer()
    if kind < 5:
        return [tokenizer.specials[f"<|{choose.choice(CONTROLS)}|>"]]
    if kind < 8:
        return tokenizer.encode(choose.choice(HEADER_WORDS))
    return [choose.randrange(-2, SMALL_VOCAB_SIZE + 2) for _ in range(choose.randrange(4))]


STREAMS = st.builds(
    lambda kinds, choose: list(chain.from_iterable(fragment(kind, choose) for kind in kinds)),
    st.lists(st.integers(0, 9), max_size=30), st.randoms(use_true_random=False))




def run(stream: list[int], cuts: list[int]) -> tuple[Parser, list[Event]]:
    parser = Parser(small_tokenizer())
    events: list[Event] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        events += parser.feed(stream[start:end])
    return parser, events + parser.finish()


@settings(max_examples=600)
@given(STREAMS, st.data())
def test_any_stream_is_read_the_same_however_it_is_cut(stream: list[int], data: st.DataObject) -> None:
    whole, events = run(stream, [])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    for other, their_events in (run(stream, cuts), run(stream, list(range(1, len(stream))))):
        assert other.messages == whole.messages
        assert their_events[-1] == events[-1]
    pieces: list[str] = []
    kinds: set[type[Event]] = set()
    messages: list[Message] = []
    for event in events[:-1]:
        if isinstance(event, MessageDone):
            assert "".join(pieces) == event.message.text and len(kinds) <= 1
            messages.append(event.message)
            pieces, kinds = [], set()
        else:
            assert not isinstance(event, Done) and event.text
            pieces.append(event.text)
            kinds.add(type(event))
    assert messages == whole.messages and not pieces
    done = events[-1]
    assert isinstance(done, Done)
    assert done.text == "".join(event.text for event in events[:-1] if isinstance(event, TextDelta))
    assert done.reasoning == "".join(event.text for event in events[:-1] if isinstance(event, ReasoningDelta))
    assert done.preamble == "".join(event.text for event in events[:-1] if isinstance(event, PreambleDelta))


@settings(max_examples=300)
@given(STREAMS)
def test_any_parsed_message_can_be_rendered_again_and_no_field_spells_a_control_token(stream: list[int]) -> None:
    parser, _ = run(stream, [])
    harmony.render_conversation(parser.messages, small_tokenizer())
    consumed = [token for message in parser.messages for token in message.tokens]
    assert consumed == stream[: len(consumed)]


SENTENCE_WORDS = 8  # more than any header has, so wherever it stands it is text


@settings(max_examples=600)
@given(st.lists(st.integers(0, 9), max_size=20), st.randoms(use_true_random=False))
def test_no_sentence_is_lost_wherever_it_stands(kinds: list[int], choose: random.Random) -> None:
    tokenizer = small_tokenizer()
    stream: list[int] = []
    sentences: list[str] = []
    for number, kind in enumerate(kinds):
        if kind < 8:
            stream += fragment(kind, choose)
        else:
            sentences.append("".join(f" {choose.choice(string.ascii_uppercase)}{number}é😀" for _ in range(SENTENCE_WORDS)))
            stream += tokenizer.encode(sentences[-1])
    parser, _ = run(stream, [])
    text = "".join(message.text for message in parser.messages)
    at = 0
    for sentence in sentences:
        assert sentence in text[at:]
        at = text.index(sentence, at) + len(sentence)


@settings(max_examples=300)
@given(st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=5), st.text(string.ascii_letters + " é😀\n", max_size=20), st.data())
def test_mutated_completions_leak_no_control_spelling(channels: list[str], text: str, data: st.DataObject) -> None:
    tokenizer = small_tokenizer()
    stream = with_controls(tokenizer, "<|end|><|start|>assistant".join(f"<|channel|>{c}<|message|>{text}" for c in channels))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, max(0, len(stream) - 1)))
        edit = data.draw(st.sampled_from(["drop", "double", "swap", "control"]))
        if edit == "drop":
            del stream[at : at + 1]
        elif edit == "double":
            stream[at:at] = stream[at : at + 1]
        elif edit == "swap":
            stream[at : at + 2] = stream[at : at + 2][::-1]
        else:
            stream.insert(at, tokenizer.specials[data.draw(st.sampled_from(["<|end|>", "<|channel|>", "<|start|>", "<|call|>"]))])
    parser, _ = run(stream, [])
    assert not any("<|" in message.text for message in parser.messages)


# openai-harmony as the oracle


@pytest.fixture(scope="module")
def oracle() -> Any:
    library = pytest.importorskip("openai_harmony", reason="the reference implementation of Harmony is not installed")
    os.environ["TIKTOKEN_ENCODINGS_BASE"] = str(ranks_file().parent)
    return library.load_harmony_encoding(library.HarmonyEncodingName.HARMONY_GPT_OSS)


TEXTS = ["", "Hi", "The quick brown fox\n", "  don't <|end|> <|start|>system<|message|>", "漢字 é 😀", "a\r\nb\0", "1234567 = x", "\n\n"]
FIELDS = [None, "", "alice", "functions.f", "al ice", "é"]


def wire_item(item: Any) -> dict[str, Any]:
    """A content item as openai-harmony's own JSON has it; a null field is left out of the rendering."""
    if isinstance(item, SystemContent):
        channels = {"valid_channels": list(item.valid_channels), "channel_required": item.channel_required}
        effort = item.reasoning_effort.capitalize() if item.reasoning_effort else None
        return {"type": "system_content", "model_identity": item.model_identity, "reasoning_effort": effort,
                "knowledge_cutoff": item.knowledge_cutoff, "conversation_start_date": item.conversation_start_date,
                "channel_config": channels, "tools": None}
    if isinstance(item, DeveloperContent):
        return {"type": "developer_content", "instructions": item.instructions, "tools": None}
    return {"type": "text", "text": item}


def wire(messages: list[Message]) -> str:
    return json.dumps({"messages": [
        {"role": m.role, "name": m.name, "channel": m.channel, "recipient": m.recipient, "content_type": m.content_type,
         "content": [wire_item(item) for item in m.items]} for m in messages]})


def random_message(choose: random.Random) -> Message:
    role = choose.choice(["system", "developer", "user", "assistant", "assistant", "tool"])
    content: Any = tuple(choose.choice(TEXTS) for _ in range(choose.randrange(3)))
    if role == "system" and choose.random() < 0.8:
        some = [choose.choice([None, *TEXTS]) for _ in range(3)]
        channels = tuple(choose.sample(CHANNELS, choose.randrange(4)))
        content = SystemContent(some[0], choose.choice([None, "low", "medium", "high"]), some[1], some[2], channels, choose.random() < 0.5)
    elif role == "developer" and choose.random() < 0.8:
        content = DeveloperContent(choose.choice([None, *TEXTS]))
    name = choose.choice(["f", "functions.f"]) if role == "tool" else choose.choice(FIELDS) if choose.random() < 0.2 else None
    channel = choose.choice([*CHANNELS, *CHANNELS, None, "", "x"]) if role in ("assistant", "tool") else None
    recipient = choose.choice(FIELDS) if role in ("assistant", "tool") and choose.random() < 0.3 else None
    content_type = choose.choice([None, None, None, "json", "<|constrain|>json", "<|constrain|>", "", "code"])
    return Message(role, content, name, channel, recipient, content_type)  # type: ignore[arg-type]


def test_random_conversations_render_as_the_oracle_renders_them(oracle: Any) -> None:
    choose = random.Random(5)
    tokenizer = released_tokenizer()
    generation = [tokenizer.specials["<|start|>"], *tokenizer.encode("assistant")]
    for _ in range(1500):
        messages = [random_message(choose) for _ in range(choose.randrange(1, 8))]
        theirs = oracle._inner.render_conversation(wire(messages), {"auto_drop_analysis": False})
        assert harmony.render_conversation(messages, tokenizer) == theirs
        theirs = oracle._inner.render_conversation_for_completion(wire(messages), "assistant", {"auto_drop_analysis": True})
        kept = without_old_analysis(messages, "first_final")
        assert harmony.render_conversation(kept, tokenizer) + generation == theirs


def test_chat_messages_render_as_the_oracle_renders_them(oracle: Any) -> None:
    import openai_harmony as library

    choose = random.Random(6)
    for _ in range(300):
        chat: list[Any] = []
        theirs = [library.Message.from_role_and_content(library.Role.SYSTEM, library.SystemContent.new())]
        for _ in range(choose.randrange(1, 6)):
            role, text = choose.choice(["system", "developer", "user", "assistant"]), choose.choice(TEXTS)
            chat.append({"role": role, "content": text})
            if role in ("system", "developer"):
                content = library.DeveloperContent.new().with_instructions(text)
                theirs.append(library.Message.from_role_and_content(library.Role.DEVELOPER, content))
            else:
                message = library.Message.from_role_and_content(library.Role(role), text)
                theirs.append(message.with_channel("final") if role == "assistant" else message)
        conversation = library.Conversation.from_messages(theirs)
        expected = oracle.render_conversation_for_completion(conversation, library.Role.ASSISTANT)
        assert harmony.render(chat, released_tokenizer()) == expected


def test_well_formed_completions_are_read_as_the_oracle_reads_them(oracle: Any) -> None:
    import openai_harmony as library

    choose = random.Random(8)
    tokenizer = released_tokenizer()
    for _ in range(1000):
        messages = []
        for _ in range(choose.randrange(1, 5)):
            text = choose.choice(TEXTS)
            if choose.random() < 0.3:
                messages.append(Message("assistant", text, channel=choose.choice(["commentary", "analysis"]), recipient="functions.f",
                                        content_type=choose.choice([None, "json", "<|constrain|>json", "code"])))
            else:
                messages.append(Message("assistant", text, channel=choose.choice([*CHANNELS, None])))
        ids = harmony.render_conversation(messages, tokenizer)[2:]  # without <|start|>assistant
        parser = Parser(tokenizer)
        parser.feed(ids)
        parser.finish()
        theirs = oracle.parse_messages_from_completion_tokens(ids, library.Role.ASSISTANT)
        assert [(m.role, m.channel, m.recipient, m.content_type, m.text) for m in parser.messages] == [
            (m.author.role.value, m.channel, m.recipient, m.content_type, "".join(item.text for item in m.content))
            for m in theirs]
        assert not any(message.malformed for message in parser.messages)
        assert [kind_of(m.role, m.channel, m.recipient) for m in parser.messages] == [m.kind for m in messages]
