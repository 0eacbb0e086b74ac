"""Conversations as files: JSON, with the tokens of what the model wrote, so that nothing of it is computed again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptoss_native.chat.chat import Reasoning
from gptoss_native.cli.session import Session
from gptoss_native.config.strict_json import shown
from gptoss_native.harmony import ChatMessage, Message, Toolbox
from gptoss_native.harmony.toolbox import tool_call

FORMAT = "gptoss-native conversation"
_FIELDS = ("name", "channel", "recipient", "content_type", "terminator", "malformed", "stray")


@dataclass(frozen=True)
class Saved:
    """What a file holds. reasoning: None where it does not say."""

    system: str | None
    reasoning: Reasoning | None
    turns: list[ChatMessage]


def save(session: Session, name: str) -> Path:
    """ValueError where the file is there and is no conversation that was saved."""
    path = Path(name).expanduser()
    if path.exists() and not _is_ours(path):
        raise ValueError(f"{path} is there and holds something else; choose another name")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}")
    settings = session.settings
    data = {"format": FORMAT, "system": settings.system, "reasoning": settings.reasoning,
            "messages": [_entry(message) for message in session.turns]}
    beside = path.with_name(f".{path.name}.{os.getpid()}")  # so that a full disk does not cost the earlier one
    try:
        beside.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def read(name: str, toolbox: Toolbox) -> Saved:
    """A conversation that was saved, or messages as OpenAI's clients send them: a list, or {"messages": [...]}."""
    path = Path(name).expanduser()
    data = _json(path)
    ours = isinstance(data, Mapping) and data.get("format") == FORMAT
    messages = data.get("messages") if isinstance(data, Mapping) else data
    if not isinstance(messages, list) or not all(isinstance(each, Mapping) for each in messages):
        raise ValueError(f"{path}: a list of messages is expected, or an object that has one as \"messages\"")
    if ours:
        system, reasoning = data.get("system"), data.get("reasoning")
        if not (system is None or isinstance(system, str)) or reasoning not in ("off", "low", "medium", "high"):
            raise ValueError(f"{path}: system is {shown(system)} and reasoning {shown(reasoning)}; a text, and off, "
                             "low, medium or high are expected")
        return Saved(system, reasoning, [_message(each, toolbox) for each in messages])
    first = messages[0] if messages else {}
    if first.get("role") in ("system", "developer") and isinstance(first.get("content"), str):
        return Saved(first["content"], None, messages[1:])
    return Saved(None, None, messages)


def _entry(message: Message) -> dict[str, Any]:
    entry: dict[str, Any] = {"role": message.role, "content": message.text}
    entry |= {name: value for name in _FIELDS if (value := getattr(message, name))}
    if message.call is not None:
        entry["id"] = message.call.id
    return entry | ({"token_ids": list(message.token_ids)} if message.token_ids else {})


def _message(entry: Mapping[str, Any], toolbox: Toolbox) -> ChatMessage:
    """With tokens it is the model's: the conversation believes them where they say the same as the text."""
    tokens, content = entry.get("token_ids"), entry.get("content")
    if entry.get("role") != "assistant" or not tokens:
        return {name: value for name, value in entry.items() if name != "token_ids"}
    if not isinstance(tokens, list) or not all(type(each) is int and each >= 0 for each in tokens):
        raise ValueError(f"token_ids of a message are {shown(tokens)}; a list of numbers is expected")
    if not isinstance(content, str):
        raise ValueError(f"the content of a message is {shown(content)}; a text is expected")
    message = Message("assistant", content, token_ids=tuple(tokens),
                      **{name: entry[name] for name in _FIELDS if name in entry})
    if message.kind != "call":
        return message
    call = tool_call(message.recipient or "", content, message.terminator == "call", toolbox, str(entry.get("id", "")))
    return Message(**(message.__dict__ | {"call": call}))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # UnicodeDecodeError too
        raise ValueError(f"{path}: not JSON ({error})") from None


def _is_ours(path: Path) -> bool:
    try:
        data = _json(path)
    except (OSError, ValueError):
        return False
    return isinstance(data, Mapping) and data.get("format") == FORMAT
