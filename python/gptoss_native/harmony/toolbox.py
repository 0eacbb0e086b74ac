"""The tools of a conversation: under which names the model is told of them, and which of them a call means."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NoReturn

from gptoss_native.config.strict_json import shown
from gptoss_native.harmony.messages import MessageError
from gptoss_native.harmony.tools import FUNCTIONS, Tool, ToolNamespace

FUNCTION_NAME = re.compile(r"[A-Za-z_][\w.-]{0,127}", re.ASCII)
GLUED_TYPES = ("json", "code")


@dataclass(frozen=True)
class ToolCall:
    """A call that the model made.

    name: as the caller declared it, without "functions."; of built-in tools "python", "browser.search" and so on.
    arguments: as the model wrote them; of the built-in python, source. parsed: the JSON object that they are, or
    None; error: why they are none, where they should be. Nothing is repaired.
    recipient: the name as the model wrote it. known: whether there is such a tool; None if the parser was not told
    of any. complete: whether the model ended it; if not, it was cut off. id: "call_1" and so on, in the order of the
    calls of a conversation, as OpenAI's clients expect one; the model does not read it.
    """

    name: str
    arguments: str
    parsed: dict[str, Any] | None = field(hash=False)
    error: str | None
    recipient: str
    known: bool | None
    complete: bool
    id: str = ""


@dataclass(frozen=True)
class Toolbox:
    """functions: the caller's own. builtins: `browser()`, `python()`, or what stands for them.

    aliases: name of a function -> the name that the model is told. For functions named `python` or `browser`, which
    the model would call in the way it was trained to, with source instead of JSON. Calls come back under the
    caller's name. callables: name of a function -> the Python function that it is, where it is one.

    Raises MessageError for names that a call cannot have, that are not unique, or alias no function.
    """

    functions: tuple[Tool, ...] = ()
    builtins: tuple[ToolNamespace, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    callables: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [tool.name for tool in self.functions]
        for alias in self.aliases:
            if alias not in names:
                raise MessageError(f"aliases has {shown(alias)}, expected one of the functions: {', '.join(names)}")
        told = [self.told(name) for name in names]
        for name in (*names, *told):
            if not isinstance(name, str) or not FUNCTION_NAME.fullmatch(name):
                raise MessageError(f"a function has the name {shown(name)}, expected letters, digits, _, - and ., such "
                                   "as get_weather")
        if len(set(names)) < len(names) or len(set(told)) < len(told):
            raise MessageError(f"expected functions with names of their own, found {', '.join(told)}")

    def told(self, name: str) -> str:
        """The name that the model knows the function by."""
        return self.aliases.get(name, name)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of the functions, the caller's and those that the model knows."""
        return frozenset(name for tool in self.functions for name in (tool.name, self.told(tool.name)))

    @property
    def namespaces(self) -> tuple[ToolNamespace, ...]:
        """The functions for a developer message: one namespace, or none."""
        tools = tuple(replace(tool, name=self.told(tool.name)) for tool in self.functions)
        return (ToolNamespace(FUNCTIONS, None, tools),) if tools else ()

    def recipient(self, name: str) -> str:
        """Whom a call to the tool `name` is addressed to."""
        declared = any(tool.name == name for tool in self.functions)
        if not declared and (self._is_builtin(name) or name.startswith(f"{FUNCTIONS}.")):
            return name
        return f"{FUNCTIONS}.{self.told(name)}"

    def resolve(self, recipient: str) -> tuple[str, bool]:
        """Which tool is meant: its name, and whether there is one. The name may lack "functions." or have it where
        it does not belong, and may have a content type glued to its end."""
        name = bare(recipient)
        found = self._find(recipient, name)
        for glued in GLUED_TYPES:
            if found is None and name.endswith(glued):
                found = self._find(recipient.removesuffix(glued), name.removesuffix(glued))
        return (name, False) if found is None else (found, True)

    def _find(self, recipient: str, name: str) -> str | None:
        if recipient == name and self._is_builtin(name):
            return name
        names = [tool.name for tool in self.functions]
        for each in names:
            if self.told(each) == name:
                return each
        if name in names or self._is_builtin(name):
            return name
        short = name.removeprefix("browser.")
        return short if short in names else None

    def _is_builtin(self, name: str) -> bool:
        return any(
            name == namespace.name and not namespace.tools
            or any(name == f"{namespace.name}.{tool.name}" for tool in namespace.tools)
            for namespace in self.builtins
        )

    def takes_source(self, name: str) -> bool:
        """Whether it is a built-in tool without functions, python for one."""
        return any(name == namespace.name and not namespace.tools for namespace in self.builtins)

    def takes_nothing(self, name: str) -> bool:
        return any(tool.name == name and not tool.parameters for tool in self.functions)


def tool_call(recipient: str, arguments: str, complete: bool, toolbox: Toolbox | None, call_id: str = "") -> ToolCall:
    """The call that a message to `recipient` is. Never raises."""
    name, known = called(recipient, toolbox)
    parsed, error = parse_arguments(arguments)
    if recipient == "python" or toolbox is not None and toolbox.takes_source(name):
        error = None
    if error is not None and not arguments.strip() and toolbox is not None and toolbox.takes_nothing(name):
        parsed, error = {}, None
    return ToolCall(name, arguments, parsed, error, recipient, known, complete, call_id)


def called(recipient: str, toolbox: Toolbox | None) -> tuple[str, bool | None]:
    """The name of the tool, and whether there is one; None without a toolbox."""
    return (bare(recipient), None) if toolbox is None else toolbox.resolve(recipient)


def bare(recipient: str) -> str:
    """Without "functions.", unless that is all there is."""
    return recipient.removeprefix(f"{FUNCTIONS}.") or recipient


def parse_arguments(arguments: str) -> tuple[dict[str, Any] | None, str | None]:
    """The JSON object that `arguments` are, or why they are none. Never raises."""
    try:
        value = json.loads(arguments, parse_constant=_no_constant)
    except RecursionError:
        return None, "the arguments are nested too deeply"
    except ValueError as error:
        return None, f"the arguments are not JSON: {error}"
    if not isinstance(value, dict):
        return None, f"the arguments are {shown(value)}, expected a JSON object"
    return value, None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
