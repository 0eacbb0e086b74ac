"""Python functions as tools: the signature becomes a JSON schema, the docstring its descriptions."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from gptoss_native.config.strict_json import shown
from gptoss_native.harmony.annotations import annotation_schema, as_json
from gptoss_native.harmony.docstrings import read_docstring
from gptoss_native.harmony.messages import MessageError
from gptoss_native.harmony.tools import Tool


def tool_from_callable(function: Callable[..., Any], name: str | None = None) -> Tool:
    """The tool that calls `function` with keyword arguments.

    Parameters are described by their annotations, see `annotation_schema`, their defaults, and the docstring (Google,
    NumPy or Sphinx style); `Annotated[int, "text"]` describes one too. A parameter without annotation can be anything.
    name: the function's own where it is None.

    Raises MessageError, naming the parameter, for what a model cannot fill in: `*args`, `**kwargs`, positional-only
    parameters, annotations that are not JSON.
    """
    called = name or getattr(function, "__name__", None)
    if not isinstance(called, str) or called == "<lambda>":
        raise MessageError(f"expected a function with a name, found {shown(function)}; give it one with "
                           "tool_from_callable(function, name)")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise MessageError(f"the signature of {called} is not known to Python; describe it as a Tool") from None
    hints = _hints(function, called)
    description, described = read_docstring(inspect.getdoc(function))
    properties: dict[str, Any] = {}
    required = []
    for parameter in signature.parameters.values():
        where = f"the parameter {parameter.name} of {called}"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
            raise MessageError(f"{called} takes {stars}{parameter.name}; a tool's parameters have to be named one by "
                               "one")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise MessageError(f"{where} is positional-only; a tool is called with keyword arguments")
        schema = annotation_schema(hints.get(parameter.name, Any), where)
        if parameter.name in described and described[parameter.name]:
            schema["description"] = described[parameter.name]
        if parameter.default is parameter.empty:
            required.append(parameter.name)
        elif parameter.default is not None:
            schema["default"] = as_json(parameter.default, f"the default of {where}")
        properties[parameter.name] = schema
    if not properties:
        return Tool(called, description)
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        parameters["required"] = required
    return Tool(called, description, parameters)


def _hints(function: Callable[..., Any], called: str) -> Mapping[str, Any]:
    """Annotations, resolved; those of `__call__` or `__init__` where `function` is an object or a class."""
    target: Any = function
    if isinstance(function, type):
        target = function.__init__  # type: ignore[misc]
    elif hasattr(function, "func") and not inspect.isroutine(function):  # functools.partial
        target = function.func
    elif not inspect.isroutine(function):
        target = type(function).__call__
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception as error:  # whatever evaluating a string may raise
        raise MessageError(f"an annotation of {called} cannot be resolved: {error}") from None

