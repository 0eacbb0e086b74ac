"""How the next token is drawn, and when a generation ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gptoss_native.arguments import integer, number

MAX_SEED = 2**64 - 1
MAX_TEMPERATURE = 1e6
MAX_TOP_LOGPROBS = 20
MAX_SAMPLES = 128

LogitsMask = Callable[[npt.NDArray[np.int32]], "npt.NDArray[np.uint32] | None"]
"""Says which tokens may come next. Given: the completion so far, int32 (tokens,), read-only. Returned: uint32
(ceil(vocab_size / 32),), where bit v % 32 of word v // 32 allows token v; or None where every token may come."""


@dataclass(frozen=True)
class SamplingParams:
    """Names and defaults are OpenAI's, and vLLM's where OpenAI has none.

    The order in which they apply: penalties and bias; the mask; temperature; min_p; top_k; top_p; the draw.

    temperature: 0 is greedy (lowest id on ties); 1 is the model's own distribution.
    top_p: keep the most probable tokens until their mass reaches this share, in (0, 1].
    top_k: keep that many of the most probable tokens; 0, or -1, keeps all.
    min_p: keep tokens at least that share as probable as the most probable one, in [0, 1].
    repetition_penalty: the logit of a token that stands in the prompt or the completion is divided by it where it
        is positive, multiplied where it is negative; above 0, 1 is none.
    presence_penalty: taken off the logit of every token of the completion, in [-2, 2].
    frequency_penalty: the same, times how often the token stands there.
    logit_bias: {token id: what is added to its logit}, each in [-100, 100], or -inf to forbid the token.
    logits_mask: see LogitsMask. Called before each draw from the engine's own thread, while no lock is held but
        every sequence waits: it must be quick, depend on nothing but its argument, and not call the engine. What it
        raises is raised where the tokens are read.
    stop: texts that end the generation. The text ends before the first one that becomes complete; the tokens
        include it. In a conversation they are looked for in the answer, not in reasoning or calls.
    stop_token_ids: ids that end the generation, beside those the checkpoint names.
    min_tokens: tokens to draw before a stop token can be drawn, and before a stop text counts.
    max_tokens: tokens to generate at most; None is until the context is full.
    n: completions of the one prompt, each with its own noise. They share the prompt's pages.
    seed: 0 to 2**64 - 1. The same seed and prompt give the same tokens, whatever else runs, whatever was cached,
        however the prompt was cut into chunks, with any number of threads. None takes a fresh one; the result says
        which.
    logprobs: also tell the log probability of each token, from the logits as the model gave them.
    top_logprobs: and those of that many most probable tokens, 0 to 20; needs logprobs.

    Raises TypeError or ValueError naming the field, what is expected and what came.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logits_mask: LogitsMask | None = None
    stop: str | Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    min_tokens: int = 0
    max_tokens: int | None = None
    n: int = 1
    seed: int | None = None
    logprobs: bool = False
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            "temperature": _within("temperature", self.temperature, 0, MAX_TEMPERATURE, " (greedy)"),
            "top_p": _share("top_p", self.top_p, zero=False),
            "top_k": max(0, integer("top_k", self.top_k, -1)),
            "min_p": _share("min_p", self.min_p, zero=True),
            "repetition_penalty": _positive("repetition_penalty", self.repetition_penalty),
            "presence_penalty": _within("presence_penalty", self.presence_penalty, -2, 2),
            "frequency_penalty": _within("frequency_penalty", self.frequency_penalty, -2, 2),
            "logit_bias": _bias(self.logit_bias),
            "stop": _stop_texts(self.stop),
            "stop_token_ids": _stop_ids(self.stop_token_ids),
            "min_tokens": integer("min_tokens", self.min_tokens, 0),
            "max_tokens": None if self.max_tokens is None else integer("max_tokens", self.max_tokens, 1),
            "n": integer("n", self.n, 1, MAX_SAMPLES),
            "seed": None if self.seed is None else integer("seed", self.seed, 0, MAX_SEED),
            "top_logprobs": integer("top_logprobs", self.top_logprobs, 0, MAX_TOP_LOGPROBS),
        }
        if self.logits_mask is not None and not callable(self.logits_mask):
            raise TypeError(f"logits_mask must be callable, not {type(self.logits_mask).__name__}")
        if not isinstance(self.logprobs, (bool, np.bool_)):
            raise TypeError(f"logprobs must be True or False, not {type(self.logprobs).__name__} {self.logprobs!r}; "
                            "how many is said by top_logprobs")
        if checked["top_logprobs"] and not self.logprobs:
            raise ValueError(f"top_logprobs={checked['top_logprobs']} needs logprobs=True")
        if checked["max_tokens"] is not None and checked["min_tokens"] > checked["max_tokens"]:
            raise ValueError(f"min_tokens must be at most max_tokens, {checked['max_tokens']}, "
                             f"not {checked['min_tokens']}")
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # the dataclass is frozen; these are only normalised


def _within(name: str, value: Any, low: float, high: float, meaning_of_low: str = "") -> float:
    result = number(name, value)
    if not low <= result <= high:
        raise ValueError(f"{name} must be between {low}{meaning_of_low} and {high:g}, not {value!r}")
    return result


def _share(name: str, value: Any, *, zero: bool) -> float:
    result = number(name, value)
    if not (0 <= result <= 1 if zero else 0 < result <= 1):
        raise ValueError(f"{name} must be {'between 0' if zero else 'above 0'} and {'1' if zero else 'at most 1'}, "
                         f"not {value!r}")
    return result


def _positive(name: str, value: Any) -> float:
    result = number(name, value)
    if not 0 < result <= 1e6:
        raise ValueError(f"{name} must be above 0 and at most 1e6, not {value!r}")
    return result


def _bias(value: Any) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise TypeError(f"logit_bias must be a mapping from token id to bias, not {type(value).__name__} {value!r}")
    checked = {}
    for token, bias in value.items():
        token = integer("each token id of logit_bias", token, 0)
        checked[token] = number(f"logit_bias of token {token}", bias)
        if not (-100 <= checked[token] <= 100 or checked[token] == -math.inf):
            raise ValueError(f"logit_bias of token {token} must be between -100 and 100, or -inf, not {bias!r}")
    return checked


def _stop_texts(value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if isinstance(texts, (bytes, Mapping)) or not hasattr(type(texts), "__iter__"):
        raise TypeError(f"stop must be a text or a sequence of texts, not {type(value).__name__} {value!r}")
    texts = tuple(texts)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"each of stop must be a text, not {type(text).__name__} {text!r}")
        if not text:
            raise ValueError("stop holds an empty text, which would end every generation before it begins")
    return texts


def _stop_ids(value: Any) -> tuple[int, ...]:
    if isinstance(value, (str, bytes)) or not hasattr(type(value), "__iter__"):
        raise TypeError(f"stop_token_ids must be a sequence of token ids, not {type(value).__name__} {value!r}")
    return tuple(integer("each of stop_token_ids", token, 0) for token in value)
