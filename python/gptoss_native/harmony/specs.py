"""Tools as callers write them, OpenAI's JSON, Python functions or `Tool`, made into a `Toolbox`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gptoss_native.config.strict_json import shown
from gptoss_native.harmony.callables import tool_from_callable
from gptoss_native.harmony.messages import MessageError
from gptoss_native.harmony.plain import plain
from gptoss_native.harmony.toolbox import FUNCTION_NAME, Toolbox
from gptoss_native.harmony.tools import Tool, ToolNamespace

EXPECTED = ('{"type": "function", "function": {"name": ..., "description": ..., "parameters": {JSON schema}}}, the '
            "same without the inner object, a Tool, or a Python function")


def toolbox(tools: Toolbox | Iterable[Any]) -> Toolbox:
    """`tools` as a Toolbox: each a function, see `read_tool`, or a built-in tool as a ToolNamespace.

    Raises MessageError, naming the tool and what was expected.
    """
    if isinstance(tools, Toolbox):
        return tools
    if isinstance(tools, (str, bytes, Mapping)) or not isinstance(tools, Iterable):
        raise MessageError(f"expected a list of tools, found {shown(tools)}")
    functions, builtins, callables = [], [], {}
    for index, spec in enumerate(tools):
        if isinstance(spec, ToolNamespace):
            builtins.append(spec)
            continue
        tool = read_tool(spec, f"tools[{index}]")
        functions.append(tool)
        if not isinstance(spec, (Tool, Mapping)) and callable(spec):
            callables[tool.name] = spec
    return Toolbox(tuple(functions), tuple(builtins), callables=callables)


def read_tool(spec: Any, where: str = "the tool") -> Tool:
    """One function: a Tool, a Python function, or OpenAI's JSON as of chat completions or of responses."""
    if isinstance(spec, Tool):
        return _checked(spec, where)
    spec = plain(spec, where)
    if not isinstance(spec, Mapping):
        if callable(spec):
            return _checked(tool_from_callable(spec), where)
        raise MessageError(f"{where} is {shown(spec)}, expected {EXPECTED}")
    kind = spec.get("type", "function")
    if kind != "function":
        raise MessageError(f"{where} has type {shown(kind)}; only functions can be given as JSON, and the built-in "
                           "tools as browser() and python()")
    function = plain(spec.get("function", spec), where)
    if not isinstance(function, Mapping):
        raise MessageError(f"{where} has {shown(function)} as function, expected an object; a tool is {EXPECTED}")
    description, parameters = function.get("description"), function.get("parameters")
    if description is not None and not isinstance(description, str):
        raise MessageError(f"{where} has {shown(description)} as description, expected text")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise MessageError(f"{where} has {shown(parameters)} as parameters, expected a JSON schema: "
                           '{"type": "object", "properties": {...}}')
    return _checked(Tool(function.get("name", ""), description, parameters), where)


def _checked(tool: Tool, where: str) -> Tool:
    if not isinstance(tool.name, str) or not FUNCTION_NAME.fullmatch(tool.name):
        raise MessageError(f"{where} has the name {shown(tool.name)}, expected letters, digits, _, - and ., such as "
                           "get_weather")
    return tool
