"""Running the tools that are Python functions, when the model calls them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from gptoss_native.errors import GptOssError
from gptoss_native.events import ToolResult
from gptoss_native.harmony import Toolbox, ToolCall
from gptoss_native.harmony.json_text import json_text
from gptoss_native.harmony.plain import as_json
from gptoss_native.harmony.values import argument_values


def answerable(call: ToolCall, toolbox: Toolbox) -> bool:
    """Whether the call can be answered here: by its function, or by saying what is wrong with it. Those of tools that
    are only described are the caller's."""
    return bool(toolbox.callables) and call.complete and (not call.known or call.name in toolbox.callables)


def run_call(call: ToolCall, toolbox: Toolbox) -> ToolResult:
    """Call the function. Whatever goes wrong is told to the model, as the result; nothing but the likes of
    KeyboardInterrupt is raised."""
    try:
        return _result(call, _bound(call, toolbox)())
    except Exception as error:
        return _failure(call, error)


async def arun_call(call: ToolCall, toolbox: Toolbox) -> ToolResult:
    """run_call() for a coroutine: functions that are none run in a thread."""
    import asyncio  # here, so that importing the package does not pay for it

    try:
        bound = _bound(call, toolbox)
        if is_async(bound):
            return _result(call, await bound())
        value = await asyncio.to_thread(bound)
        return _result(call, await value if inspect.isawaitable(value) else value)
    except Exception as error:
        return _failure(call, error)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether it is a coroutine function, or an object or partial of one."""
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None))  # noqa: B004  an object whose __call__ is one


class _BadCall(GptOssError):
    """The model called in a way that cannot be answered."""


def _bound(call: ToolCall, toolbox: Toolbox) -> partial[Any]:
    function = toolbox.callables.get(call.name)
    if function is None:
        names = ", ".join(tool.name for tool in toolbox.functions)
        raise _BadCall(f"there is no tool {call.name}; the tools are: {names}")
    if call.parsed is None:
        raise _BadCall(call.error or "the arguments are not a JSON object")
    try:
        inspect.signature(function).bind(**call.parsed)
    except TypeError as error:
        raise _BadCall(f"{call.name} cannot be called with these arguments: {error}") from None
    return partial(function, **argument_values(function, call.parsed))


def _result(call: ToolCall, value: Any) -> ToolResult:
    if inspect.iscoroutine(value):
        value.close()
        raise _BadCall(f"{call.name} gave a coroutine, which only achat() and astream_chat() await")
    if not isinstance(value, str):
        value = json_text(as_json(value, f"the result of {call.name}"))
    return ToolResult(call, value)


def _failure(call: ToolCall, error: Exception) -> ToolResult:
    reason = str(error) if isinstance(error, GptOssError) else f"{type(error).__name__}: {error}"
    return ToolResult(call, f"Error: {reason}", reason)
