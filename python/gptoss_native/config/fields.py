"""Fields of a parsed config.json, taken out one by one with their type and range checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gptoss_native.config.strict_json import shown
from gptoss_native.errors import CheckpointError

COUNT = 65_536
"""More layers, heads or experts than this are a mistake."""
SIZE = 2**31 - 1
"""The largest single dimension."""


def wrong(source: str, key: str, expected: str, found: object) -> CheckpointError:
    return CheckpointError(f"{source}: {key} should be {expected}, but is {shown(found)}.")


def integer(data: Mapping[str, Any], key: str, source: str, *, low: int = 1, high: int = SIZE,
            default: int | None = None) -> int:
    """`default` None: the field is required."""
    value = _get(data, key, source, default)
    if type(value) is not int or not low <= value <= high:  # a bool or 4.0 is a mistake, not an integer
        raise wrong(source, key, f"an integer from {low} to {high}", value)
    return value


def number(data: Mapping[str, Any], key: str, source: str, *, above: float = -math.inf,
           at_least: float = -math.inf, default: float | None = None) -> float:
    """A number that float32 can hold. `default` None: the field is required."""
    value = _get(data, key, source, default)
    if type(value) not in (int, float) or not (above < value < 1e30 and value >= at_least):
        bound = f" above {above:g}" if above > -math.inf else ""
        bound += f" of at least {at_least:g}" if at_least > -math.inf else ""
        raise wrong(source, key, f"a finite number{bound}", value)
    return float(value)


def token_ids(data: Mapping[str, Any], key: str, vocab_size: int, source: str) -> tuple[int, ...]:
    """A field that holds one token id, a list of them, or nothing."""
    value = data.get(key)
    if value is None:
        return ()
    ids = value if isinstance(value, list) else [value]
    return tuple(integer({key: item}, key, source, low=0, high=vocab_size - 1) for item in ids)


def _get(data: Mapping[str, Any], key: str, source: str, default: float | None) -> Any:
    if default is None and key not in data:
        raise CheckpointError(f"{source}: {key} is missing; every gpt-oss config has it.")
    return data.get(key, default)
