"""Checks of what callers hand in: numbers, time limits, and token ids and row indices as int32 arrays."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]


def integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """`value` as an int in [low, high]. Integers of numpy pass; bool and float do not."""
    try:
        if isinstance(value, bool):
            raise TypeError
        result = operator.index(value)
    except TypeError:  # also of arrays, which have an __index__ that refuses
        raise TypeError(f"{name} must be an integer, not {type(value).__name__} {value!r}") from None
    if result < low or (high is not None and result > high):
        wanted = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ValueError(f"{name} must be {wanted}, not {result}")
    return result


def number(name: str, value: Any) -> float:
    """`value` as a float, also where it is an integer. Numbers of numpy pass; bool does not."""
    try:
        if isinstance(value, (bool, np.bool_, str, bytes, bytearray)):  # which float() takes
            raise TypeError
        return float(value)
    except TypeError:  # also of arrays, which have a __float__ that refuses
        raise TypeError(f"{name} must be a number, not {type(value).__name__} {value!r}") from None
    except OverflowError:
        return math.inf


class PromptTooLong(ValueError):
    """More tokens than the context holds."""

    def __init__(self, tokens: int, max_context: int) -> None:
        super().__init__(
            f"the prompt has {tokens} tokens, but the engine was loaded with max_context={max_context}; "
            "shorten it, or load with a larger max_context")
        self.tokens, self.max_context = tokens, max_context


def token_ids(ids: Sequence[int] | npt.NDArray[np.integer[Any]], vocab_size: int, max_context: int) -> Ids:
    """`ids` as int32 (tokens,). TypeError if they are not integers, ValueError if empty, too long or out of range."""
    array = _integers("token ids", ids)
    if array.size == 0:
        raise ValueError("the prompt is empty: at least one token is needed")
    if array.size > max_context:
        raise PromptTooLong(array.size, max_context)
    wrong = np.flatnonzero((array < 0) | (array >= vocab_size))
    if wrong.size:
        raise ValueError(f"token id {array[wrong[0]]} at index {wrong[0]} is not between 0 and {vocab_size - 1}")
    return array.astype(np.int32)


def row_indices(rows: Sequence[int] | npt.NDArray[np.integer[Any]] | None, tokens: int) -> Ids:
    """`rows` as int32 (rows,) in [0, tokens), negative ones counted from the end; None is every row."""
    if rows is None:
        return np.arange(tokens, dtype=np.int32)
    array = _integers("rows", rows)
    wrong = np.flatnonzero((array < -tokens) | (array >= tokens))
    if wrong.size:
        raise ValueError(f"row {array[wrong[0]]} does not exist: the prompt has {tokens} tokens, rows {-tokens} "
                         f"to {tokens - 1}")
    return np.where(array < 0, array + tokens, array).astype(np.int32)


def seconds(timeout: float | None) -> float | None:
    """A time limit. TypeError if it is no number, ValueError if it is not above 0."""
    if timeout is None:
        return None
    result = number("timeout", timeout)
    if not result > 0:
        raise ValueError(f"timeout must be above 0 seconds, or None for no limit, not {timeout!r}")
    return result


def _integers(what: str, values: Any) -> npt.NDArray[np.int64]:
    if isinstance(values, np.ndarray):
        if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
            raise TypeError(f"{what} must be a one-dimensional array of integers, not {values.dtype} {values.shape}")
        if values.dtype.kind == "u" and values.size and int(values.max()) > np.iinfo(np.int64).max:
            raise ValueError(f"{what} must be below 2**63; the one at index {values.argmax()} is {values.max()}")
        return values.astype(np.int64)
    if isinstance(values, (str, bytes, bytearray)) or not isinstance(values, Sequence):
        raise TypeError(f"{what} must be a sequence of integers, not {type(values).__name__}")
    for index, value in enumerate(values):
        if type(value) is not int and not isinstance(value, np.integer):
            raise TypeError(f"{what} must be integers; the one at index {index} is {type(value).__name__} {value!r}")
    try:
        return np.array(values, np.int64)
    except OverflowError:
        raise ValueError(f"{what} hold an integer beyond 64 bits: {max(values, key=abs)}") from None
