"""Harmony: the policies and options that are exactly the openai-harmony library's, oddities included."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pytest

from gptoss_native import harmony
from gptoss_native.events import Done, MessageDone, TextDelta, ToolCallDelta, ToolCallDone
from gptoss_native.harmony import CompatParser, Message, MessageError, ParseError, Parser
from harmony_streams import stream
from vocabularies import ranks_file, released_tokenizer, small_tokenizer, with_controls


@pytest.fixture(scope="module")
def library() -> Any:
    module = pytest.importorskip("openai_harmony", reason="the reference implementation of Harmony is not installed")
    os.environ["TIKTOKEN_ENCODINGS_BASE"] = str(ranks_file().parent)
    return module


@pytest.fixture(scope="module")
def oracle(library: Any) -> Any:
    return library.load_harmony_encoding(library.HarmonyEncodingName.HARMONY_GPT_OSS)


def theirs(parser: Any) -> tuple[Any, ...]:
    messages = [
        (m["role"], m.get("name"), m.get("channel"), m.get("recipient"), m.get("content_type"), "".join(item["text"] for item in m["content"]) if isinstance(m["content"], list) else m["content"])
        for m in json.loads(parser.messages)
    ]
    return (json.loads(parser.state)["state"], parser.current_role, parser.current_channel, parser.current_recipient,
            parser.current_content_type, parser.last_content_delta, parser.current_content, messages)


def ours(parser: CompatParser) -> tuple[Any, ...]:
    messages = [(m.role, m.name, m.channel, m.recipient, m.content_type, m.text) for m in parser.messages]
    return (parser.state, parser.current_role, parser.current_channel, parser.current_recipient,
            parser.current_content_type, parser.last_content_delta, parser.current_content, messages)


def refused(error: type[Exception], step: Any, *arguments: int) -> str | None:
    try:
        step(*arguments)
    except error as refusal:
        return str(refusal)
    return None


def test_random_streams_are_read_as_the_oracle_reads_them_token_by_token(library: Any, oracle: Any) -> None:
    choose, tokenizer = random.Random(21), released_tokenizer()
    for _ in range(1200):
        # 200018 and what is just behind the vocabulary have other names there
        ids = [i if 0 <= i < tokenizer.vocab_size and i != 200018 else 300_000 for i in stream(tokenizer, choose)]
        role, strict = choose.choice([None, "assistant", "assistant", "user", "tool"]), choose.random() < 0.6
        oracles = library._PyStreamableParser(oracle._inner, role, strict)
        parser = CompatParser(tokenizer, role, strict=strict)  # type: ignore[arg-type]
        for token in [*ids, None]:
            a = refused(library.HarmonyError, *((oracles.process_eos,) if token is None else (oracles.process, token)))
            b = refused(ParseError, *((parser.process_eos,) if token is None else (parser.process, token)))
            assert (a is None) == (b is None) and theirs(oracles) == ours(parser), (ids, role, strict, a, b)


def ids(text: str) -> list[int]:
    return with_controls(small_tokenizer(), text)


def test_events_of_compat_are_those_of_the_tolerant_parser_where_nothing_is_wrong() -> None:
    completion = ids("<|channel|>analysis<|message|>a\u00e9<|end|><|start|>assistant<|channel|>commentary to=functions.f"
                     " <|constrain|>json<|message|>{}<|call|><|start|>assistant<|channel|>final<|message|>ok<|return|>")
    events: list[Any] = []
    for policy in ("tolerant", "compat"):
        parser = Parser(small_tokenizer(), policy=policy, tools=[{"name": "f"}])  # type: ignore[arg-type]
        told = [event for token in completion for event in parser.feed(token)] + parser.finish()
        assert (parser.text, parser.reasoning, [call.name for call in parser.calls]) == ("ok", "a\u00e9", ["f"])
        assert parser.place == "between"
        events.append(told)
    assert events[0] == events[1]
    assert {type(event) for event in events[1]} >= {TextDelta, ToolCallDelta, ToolCallDone, MessageDone, Done}


def test_an_error_tells_where_and_what_was_known_and_the_parser_goes_on() -> None:
    parser = Parser(small_tokenizer(), policy="compat")
    bad = ids("<|channel|>final<|message|>ok<|end|>stray")
    with pytest.raises(ParseError, match="Unexpected token .* while expecting start token") as error:
        parser.feed(bad)
    assert error.value.index == len(ids("<|channel|>final<|message|>ok<|end|>"))
    assert [type(event) for event in error.value.events] == [TextDelta, MessageDone] or len(error.value.events) > 1
    parser.feed(ids("<|start|>assistant<|channel|>final<|message|>more<|return|>"))
    assert [message.text for message in parser.messages] == ["ok", "more"]
    with pytest.raises(ParseError, match="Unexpected EOS"):
        parser.feed(ids("<|start|>assistant"))
        parser.finish()


def test_without_strict_a_header_that_ends_is_text() -> None:
    parser = Parser(small_tokenizer(), policy="compat", strict=False)
    parser.feed(ids("I can't.<|end|>"))
    assert [message.text for message in parser.messages] == ["I can't."]


@pytest.mark.parametrize("options", [{"role": "owner"}, {"policy": "lenient"}, {"tools": 3}])
def test_options_of_the_parser_are_checked(options: Any) -> None:
    with pytest.raises(MessageError, match="expected"):
        Parser(small_tokenizer(), **options)


@pytest.mark.parametrize("tokens", ["text", 1.5, [1.5], ["a"], None, b"x" * 0 + b"", [None]])
@pytest.mark.parametrize("policy", ["tolerant", "compat"])
def test_what_is_no_token_id_is_a_type_error(policy: Any, tokens: Any) -> None:
    parser = Parser(small_tokenizer(), policy=policy)
    if tokens == b"":
        assert parser.feed(tokens) == []
        return
    with pytest.raises(TypeError):
        parser.feed(tokens)


def test_token_ids_of_numpy_are_ids() -> None:
    numpy = pytest.importorskip("numpy")
    parser = Parser(small_tokenizer())
    parser.feed(numpy.array(ids("<|channel|>final<|message|>o"), numpy.int32))
    parser.feed(numpy.int64(ord("k")))
    parser.finish()
    assert parser.text == "ok" and all(type(i) is int for i in parser.messages[0].token_ids)


# Rendering


def text(messages: list[Message], **options: Any) -> str:
    return small_tokenizer().decode(harmony.render_conversation(messages, small_tokenizer(), **options))


def test_a_message_to_all_ends_as_a_call_only_in_compat() -> None:
    message = [Message("assistant", "x", channel="final", recipient="all")]
    assert text(message) == "<|start|>assistant<|channel|>final<|message|>x<|end|>"
    assert text(message, compat=True) == "<|start|>assistant<|channel|>final<|message|>x<|call|>"


def test_training_keeps_reasoning_and_ends_in_return() -> None:
    messages = [Message("user", "Hi"), Message("assistant", "Hm.", channel="analysis"), Message("assistant", "Hello.", channel="final")]
    trained = small_tokenizer().decode(harmony.render_conversation_for_training(messages, small_tokenizer()))
    assert "Hm.<|end|>" in trained and trained.endswith("Hello.<|return|>") and trained.count("<|return|>") == 1
    dropped = harmony.render_conversation_for_training(messages, small_tokenizer(), drop_analysis="first_final")
    assert "Hm." not in small_tokenizer().decode(dropped)
    call = [Message("assistant", "{}", channel="final", recipient="functions.f")]
    last = {compat: harmony.render_conversation_for_training(call, small_tokenizer(), compat=compat)[-1] for compat in (False, True)}
    specials = small_tokenizer().specials
    assert last == {False: specials["<|call|>"], True: specials["<|return|>"]}
    assert harmony.render_conversation_for_training([], small_tokenizer()) == []


def test_the_next_role_is_the_callers() -> None:
    prompt = harmony.render_conversation_for_completion([], small_tokenizer(), "user")
    assert small_tokenizer().decode(prompt) == "<|start|>user"
    with pytest.raises(MessageError, match="the next role"):
        harmony.render_conversation_for_completion([], small_tokenizer(), "owner")  # type: ignore[arg-type]


# Ending reasoning


@pytest.mark.parametrize(
    ("so_far", "closing"),
    [
        ("", "<|channel|>final<|message|>"),
        ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        ("<|channel|>analysis<|message|>Hm.", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        ("<|channel|>analysis<|message|>Hm.<|end|>", "<|start|>assistant<|channel|>final<|message|>"),
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>", "assistant<|channel|>final<|message|>"),
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant", ""),
        ("<|channel|>", ""),
        ("<|channel|>analysis", ""),
        ("<|channel|>final<|message|>Hi", ""),
        ("<|channel|>commentary<|message|>Hi", ""),
        ("<|channel|>commentary to=functions.f<|message|>{", ""),
    ],
)
def test_reasoning_can_be_closed_where_it_does_no_harm(so_far: str, closing: str) -> None:
    parser = Parser(small_tokenizer())
    parser.feed(ids(so_far))
    ending = harmony.closing_ids(parser, small_tokenizer())
    assert ending == ids(closing)
    if ending:
        parser.feed([*ending, *ids("So.<|return|>")])
        assert parser.text == "So." and not any(message.malformed for message in parser.messages)


def test_reasoning_is_not_closed_in_the_middle_of_a_character() -> None:
    parser = Parser(small_tokenizer())
    parser.feed([*ids("<|channel|>analysis<|message|>"), 0xE4])
    assert harmony.closing_ids(parser, small_tokenizer()) == []
    parser.feed([0xBA, 0xAC])
    assert harmony.closing_ids(parser, small_tokenizer()) != []
