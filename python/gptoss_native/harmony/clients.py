"""Messages as OpenAI's clients send them, of chat completions and of responses, made into Harmony messages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from gptoss_native.config.strict_json import shown
from gptoss_native.harmony.controls import CONSTRAIN
from gptoss_native.harmony.json_text import json_text
from gptoss_native.harmony.messages import (
    CHANNELS,
    ROLES,
    DeveloperContent,
    Item,
    Message,
    MessageError,
    Role,
)
from gptoss_native.harmony.parts import content_of, text_of
from gptoss_native.harmony.plain import Dataclass, Model, as_json, plain
from gptoss_native.harmony.toolbox import Toolbox

ChatMessage = Message | Mapping[str, Any] | Model | Dataclass
Messages = Sequence[ChatMessage] | list[Any]
"""A list of anything, because a type checker may take one of dicts that differ for list[object]."""

_NUMBERED = re.compile(r"call_(\d{1,9})", re.ASCII)

_COMMON = ("role", "content", "name", "type", "id", "status")
_FIELDS: dict[str, tuple[str, ...]] = {
    "system": _COMMON,
    "developer": _COMMON,
    "user": _COMMON,
    "assistant": (*_COMMON, "channel", "recipient", "content_type", "tool_calls", "function_call", "refusal",
                  "reasoning_content", "reasoning", "thinking"),
    "tool": (*_COMMON, "channel", "recipient", "content_type", "tool_call_id"),
}


_SAID_ELSEWHERE = ("annotations", "logprobs", "parsed", "phase", "reasoning_details")
"""What clients' replies repeat of their text, or say about it: nothing that the model reads."""


def read_messages(messages: Messages, toolbox: Toolbox | None = None,
                  reader: MessageReader | None = None) -> list[Message]:
    """Each entry a Message, a mapping, a dataclass or a pydantic model. Roles:

    - "system" and "developer": instructions; both become a developer message, as in OpenAI's API. A system message
      whose content is `SystemContent` is one.
    - "user".
    - "assistant": an answer, on channel "final" where no "channel" is given; with "tool_calls" its text is a preamble,
      and each call follows as a message of its own. "reasoning_content" comes before both, on channel "analysis".
      A "refusal" is an answer.
    - "tool": a result, of the call "tool_call_id" or of the tool "name". Text goes to the model as it is, other JSON
      serialised once.

    Items of the responses API, "function_call", "function_call_output" and "reasoning", are read too.
    reader: one that knows of earlier calls, and with which toolbox to read.
    Raises MessageError, naming the entry and what was expected.
    """
    if isinstance(messages, (str, bytes, Mapping, Message)) or not isinstance(messages, Sequence):
        raise MessageError('expected a list of messages such as [{"role": "user", "content": "Hello"}], '
                           f"found {shown(messages)}")
    if not messages:
        raise MessageError('expected at least one message, {"role": "user", "content": "Hello"}, found none')
    reader = reader or MessageReader(toolbox or Toolbox())
    return [message for i, entry in enumerate(messages) for message in reader.read(entry, f"messages[{i}]")]


class MessageReader:
    """Reads messages one by one, and remembers which tool each call was for."""

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._calls: dict[str, Message] = {}

    def copy(self) -> MessageReader:
        other = MessageReader(self._toolbox)
        other._calls = dict(self._calls)
        return other

    @property
    def last_number(self) -> int:
        """The highest of ids such as "call_3"; 0 where there is none."""
        return max((int(match[1]) for each in self._calls if (match := _NUMBERED.fullmatch(each))), default=0)

    def call(self, call_id: str) -> Message | None:
        """The message that made that call."""
        return self._calls.get(call_id)

    def read(self, entry: Any, where: str) -> list[Message]:
        """The messages that `entry` is: one, or several where it has reasoning or tool calls."""
        if isinstance(entry, Message):
            if entry.call is not None:
                self._calls[entry.call.id] = entry
            return [entry]
        entry = plain(entry, where)
        if not isinstance(entry, Mapping):
            raise MessageError(f'{where} is {shown(entry)}, expected {{"role": ..., "content": ...}}')
        kind = entry.get("type")
        if kind == "reasoning":
            thoughts = text_of(entry.get("content") or entry.get("summary") or [], where)
            return [Message("assistant", thoughts, channel="analysis")] if thoughts else []  # they may be encrypted
        if kind == "function_call":
            return [self._call(entry.get("call_id"), entry, where)]
        if kind == "function_call_output":
            return [self._result({"tool_call_id": entry.get("call_id"), "content": entry.get("output")}, where)]
        entry = _flattened(entry)
        if kind is not None and entry.get("role") is None:
            raise MessageError(f'{where} has type {shown(kind)}; expected {{"role": ..., "content": ...}}, or an item '
                               "of type function_call, function_call_output or reasoning")
        return self._read_role(entry, where)

    def _read_role(self, entry: Mapping[str, Any], where: str) -> list[Message]:
        role = entry.get("role")
        role = "tool" if role == "function" else role
        if not isinstance(role, str) or role not in ROLES:
            raise MessageError(f"{where} has role {shown(role)}; supported are {', '.join(ROLES)}")
        for key, value in entry.items():  # clients send every field they know, unset ones as null or empty
            if key not in _FIELDS[role] and key not in _SAID_ELSEWHERE and value not in (None, [], {}):
                supported = ", ".join(sorted(set(_FIELDS[role]) - {"type", "id", "status"}))
                raise MessageError(f"{where}, a message with role {role!r}, has {shown(key)}, which is not supported; "
                                   f"supported are {supported}")
        if role == "assistant":
            return self._assistant(entry, where)
        if role == "tool":
            return [self._result(entry, where)]
        name = _optional_text(entry, "name", where)
        content = content_of(entry.get("content"), where)
        items = content if isinstance(content, tuple) else (content,)
        if role == "user" or any(not isinstance(item, str) for item in items):
            return [Message(cast(Role, role), content, name)]
        return [Message("developer", DeveloperContent("".join(map(str, items))), name)]

    def _assistant(self, entry: Mapping[str, Any], where: str) -> list[Message]:
        name, channel = _optional_text(entry, "name", where), _optional_text(entry, "channel", where)
        recipient = _optional_text(entry, "recipient", where)
        content_type = _optional_text(entry, "content_type", where)
        if channel is not None and channel not in CHANNELS:
            raise MessageError(f"{where} has channel {shown(channel)}, expected one of {', '.join(CHANNELS)}")
        calls = entry.get("tool_calls") or []
        if not isinstance(calls, Sequence) or isinstance(calls, str):
            raise MessageError(f"{where} has {shown(calls)} as tool_calls, expected a list")
        if entry.get("function_call"):  # as they were before there were several
            calls = [*calls, {"function": entry["function_call"]}]
        said = entry.get("content")
        said = _optional_text(entry, "refusal", where) if said is None else said
        thoughts = entry.get("reasoning_content") or entry.get("reasoning") or entry.get("thinking")
        messages = [Message("assistant", text_of(thoughts, where), name, "analysis")] if thoughts else []
        content: Item | tuple[Item, ...] = ""
        if not ((calls or thoughts) and said is None):
            content = content_of(said, where)
        if recipient is not None:
            messages.append(Message("assistant", content, name, channel or "commentary", recipient, content_type))
        elif content or not (calls or thoughts):
            channel = channel or ("commentary" if calls else "final")
            messages.append(Message("assistant", content, name, channel, None, content_type))
        return messages + [self._tool_call(call, f"{where} tool_calls[{i}]") for i, call in enumerate(calls)]

    def _tool_call(self, call: Any, where: str) -> Message:
        call = plain(call, where)
        function = plain(call.get("function"), where) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            raise MessageError(f'{where} is {shown(call)}, expected {{"id": ..., "type": "function", "function": '
                               '{"name": ..., "arguments": ...}}')
        return self._call(call.get("id"), function, where)

    def _call(self, call_id: Any, function: Mapping[str, Any], where: str) -> Message:
        name, arguments = function.get("name"), function.get("arguments")
        if not isinstance(name, str) or not name or name.split() != [name]:
            raise MessageError(f"{where} has {shown(name)} as the name of the function, expected one word")
        if arguments is None:
            arguments = "{}"
        if not isinstance(arguments, str):
            arguments = json_text(arguments)
        message = call_message(name, arguments, self._toolbox)
        if call_id is not None:
            if not isinstance(call_id, str):
                raise MessageError(f"{where} has {shown(call_id)} as the id of the call, expected text")
            self._calls[call_id] = message
        return message

    def _result(self, entry: Mapping[str, Any], where: str) -> Message:
        call_id, name = entry.get("tool_call_id"), _optional_text(entry, "name", where)
        call = self._calls.get(call_id) if isinstance(call_id, str) else None
        if call is None and name is None:
            known = ", ".join(self._calls) or "none"
            raise MessageError(f"{where} is a result of the call {shown(call_id)}, which no earlier message made "
                               f'(calls so far: {known}); give the "tool_call_id" of one, or the "name" of the tool')
        recipient = call.recipient if call is not None else self._toolbox.recipient(name or "")
        if entry.get("recipient") is not None and name is not None:
            recipient = name  # a Harmony message: no name but the whole one
        channel = _optional_text(entry, "channel", where) or (call.channel if call is not None else None)
        content_type = _optional_text(entry, "content_type", where)
        to = _optional_text(entry, "recipient", where) or "assistant"
        return result_message(recipient or "", text_or_json(entry.get("content"), where), channel, to, content_type)


def call_message(name: str, arguments: str, toolbox: Toolbox) -> Message:
    """The message that calls the tool `name`: functions on commentary with JSON, built-in tools on analysis."""
    recipient = toolbox.recipient(name)
    if recipient.startswith("functions."):
        return Message("assistant", arguments, None, "commentary", recipient, f"{CONSTRAIN}json")
    return Message("assistant", arguments, None, "analysis", recipient, "code")


def result_message(recipient: str, content: Any, channel: str | None = None, to: str = "assistant",
                   content_type: str | None = None) -> Message:
    """The message that brings a result of the tool that calls to `recipient` reach; on the call's channel."""
    if channel is None:
        channel = "commentary" if recipient.startswith("functions.") else "analysis"
    return Message("tool", content, recipient, channel, to, content_type)


def text_or_json(content: Any, where: str) -> Item | tuple[Item, ...]:
    """Text and parts of text as they are, other values as JSON."""
    parts = isinstance(content, (list, tuple)) and content and all(
        isinstance(part, Mapping) and isinstance(part.get("type"), str) for part in content)
    if isinstance(content, str) or parts:
        return content_of(content, where)
    return json_text(as_json(content, where))


def _flattened(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """openai-harmony's own Message keeps role and name in "author"."""
    author = entry.get("author")
    if isinstance(author, Mapping) and "role" not in entry:
        return {**{key: value for key, value in entry.items() if key != "author"}, **author}
    return entry


def _optional_text(entry: Mapping[str, Any], key: str, where: str) -> str | None:
    value = entry.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise MessageError(f"{where} has {shown(value)} as {key}, expected text")
    return value
