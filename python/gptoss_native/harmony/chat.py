"""Chat messages as OpenAI's clients write them, made into a Harmony prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gptoss_native.config.strict_json import shown
from gptoss_native.harmony.messages import (
    CHANNELS,
    EFFORTS,
    DeveloperContent,
    Effort,
    Message,
    MessageError,
    SystemContent,
)
from gptoss_native.harmony.render import DropAnalysis, render_conversation, without_old_analysis
from gptoss_native.tokenizer import Tokenizer

ChatMessage = Message | Mapping[str, Any]

SUPPORTED_ROLES = ("system", "developer", "user", "assistant")


def render(
    messages: Sequence[ChatMessage],
    tokenizer: Tokenizer,
    *,
    reasoning: Effort | None = None,
    system: SystemContent | None = None,
    drop_analysis: DropAnalysis = "last_final",
) -> list[int]:
    """Prompt for the assistant's next turn: a system message, `messages`, and `<|start|>assistant`.

    A message is {"role": ..., "content": text or [{"type": "text", "text": ...}, ...]}, or a `Message`, which
    is rendered as it is. Roles:
    - "system" and "developer" are the caller's instructions. Both become a Harmony developer message, in
      place, as in OpenAI's API: the Harmony system message is not for instructions but for identity, dates,
      reasoning effort and channels, and is written from `system`, with `reasoning` (default: medium) in it.
      Where `messages` begins with a `Message` of role "system", that one is used instead.
    - "user".
    - "assistant": an earlier answer, on channel "final" if no "channel" is given. Earlier reasoning (channel
      "analysis") is dropped as `drop_analysis` says, see `without_old_analysis`.

    Raises MessageError, naming the message and what was expected, and TokenizerError if the vocabulary lacks
    a special token of the format.
    """
    if isinstance(messages, (str, bytes, Mapping, Message)) or not isinstance(messages, Sequence):
        raise MessageError('expected a list of messages such as [{"role": "user", "content": "Hello"}], '
                           f"found {shown(messages)}")
    if not messages:
        raise MessageError('expected at least one message, {"role": "user", "content": "Hello"}, found none')
    if reasoning is not None and reasoning not in EFFORTS:
        raise MessageError(f"expected reasoning to be one of {', '.join(EFFORTS)}, found {shown(reasoning)}")
    conversation = [read_message(message, f"messages[{i}]") for i, message in enumerate(messages)]
    if conversation[0].role != "system":
        content = system or SystemContent()
        content = content if reasoning is None else replace(content, reasoning_effort=reasoning)
        conversation.insert(0, Message("system", content))
    ids = render_conversation(without_old_analysis(conversation, drop_analysis), tokenizer)
    return [*ids, tokenizer.special("<|start|>"), *tokenizer.encode("assistant")]


def read_message(entry: Any, where: str) -> Message:
    """A chat message as a `Message`. Raises MessageError, naming `where`, for what cannot be expressed."""
    if isinstance(entry, Message):
        return entry
    if not isinstance(entry, Mapping):
        raise MessageError(f'{where} is {shown(entry)}, expected {{"role": ..., "content": ...}}')
    role = entry.get("role")
    if role not in SUPPORTED_ROLES:
        raise MessageError(f"{where} has role {shown(role)}; supported are {', '.join(SUPPORTED_ROLES)}, "
                           "tools are not supported yet")
    known = {"role", "content", "name", "channel"} if role == "assistant" else {"role", "content", "name"}
    for key, value in entry.items():  # clients send every field they know, unset ones as null or empty
        if key not in known and value is not None and value != []:
            raise MessageError(f"{where}, a message with role {role!r}, has {shown(key)}, which is not "
                               f"supported; supported are {', '.join(sorted(known))}")
    name = _optional_text(entry, "name", where)
    content = _content(entry.get("content"), where)
    if role == "assistant":
        channel = _optional_text(entry, "channel", where) or "final"
        if channel not in CHANNELS:
            raise MessageError(f"{where} has channel {shown(channel)}, expected one of {', '.join(CHANNELS)}")
        return Message("assistant", content, name, channel)
    if role == "user":
        return Message("user", content, name)
    instructions = "".join(content) if isinstance(content, tuple) else content
    return Message("developer", DeveloperContent(instructions), name)


def _optional_text(entry: Mapping[str, Any], key: str, where: str) -> str | None:
    value = entry.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise MessageError(f"{where} has {shown(value)} as {key}, expected text")
    return value


def _content(content: Any, where: str) -> str | tuple[str, ...]:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray)):
        raise MessageError(f"{where} has {shown(content)} as content, expected text or a list of text parts")
    return tuple(_part(part, f"{where} content[{i}]") for i, part in enumerate(content))


def _part(part: Any, where: str) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        text: str = part["text"]
        return text
    kind = part.get("type") if isinstance(part, Mapping) else part
    if isinstance(kind, str) and kind != "text" and isinstance(part, Mapping):
        raise MessageError(f"{where} has type {shown(kind)}; this model reads text only")
    raise MessageError(f'{where} is {shown(part)}, expected {{"type": "text", "text": ...}}')
