"""The text that stands for system and developer content, tools included."""

from __future__ import annotations

from collections.abc import Sequence

from gptoss_native.harmony.json_text import json_text
from gptoss_native.harmony.messages import DeveloperContent, Item, ResponseFormat, SystemContent
from gptoss_native.harmony.tools import Tool, ToolNamespace
from gptoss_native.harmony.typescript import type_text


def content_text(item: Item, *, has_functions: bool = False, compat: bool = False) -> str:
    """The text that stands for a content item.

    has_functions: a developer message of the conversation declares functions, which the system message then says
    the channel of. compat: see `type_text`.
    """
    if isinstance(item, SystemContent):
        return system_text(item, has_functions=has_functions, compat=compat)
    return developer_text(item, compat=compat) if isinstance(item, DeveloperContent) else item


def system_text(content: SystemContent, *, has_functions: bool = False, compat: bool = False) -> str:
    """Identity and dates, reasoning effort, tools, channels: those that are present, a blank line apart."""
    date = content.conversation_start_date
    facts = [
        content.model_identity,
        None if content.knowledge_cutoff is None else f"Knowledge cutoff: {content.knowledge_cutoff}",
        None if date is None else f"Current date: {date}",
    ]
    lines = [fact for fact in facts if fact is not None]
    sections = ["\n".join(lines)] if lines else []
    if content.reasoning_effort is not None:
        sections.append(f"Reasoning: {content.reasoning_effort}")
    if content.tools:
        sections.append(tools_text(content.tools, compat=compat))
    if content.valid_channels:
        required = " Channel must be included for every message." if content.channel_required else ""
        calls = "\nCalls to these tools must go to the commentary channel: 'functions'." if has_functions else ""
        sections.append(f"# Valid channels: {', '.join(content.valid_channels)}.{required}{calls}")
    return "\n\n".join(sections)


def developer_text(content: DeveloperContent, *, compat: bool = False) -> str:
    """Instructions, verbatim, tools and response formats, each under its heading."""
    sections = []
    if content.instructions is not None:
        sections.append(f"# Instructions\n\n{content.instructions}")
    if content.tools:
        sections.append(tools_text(content.tools, compat=compat))
    if content.response_formats:
        sections.append("\n\n".join(["# Response Formats", *map(_format_text, content.response_formats)]))
    return "\n\n".join(sections)


def _format_text(response_format: ResponseFormat) -> str:
    lines = _commented(response_format.description)
    return "\n".join([f"## {response_format.name}\n", *lines, json_text(response_format.schema)])


def tools_text(namespaces: Sequence[ToolNamespace], *, compat: bool = False) -> str:
    """The section "# Tools": the namespaces in the order of their keys."""
    ordered = sorted(namespaces, key=lambda namespace: namespace.sort_key)
    return "\n\n".join(["# Tools", *(_namespace_text(namespace, compat) for namespace in ordered)])


def _namespace_text(namespace: ToolNamespace, compat: bool) -> str:
    lines = [f"## {namespace.name}", ""]
    if not namespace.tools:
        return "\n".join(lines + text_lines(namespace.description or ""))
    lines += _commented(namespace.description)
    lines += [f"namespace {namespace.name} {{", ""]
    for tool in namespace.tools:
        lines += [*_tool_lines(tool, compat), ""]
    return "\n".join([*lines, f"}} // namespace {namespace.name}"])


def _tool_lines(tool: Tool, compat: bool) -> list[str]:
    argument = "" if tool.parameters is None else f"_: {type_text(tool.parameters, compat=compat)}"
    return [*_commented(tool.description), f"type {tool.name} = ({argument}) => any;"]


def _commented(text: str | None) -> list[str]:
    return [f"// {line}" for line in text_lines(text or "")]


def text_lines(text: str) -> list[str]:
    """Lines end in LF or CR LF, and only there; a last line end adds no line."""
    lines = text.split("\n")
    ended, last = lines[:-1], lines[-1]
    return [line.removesuffix("\r") for line in ended] + ([last] if last else [])
