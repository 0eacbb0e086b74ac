"""What a generation gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptoss_native.events import EndReason
from gptoss_native.harmony import Message

FinishReason = Literal["stop", "length"]
"""stop: a stop token was drawn. length: max_tokens were generated, or the context is full."""


@dataclass(frozen=True)
class StreamToken:
    """One generated token.

    text: what can be shown now. The pieces of all tokens add up to the whole text; a character whose bytes are
    spread over several tokens comes with the last of them; a stop token adds none. None where the folder has
    no tokenizer.json.
    finish_reason: of the last token; None before.
    """

    id: int
    text: str | None
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class Completion:
    """A finished generation.

    tokens: every token drawn; where finish_reason is "stop" the last one is the stop token.
    text: their text without the stop token; None where the folder has no tokenizer.json.
    prompt_tokens: length of the prompt; cached_tokens of them were still in the KV cache and cost nothing.
    seed: the one that was used; it repeats this very completion.
    prefill_seconds, decode_seconds: wall-clock time spent until the first token, and in all the others.
    """

    tokens: tuple[int, ...]
    text: str | None
    finish_reason: FinishReason
    prompt_tokens: int
    cached_tokens: int
    seed: int
    prefill_seconds: float
    decode_seconds: float


@dataclass(frozen=True)
class Reply:
    """A finished turn of a conversation.

    text: the answer; empty when finish_reason is "length" and the reasoning had no end. reasoning: the analysis
    channel. preamble: what was said to the user before a tool call. messages: all of it, in the model's order.
    The conversation goes on with [*messages, {"role": "assistant", "content": reply.text}, {"role": "user", ...}].
    finish_reason: "stop", "length", or "tool_calls" when the model ended in a call. The others: see Completion.
    """

    text: str
    reasoning: str
    preamble: str
    finish_reason: EndReason
    messages: tuple[Message, ...]
    tokens: tuple[int, ...]
    prompt_tokens: int
    cached_tokens: int
    seed: int
    prefill_seconds: float
    decode_seconds: float
