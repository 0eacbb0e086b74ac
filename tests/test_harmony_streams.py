"""Harmony: what holds for every stream of tokens, however broken."""

from __future__ import annotations

import random
import string
from itertools import chain

from hypothesis import given, settings
from hypothesis import strategies as st

from gptoss_native import harmony
from gptoss_native.events import (
    Done,
    Event,
    MessageDone,
    PreambleDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallDone,
)
from gptoss_native.harmony import Message, Parser
from gptoss_native.harmony.messages import CHANNELS
from vocabularies import (
    SMALL_VOCAB_SIZE,
    small_tokenizer,
    with_controls,
)

HEADER_WORDS = [
    "assistant",
    "user",
    "analysis",
    "commentary",
    "final",
    " to=functions.f",
    " to=assistant",
    " json",
    "\n",
    "?",
    "functions.f",
    " python",
    "<|channel|>",
    "to=",
    "<|constrain|>",
]
CONTROLS = [
    "start",
    "end",
    "message",
    "channel",
    "constrain",
    "return",
    "call",
    "endoftext",
    "startoftext",
    "reserved_572",
]


def fragment(kind: int, choose: random.Random) -> list[int]:
    tokenizer = small_tokenizer()
    if kind < 5:
        return [tokenizer.specials[f"<|{choose.choice(CONTROLS)}|>"]]
    if kind < 8:
        return tokenizer.encode(choose.choice(HEADER_WORDS))
    return [choose.randrange(-2, SMALL_VOCAB_SIZE + 2) for _ in range(choose.randrange(4))]


STREAMS = st.builds(
    lambda kinds, choose: list(chain.from_iterable(fragment(kind, choose) for kind in kinds)),
    st.lists(st.integers(0, 9), max_size=30),
    st.randoms(use_true_random=False),
)


def run(stream: list[int], cuts: list[int]) -> tuple[Parser, list[Event]]:
    parser = Parser(small_tokenizer())
    events: list[Event] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        events += parser.feed(stream[start:end])
    return parser, events + parser.finish()


@settings(deadline=None, max_examples=600)
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
        elif not isinstance(event, ToolCallDone):
            assert not isinstance(event, Done) and event.text
            pieces.append(event.text)
            kinds.add(type(event))
    assert messages == whole.messages and not pieces
    done = events[-1]
    assert isinstance(done, Done)
    assert done.text == "".join(event.text for event in events[:-1] if isinstance(event, TextDelta))
    assert done.reasoning == "".join(event.text for event in events[:-1] if isinstance(event, ReasoningDelta))
    assert done.preamble == "".join(event.text for event in events[:-1] if isinstance(event, PreambleDelta))


@settings(deadline=None, max_examples=300)
@given(STREAMS)
def test_any_parsed_message_can_be_rendered_again_and_no_field_spells_a_control_token(
    stream: list[int],
) -> None:
    parser, _ = run(stream, [])
    harmony.render_conversation(parser.messages, small_tokenizer(), drop_analysis="none")
    consumed = [token for message in parser.messages for token in message.token_ids]
    assert consumed == stream[: len(consumed)]


SENTENCE_WORDS = 8  # more than any header has, so wherever it stands it is text


@settings(deadline=None, max_examples=600)
@given(st.lists(st.integers(0, 9), max_size=20), st.randoms(use_true_random=False))
def test_no_sentence_is_lost_wherever_it_stands(kinds: list[int], choose: random.Random) -> None:
    tokenizer = small_tokenizer()
    stream: list[int] = []
    sentences: list[str] = []
    for number, kind in enumerate(kinds):
        if kind < 8:
            stream += fragment(kind, choose)
        else:
            sentences.append(
                "".join(f" {choose.choice(string.ascii_uppercase)}{number}é😀" for _ in range(SENTENCE_WORDS))
            )
            stream += tokenizer.encode(sentences[-1])
    parser, _ = run(stream, [])
    text = "".join(message.text for message in parser.messages)
    at = 0
    for sentence in sentences:
        assert sentence in text[at:]
        at = text.index(sentence, at) + len(sentence)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=5),
    st.text(string.ascii_letters + " é😀\n", max_size=20),
    st.data(),
)
def test_mutated_completions_leak_no_control_spelling(
    channels: list[str], text: str, data: st.DataObject
) -> None:
    tokenizer = small_tokenizer()
    stream = with_controls(
        tokenizer, "<|end|><|start|>assistant".join(f"<|channel|>{c}<|message|>{text}" for c in channels)
    )
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
            stream.insert(
                at,
                tokenizer.specials[
                    data.draw(st.sampled_from(["<|end|>", "<|channel|>", "<|start|>", "<|call|>"]))
                ],
            )
    parser, _ = run(stream, [])
    assert not any("<|" in message.text for message in parser.messages)
