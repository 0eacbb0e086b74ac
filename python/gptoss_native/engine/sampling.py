"""How the next token is drawn, and when a generation ends."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

MAX_SEED = 2**64 - 1
MAX_TEMPERATURE = 1e6
GREEDY_BELOW = 1e-5
"""Below this temperature softmax(logits / temperature) is one-hot in float32, and the quotient may overflow."""


@dataclass(frozen=True)
class SamplingParams:
    """Names and defaults are OpenAI's.

    temperature: 0 is greedy (lowest id on ties); 1 is the model's own distribution.
    top_p: keep the most probable tokens until their mass reaches this share, in (0, 1].
    seed: 0 to 2**64 - 1. The same seed and prompt give the same tokens, whatever was cached, however the prompt
        was cut into chunks, with any number of threads. None takes a fresh one; the result says which.
    max_tokens: tokens to generate at most; None is until the context is full.
    stop_token_ids: ids that end the generation, beside those the checkpoint names.

    Raises TypeError or ValueError naming the field, what is expected and what came.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    max_tokens: int | None = None
    stop_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # the dataclass is frozen; these are only normalised, not changed
        temperature = _number("temperature", self.temperature)
        if not 0 <= temperature <= MAX_TEMPERATURE:
            raise ValueError(
                f"temperature must be between 0 (greedy) and {MAX_TEMPERATURE:g}, not {self.temperature!r}")
        top_p = _number("top_p", self.top_p)
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p!r}")
        set_field(self, "temperature", temperature)
        set_field(self, "top_p", top_p)
        if self.seed is not None:
            set_field(self, "seed", integer("seed", self.seed, 0, MAX_SEED))
        if self.max_tokens is not None:
            set_field(self, "max_tokens", integer("max_tokens", self.max_tokens, 1))
        set_field(self, "stop_token_ids", _stop_ids(self.stop_token_ids))


def integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """`value` as an int in [low, high]. Integers of numpy pass; bool and float do not."""
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__} {value!r}")
    number = operator.index(value)
    if number < low or (high is not None and number > high):
        wanted = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ValueError(f"{name} must be {wanted}, not {number}")
    return number


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not (hasattr(type(value), "__float__") or hasattr(type(value), "__index__")):
        raise TypeError(f"{name} must be a number, not {type(value).__name__} {value!r}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _stop_ids(value: Any) -> tuple[int, ...]:
    if isinstance(value, (str, bytes)) or not hasattr(type(value), "__iter__"):
        raise TypeError(f"stop_token_ids must be a sequence of token ids, not {type(value).__name__} {value!r}")
    return tuple(integer("each of stop_token_ids", token, 0) for token in value)
