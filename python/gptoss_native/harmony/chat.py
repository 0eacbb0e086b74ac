"""A conversation from messages, tools and response formats as callers have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from gptoss_native.config.strict_json import shown
from gptoss_native.harmony.clients import MessageReader, Messages, read_messages
from gptoss_native.harmony.messages import (
    CHANNELS,
    EFFORTS,
    DeveloperContent,
    Effort,
    Message,
    MessageError,
    ResponseFormat,
    SystemContent,
)
from gptoss_native.harmony.specs import toolbox
from gptoss_native.harmony.toolbox import Toolbox


def chat_messages(
    messages: Messages,
    *,
    reasoning: Effort | None = None,
    system: SystemContent | None = None,
    tools: Toolbox | Iterable[Any] | None = None,
    response_format: ResponseFormat | Mapping[str, Any] | None = None,
    reader: MessageReader | None = None,
) -> list[Message]:
    """The conversation that `render` renders: a system message, tools, and `messages`. reader: see `read_messages`."""
    box = Toolbox() if tools is None else toolbox(tools)
    conversation = read_messages(messages, box, reader)
    formats = () if response_format is None else (read_response_format(response_format),)
    if not conversation or conversation[0].role != "system":
        conversation.insert(0, system_message(system, reasoning, box))
    elif box.builtins:
        raise MessageError("messages begin with a system Message, and tools hold built-in ones; put those into its "
                           "SystemContent(tools=...)")
    if box.namespaces or formats:
        declare(conversation, DeveloperContent(None, box.namespaces, formats))
    return conversation


def system_message(system: SystemContent | None, reasoning: Effort | None, box: Toolbox) -> Message:
    """The system message: `system`, or the usual one, with that reasoning effort and the built-in tools."""
    if reasoning is not None and reasoning not in EFFORTS:
        raise MessageError(f"expected reasoning to be one of {', '.join(EFFORTS)}, found {shown(reasoning)}")
    content = system or SystemContent()
    content = content if reasoning is None else replace(content, reasoning_effort=reasoning)
    return Message("system", replace(content, tools=(*content.tools, *box.builtins)))


def declare(conversation: list[Message], declared: DeveloperContent) -> None:
    """Puts tools and response formats into the first developer message, if it comes before any turn; else into a new
    one behind the system message."""
    place = next((i for i, m in enumerate(conversation) if m.role != "system"), len(conversation))
    first = conversation[place] if place < len(conversation) else None
    if first is None or first.role != "developer":
        conversation.insert(place, Message("developer", declared))
        return
    content = first.content
    if not isinstance(content, DeveloperContent):
        content = DeveloperContent(first.text)
    if content.tools and declared.tools:
        raise MessageError("the developer message declares tools, and others were given beside it; give all of them in "
                           "one place")
    conversation[place] = replace(first, content=replace(
        content, tools=content.tools or declared.tools,
        response_formats=(*content.response_formats, *declared.response_formats)))


def system_channels(tools: Toolbox | Iterable[Any] | None) -> tuple[str, ...]:
    """Channels to offer in `SystemContent.valid_channels` to a model that must not use commentary without tools:
    all of them if there are tools, else only analysis and final. The default, as the model was trained, is all."""
    box = Toolbox() if tools is None else toolbox(tools)
    return CHANNELS if box.functions or box.builtins else ("analysis", "final")


def read_response_format(spec: ResponseFormat | Mapping[str, Any]) -> ResponseFormat:
    """A response format: {"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}, or the same without
    the inner object. Raises MessageError for others."""
    if isinstance(spec, ResponseFormat):
        return spec
    inner = spec.get("json_schema", spec) if isinstance(spec, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str) or not isinstance(
            inner.get("schema"), Mapping):
        raise MessageError('expected {"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}} as the '
                           f"response format, found {shown(spec)}")
    return ResponseFormat(inner["name"], inner["schema"], inner.get("description"))
