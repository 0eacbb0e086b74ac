"""Harmony: whatever a model generates, back to messages and events."""

from __future__ import annotations

import pickle

import pytest

from gptoss_native.events import (
    Done,
    MessageDone,
    OtherDelta,
    PreambleDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallDone,
)
from gptoss_native.harmony import DeveloperContent, Message, Parser, ResponseFormat, Tool, functions
from gptoss_native.tokenizer import Tokenizer
from harmony_cases import CASES, FINE
from vocabularies import (
    released_tokenizer,
    small_tokenizer,
    with_controls,
)


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


@pytest.mark.parametrize("vocabulary", ["small", "released"])
@pytest.mark.parametrize(
    ("completion", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_completions_are_read(
    completion: str, expected: list[tuple[str | None, ...]], vocabulary: str
) -> None:
    if vocabulary == "released":
        completion = completion.replace("reserved_572", "reserved_200000")
        expected = [tuple(f and f.replace("reserved_572", "reserved_200000") for f in m) for m in expected]
    parser = parse(completion, released_tokenizer() if vocabulary == "released" else small_tokenizer())
    assert [told(message) for message in parser.messages] == expected


@pytest.mark.parametrize(
    ("ending", "terminator", "reason"),
    [
        ("<|return|>", "return", "stop"),
        ("<|call|>", "call", "stop"),
        ("<|endoftext|>", "eos", "stop"),
        ("<|end|>", "end", "length"),
        ("", "eos", "length"),
        ("<|start|>assistant", "implicit", "length"),
        ("<|end|><|return|>", "end", "stop"),
    ],
)
def test_what_ended_a_message_and_the_completion_is_recorded(
    ending: str, terminator: str, reason: str
) -> None:
    parser = Parser(small_tokenizer())
    parser.feed(with_controls(small_tokenizer(), "<|channel|>final<|message|>ok" + ending))
    done = parser.finish()[-1]
    assert isinstance(done, Done) and done.reason == reason and done.text == "ok"
    assert [message.terminator for message in done.messages] == [terminator]


@pytest.mark.parametrize(
    ("ending", "reason"), [("<|call|>", "tool_calls"), ("<|return|>", "tool_calls"), ("<|endoftext|>", "tool_calls"), ("", "length")]
)
def test_a_completion_that_ends_in_a_call_was_ended_by_it(ending: str, reason: str) -> None:
    for policy in ("tolerant", "compat") if ending != "<|endoftext|>" else ("tolerant",):
        parser = Parser(small_tokenizer(), policy=policy)  # type: ignore[arg-type]
        parser.feed(with_controls(small_tokenizer(), "<|channel|>commentary to=functions.f<|message|>{}" + ending))
        done = parser.finish()[-1]
        assert isinstance(done, Done) and done.reason == reason and len(done.calls) == 1


def test_a_wrong_token_id_leaves_the_batch_unread() -> None:
    parser = Parser(small_tokenizer())
    with pytest.raises(TypeError):
        parser.feed([*with_controls(small_tokenizer(), "<|channel|>final<|message|>ok"), "x"])  # type: ignore[list-item]
    parser.feed(with_controls(small_tokenizer(), FINE))
    assert parser.text == "ok"


@pytest.mark.parametrize("token", ["<|start|>assistant", "<|channel|>", "<|start|>", "<|constrain|>", "\n", "<|message|>", "<|channel|>x", "<|channel|> ", "<|call|> x"])
@pytest.mark.parametrize("before", ["", "<|channel|>final<|message|>"])
def test_long_repetitions_are_read_in_linear_time(token: str, before: str) -> None:
    parser = Parser(small_tokenizer())
    parser.feed(with_controls(small_tokenizer(), before))
    parser.feed(with_controls(small_tokenizer(), token) * 30_000)
    parser.feed(with_controls(small_tokenizer(), f"<|start|>assistant{FINE}"))
    assert parser.messages[-1].text == "ok"


def test_events_come_as_the_text_does() -> None:
    tokenizer = small_tokenizer()
    parser = Parser(tokenizer)
    think, talk = (
        with_controls(tokenizer, "<|channel|>analysis<|message|>\u00e9"),
        with_controls(tokenizer, "<|end|>"),
    )
    events = [parser.feed(token) for token in think]
    assert events[-2:] == [[], [ReasoningDelta("\u00e9")]] and not any(events[:-2])
    done = parser.feed(talk)
    assert done == [
        MessageDone(
            Message("assistant", "\u00e9", channel="analysis", terminator="end", token_ids=(*think, *talk))
        )
    ]
    assert parser.reasoning == "\u00e9" and parser.text == ""


def test_each_kind_of_message_has_its_event() -> None:
    parser = Parser(small_tokenizer())
    events = parser.feed(
        with_controls(
            small_tokenizer(),
            "<|start|>assistant".join(
                [
                    "<|channel|>analysis<|message|>a<|end|>",
                    "<|channel|>commentary<|message|>b<|end|>",
                    "<|channel|>final<|message|>c<|end|>",
                    " to=functions.f<|channel|>commentary<|message|>d<|call|>",
                ]
            )
            + "<|start|>user<|message|>e",
        )
    )
    deltas = [event for event in events if not isinstance(event, (MessageDone, ToolCallDone))]
    assert deltas == [
        ReasoningDelta("a"),
        PreambleDelta("b"),
        TextDelta("c"),
        ToolCallDelta("functions.f", "d", "f", "call_1"),
        OtherDelta("user", "e"),
    ]
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
    parser.feed(with_controls(tokenizer, f"<|start|>user<|message|>Hi<|end|><|start|>assistant{FINE}"))
    assert [message.role for message in parser.messages] == ["user", "assistant"]
    assert not any(message.malformed for message in parser.messages)


def test_messages_can_be_keys_and_can_be_pickled() -> None:
    [message] = parse('<|channel|>commentary to=functions.f<|message|>{"a": 1}<|call|>').messages
    content = Message("developer", DeveloperContent(None, (functions(Tool("f", None, {})),), (ResponseFormat("x", {}),)))
    assert len({message, content, message}) == 2
    assert pickle.loads(pickle.dumps([message, content])) == [message, content]


def test_a_character_that_makes_a_header_too_long_stays_whole() -> None:
    for word_count in range(1, 9):
        text = " a" * word_count + " \U0001f600 b c d e f g"
        for before in ("", " to=functions.f", " to=functions.f code", "<|channel|>commentary to=functions.f", "<|channel|>x"):
            parser = Parser(small_tokenizer())
            parser.feed(with_controls(small_tokenizer(), before))
            for byte in text.encode():
                parser.feed(byte)
            parser.finish()
            assert "\U0001f600 b c d e f g" in "".join(message.text for message in parser.messages)


def test_bytes_on_both_sides_of_a_header_make_no_character() -> None:
    parser = Parser(small_tokenizer())
    parser.feed([*with_controls(small_tokenizer(), "<|channel|>words "), 231, 137, *with_controls(small_tokenizer(), "<|channel|>user:bob<|message|>"), 130, *b" end"])
    parser.finish()
    assert parser.text.count("\ufffd") == 2 and "\u7242" not in parser.text
