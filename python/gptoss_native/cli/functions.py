"""--tools module:function: Python functions that the model may call."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from gptoss_native.harmony import Toolbox, toolbox


def load_functions(specs: Sequence[str]) -> Toolbox:
    """The tools of "module:function" or "file.py:function". ValueError says which one is wrong, and why."""
    return toolbox([_function(spec) for spec in specs])


def _function(spec: str) -> Callable[..., Any]:
    place, colon, name = spec.rpartition(":")
    if not (colon and place and name):
        raise ValueError(f"--tools takes module:function or file.py:function, not {spec!r}")
    module = _module(place)
    try:
        function = attrgetter(name)(module)
    except AttributeError:
        there = [each for each, value in vars(module).items()
                 if inspect.isfunction(value) and value.__module__ == module.__name__ and not each.startswith("_")]
        raise ValueError(f"--tools {spec}: {place} has no {name}; it has "
                         f"{', '.join(there) or 'no functions'}") from None
    if not callable(function):
        raise ValueError(f"--tools {spec}: {name} is no function, but {type(function).__name__}")
    if inspect.iscoroutinefunction(function):
        raise ValueError(f"--tools {spec}: {name} is a coroutine function; give an ordinary one")
    return function  # type: ignore[no-any-return]


def _module(place: str) -> ModuleType:
    try:
        if place.endswith(".py"):
            return _file(Path(place).expanduser().absolute())
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())  # as `python -m` has it
        return importlib.import_module(place)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a module of the user's raises, SystemExit too
        raise ValueError(f"--tools {place}: cannot be imported, {type(error).__name__}: {error}") from error


def _file(path: Path) -> ModuleType:
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(name, module)  # where dataclasses look, and the next function of this file
    spec.loader.exec_module(module)
    return module
