"""Python functions as tools: the signature becomes a JSON schema, the docstring its descriptions."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

from gptoss_native.config.strict_json import shown
from gptoss_native.harmony.annotations import annotation_schema
from gptoss_native.harmony.docstrings import read_docstring
from gptoss_native.harmony.messages import MessageError
from gptoss_native.harmony.plain import as_json
from gptoss_native.harmony.tools import Tool


def tool_from_callable(function: Callable[..., Any], name: str | None = None) -> Tool:
    """The tool that calls `function` with keyword arguments.

    Parameters are described by their annotations, see `annotation_schema`, their defaults, and the docstring (Google,
    NumPy or Sphinx style); `Annotated[int, "text"]` describes one too. A parameter without annotation can be anything.
    name: the function's own where it is None; of a partial that of its function, of an object that of its class.

    Raises MessageError, naming the parameter, for what a model cannot fill in: `*args`, `**kwargs`, positional-only
    parameters, annotations that are not JSON.
    """
    inner = _inner(function)
    called = name or getattr(inner, "__name__", None) or type(inner).__name__
    if not isinstance(called, str) or called == "<lambda>":
        raise MessageError(f"expected a function with a name, found {shown(function)}; define it with def")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise MessageError(f"the signature of {called} is not known to Python; describe it as a Tool") from None
    hints = hints_of(function, called)
    description, described = read_docstring(_docstring(inner))
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
        if not properties and parameter.name == "self" and "self" not in hints:
            raise MessageError(f"{called} is a method without its object; give that of an object: thing.{called}")
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


def hints_of(function: Callable[..., Any], called: str) -> Mapping[str, Any]:
    """Annotations of the parameters, resolved; of an object those of its `__call__`, of a class of its `__init__`."""
    target: Any = _inner(function)
    if isinstance(target, type):
        target = target.__init__  # type: ignore[misc]
    elif not inspect.isroutine(target) and not hasattr(target, "__wrapped__"):
        target = type(target).__call__
    target = inspect.unwrap(target)
    try:
        given = {name: each for name, each in getattr(target, "__annotations__", {}).items() if name != "return"}
        parameters = SimpleNamespace(__annotations__=given, __globals__=getattr(target, "__globals__", {}))
        return typing.get_type_hints(parameters, include_extras=True)
    except Exception as error:  # whatever evaluating a string may raise
        raise MessageError(f"an annotation of {called} cannot be resolved: {error}") from None


def _inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of a partial its function."""
    while isinstance(function, partial):
        function = function.func
    return function


def _docstring(function: Callable[..., Any]) -> str | None:
    """An object's `__call__` may have one of its own."""
    if isinstance(function, type) or inspect.isroutine(function) or hasattr(function, "__wrapped__"):
        return inspect.getdoc(function)
    return getattr(type(function).__call__, "__doc__", None) or inspect.getdoc(function)
