"""Tools as the model is told of them: functions in namespaces, and the two that it was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

JsonObject = Mapping[str, Any]


@dataclass(frozen=True)
class Tool:
    """A function that the model may call.

    description: None leaves it out. parameters: JSON schema of an object, whose members keep their order; None for
    a function without parameters.
    """

    name: str
    description: str | None = None
    parameters: JsonObject | None = field(default=None, hash=False)


@dataclass(frozen=True)
class ToolNamespace:
    """Tools under one heading. key: sorts the namespaces of a message, by its UTF-8 bytes; None: the name."""

    name: str
    description: str | None = None
    tools: tuple[Tool, ...] = ()
    key: str | None = None

    @property
    def sort_key(self) -> bytes:
        return (self.name if self.key is None else self.key).encode("utf-8", "surrogatepass")


FUNCTIONS = "functions"
"""The namespace of a caller's own functions."""


def functions(*tools: Tool) -> ToolNamespace:
    """A caller's own functions, as a namespace for `DeveloperContent`."""
    return ToolNamespace(FUNCTIONS, None, tools)


BROWSER_DESCRIPTION = """\
Tool for browsing.
The `cursor` appears in brackets before each browsing display: `[{cursor}]`.
Cite information from the tool using the following format:
`\u3010{cursor}\u2020L{line_start}(-L{line_end})?\u3011`, for example: `\u30106\u2020L9-L11\u3011` or \
`\u30108\u2020L3\u3011`.
Do not quote more than 10 words directly from the tool output.
sources=web (default: web)"""

PYTHON_DESCRIPTION = (
    "Use this tool to execute Python code in your chain of thought. The code will not be shown to the user. This tool "
    "should be used for internal reasoning, but not for code that is intended to be visible to the user (e.g. when "
    "creating plots, tables, or files).\n\n"
    "When you send a message containing Python code to python, it will be executed in a stateful Jupyter notebook "
    "environment. python will respond with the output of the execution or time out after 120.0 seconds. The drive at "
    "'/mnt/data' can be used to save and persist user files. Internet access for this session is UNKNOWN. Depends on "
    "the cluster."
)

_OPEN_DESCRIPTION = """\
Opens the link `id` from the page indicated by `cursor` starting at line number `loc`, showing `num_lines` lines.
Valid link ids are displayed with the formatting: `\u3010{id}\u2020.*\u3011`.
If `cursor` is not provided, the most recent page is implied.
If `id` is a string, it is treated as a fully qualified URL associated with `source`.
If `loc` is not provided, the viewport will be positioned at the beginning of the document or centered on the most \
relevant passage, if available.
Use this function without `id` to scroll to a new location of an opened page."""


def browser(description: str = BROWSER_DESCRIPTION) -> ToolNamespace:
    """The browser the model was trained with: search, open and find. For `SystemContent`."""
    number = {"type": "number", "default": -1}
    return ToolNamespace("browser", description, (
        Tool("search", "Searches for information related to `query` and displays `topn` results.", {
            "type": "object",
            "properties": {
                "query": {"type": "string"}, "topn": {"type": "number", "default": 10},
                "source": {"type": "string"}},
            "required": ["query"]}),
        Tool("open", _OPEN_DESCRIPTION, {
            "type": "object",
            "properties": {
                "id": {"type": ["number", "string"], "default": -1}, "cursor": number, "loc": number,
                "num_lines": number, "view_source": {"type": "boolean", "default": False},
                "source": {"type": "string"}}}),
        Tool("find", "Finds exact matches of `pattern` in the current page, or the page given by `cursor`.", {
            "type": "object",
            "properties": {"pattern": {"type": "string"}, "cursor": number},
            "required": ["pattern"]}),
    ))


def python(description: str = PYTHON_DESCRIPTION) -> ToolNamespace:
    """The code interpreter the model was trained with, for `SystemContent`; calls carry raw source.

    description: to be replaced where the environment keeps no state or has no network.
    """
    return ToolNamespace("python", description)
