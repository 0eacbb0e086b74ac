"""What both parsers share: which tokens they take, where they stand, how they number calls, and why a completion ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index
from typing import Any, Literal

from gptoss_native.events import EndReason
from gptoss_native.harmony.messages import Kind, Message

Place = Kind | Literal["role", "start", "between", "unfinished"]
"""Where the parser stands: in the content of a message of some kind; behind `<|start|>` and a role, behind `<|start|>`,
between two messages, or in the middle of a header or a character."""


def as_ids(tokens: Any) -> list[int]:
    """One id or several, of any integer type. TypeError for anything else: text, for one."""
    if not isinstance(tokens, Iterable):
        tokens = (tokens,)
    return list(map(index, tokens))  # all of them, before any is read


def call_id(number: int) -> str:
    """Of the conversation's call of that number; the first one is 1."""
    return f"call_{number}"


def end_reason(reason: EndReason, messages: Sequence[Message]) -> EndReason:
    """tool_calls if the completion was stopped and its last message is a call, however it ended."""
    if reason in ("length", "loop"):
        return reason
    return "tool_calls" if messages and messages[-1].call is not None else "stop"
