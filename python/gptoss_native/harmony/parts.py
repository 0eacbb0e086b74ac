"""The content of a message as clients send it: text, parts of text, or openai-harmony's content objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gptoss_native.config.strict_json import shown
from gptoss_native.harmony.messages import DeveloperContent, Effort, Item, MessageError, SystemContent
from gptoss_native.harmony.plain import plain
from gptoss_native.harmony.tools import Tool, ToolNamespace

TEXT_TYPES = ("text", "input_text", "output_text", "summary_text", "reasoning_text")
_EFFORTS: dict[str, Effort] = {"low": "low", "medium": "medium", "high": "high"}


def content_of(content: Any, where: str) -> Item | tuple[Item, ...]:
    """Text, or a tuple of what each part holds. Raises MessageError, naming the part."""
    if isinstance(content, (str, SystemContent, DeveloperContent)):
        return content
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray)):
        raise MessageError(f"{where} has {shown(content)} as content, expected text or a list of text parts")
    return tuple(_part(part, f"{where} content[{i}]") for i, part in enumerate(content))


def text_of(content: Any, where: str) -> str:
    """Text, or that of all parts. Raises MessageError for parts that are none."""
    items = content_of(content, where)
    return items if isinstance(items, str) else "".join(_text(item, where) for item in _several(items))


def _several(items: Item | tuple[Item, ...]) -> tuple[Item, ...]:
    return items if isinstance(items, tuple) else (items,)


def _text(item: Item, where: str) -> str:
    if not isinstance(item, str):
        raise MessageError(f"{where} has {type(item).__name__} where text is expected")
    return item


def _part(part: Any, where: str) -> Item:
    if isinstance(part, (SystemContent, DeveloperContent)):
        return part
    part = plain(part, where)
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind in TEXT_TYPES and isinstance(part.get("text"), str):
        text: str = part["text"]
        return text
    if kind == "refusal" and isinstance(part.get("refusal"), str):
        refusal: str = part["refusal"]
        return refusal
    if kind == "system_content":
        return _system(part, where)
    if kind == "developer_content":
        return DeveloperContent(part.get("instructions"), _namespaces(part.get("tools"), where))
    if isinstance(kind, str) and kind not in TEXT_TYPES:
        raise MessageError(f"{where} has type {shown(kind)}; this model reads text only")
    raise MessageError(f'{where} is {shown(part)}, expected {{"type": "text", "text": ...}}')


def _system(part: Mapping[str, Any], where: str) -> SystemContent:
    """As openai-harmony writes it: what is absent or null is left out."""
    channels = plain(part.get("channel_config") or {}, where)
    effort = part.get("reasoning_effort")
    if effort is not None and (not isinstance(effort, str) or effort.lower() not in _EFFORTS):
        raise MessageError(f"{where} has reasoning_effort {shown(effort)}, expected Low, Medium or High")
    return SystemContent(
        part.get("model_identity"), None if effort is None else _EFFORTS[effort.lower()], part.get("knowledge_cutoff"),
        part.get("conversation_start_date"), tuple(channels.get("valid_channels") or ()),
        bool(channels.get("channel_required")), _namespaces(part.get("tools"), where))


def _namespaces(tools: Any, where: str) -> tuple[ToolNamespace, ...]:
    if tools is None:
        return ()
    if not isinstance(tools, Mapping):
        raise MessageError(f"{where} has {shown(tools)} as tools, expected an object of namespaces")
    return tuple(_namespace(key, plain(value, where), where) for key, value in tools.items())


def _namespace(key: str, value: Any, where: str) -> ToolNamespace:
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise MessageError(f"{where} has {shown(value)} as the namespace {shown(key)}, expected an object with a name")
    tools = []
    for entry in value.get("tools") or ():
        tool = plain(entry, where)
        if not isinstance(tool, Mapping) or not isinstance(tool.get("name"), str):
            raise MessageError(f"{where} has {shown(tool)} as a tool of {shown(key)}, expected an object with a name")
        tools.append(Tool(tool["name"], tool.get("description"), tool.get("parameters")))
    return ToolNamespace(value["name"], value.get("description"), tuple(tools), key)
