"""What a turn of a conversation gives back."""

from __future__ import annotations

from dataclasses import dataclass

from gptoss_native.events import EndReason, ToolResult
from gptoss_native.harmony import Message, ToolCall
from gptoss_native.scheduler.results import TopLogprobs


@dataclass(frozen=True)
class Reply:
    """A finished turn of a conversation.

    text: the answer; empty when finish_reason is "length" and the reasoning had no end. reasoning: the analysis
    channel. preamble: what was said to the user before a tool call. messages: all of it, results of tools too, in
    order, without what the model invented in other roles. They keep the model's tokens: a conversation goes on with
    [*messages, *reply.messages, {"role": "user", ...}].
    finish_reason: "stop", "length", "loop", or "tool_calls" when the model ended in calls that are the caller's to
    answer; these are `calls`. results: what the tools that are Python functions gave.
    tokens: of all generations; reasoning_tokens of them are reasoning. prompt_tokens, cached_tokens: of the first one.
    The others are as in Completion, added up over the generations.
    others: the other samples of the turn, where n was more than 1.
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
    queue_seconds: float = 0.0
    reasoning_tokens: int = 0
    calls: tuple[ToolCall, ...] = ()
    results: tuple[ToolResult, ...] = ()
    logprobs: tuple[float, ...] | None = None
    top_logprobs: tuple[TopLogprobs, ...] | None = None
    others: tuple[Reply, ...] = ()

    @property
    def replies(self) -> tuple[Reply, ...]:
        """All n samples of the turn, this one first."""
        return (self, *self.others)
