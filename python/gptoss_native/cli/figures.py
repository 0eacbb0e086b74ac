"""What an answer took: a line for people, numbers for programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gptoss_native.chat.reply import Reply
from gptoss_native.config.strict_json import counted
from gptoss_native.harmony import ToolCall
from gptoss_native.scheduler.results import Completion


@dataclass(frozen=True)
class Figures:
    """first_token: seconds until it came. rate: tokens per second behind it; 0 where there were none. why: what
    ended it, where the model did not."""

    first_token: float
    rate: float
    tokens: int
    reasoning_tokens: int
    prompt_tokens: int
    cached_tokens: int
    why: str | None

    def line(self) -> str:
        parts = [f"first token {self.first_token:.2f} s"]
        if self.rate:
            parts.append(f"{self.rate:.1f} tok/s")
        reasoning = f" ({self.reasoning_tokens:,} reasoning)" if self.reasoning_tokens else ""
        parts.append(counted(self.tokens, "token") + reasoning)
        parts.append(f"prompt {self.prompt_tokens:,} ({self.cached_tokens:,} cached)")
        return ", ".join(parts + ([self.why] if self.why else []))


def of_completion(completion: Completion, max_tokens: int | None) -> Figures:
    return _figures(completion, completion.queue_seconds + completion.prefill_seconds, 1, 0, max_tokens)


def of_reply(reply: Reply, first_event: float, max_tokens: int | None) -> Figures:
    """first_event: seconds until the first event, for turns of several generations, whose times the reply adds up."""
    roles = ["", *(message.role for message in reply.messages)]
    generations = 1 + sum(before != "tool" == role for before, role in zip(roles, roles[1:]))
    first = reply.queue_seconds + reply.prefill_seconds if generations == 1 else first_event
    return _figures(reply, first, generations, reply.reasoning_tokens, max_tokens)


def _figures(done: Completion | Reply, first: float, generations: int, reasoning: int,
             max_tokens: int | None) -> Figures:
    behind = len(done.tokens) - generations
    rate = behind / done.decode_seconds if behind > 0 and done.decode_seconds > 0 else 0.0
    return Figures(first, rate, len(done.tokens), reasoning, done.prompt_tokens, done.cached_tokens,
                   why_it_ended(done, max_tokens))


def why_it_ended(done: Completion | Reply, max_tokens: int | None) -> str | None:
    """None where the model ended it."""
    if done.finish_reason == "length":
        short = max_tokens is not None and len(done.tokens) >= max_tokens
        return f"cut off at --max-tokens {max_tokens}" if short else "cut off: the context is full (--max-context)"
    if done.finish_reason == "loop":
        return "cut off: it repeated itself"
    if done.finish_reason == "tool_calls" and isinstance(done, Reply):
        return "it ended in a call nobody answers: " + ", ".join(call.name for call in done.calls)
    return None


def as_json(reply: Reply, figures: Figures, model: str, *, reasoning: bool) -> str:
    """A turn as one line. reasoning: whether it is told; null where it is not."""
    return json.dumps({
        "model": model,
        "text": reply.text,
        "reasoning": reply.reasoning if reasoning else None,
        "preamble": reply.preamble,
        "calls": [_call(call) for call in reply.calls],
        "results": [_call(result.call) | {"content": result.content, "error": result.error}
                    for result in reply.results],
        "finish_reason": reply.finish_reason,
        "seed": reply.seed,
        "usage": {"prompt_tokens": reply.prompt_tokens, "cached_tokens": reply.cached_tokens,
                  "completion_tokens": len(reply.tokens), "reasoning_tokens": reply.reasoning_tokens},
        "seconds": {"queue": reply.queue_seconds, "prefill": reply.prefill_seconds, "decode": reply.decode_seconds,
                    "first_token": figures.first_token},
        "tokens_per_second": figures.rate,
    })


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "name": call.name, "arguments": call.arguments if call.parsed is None else call.parsed}
