"""Draws from logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gptoss_native.native import _core
from gptoss_native.ops.call import Call, Result
from gptoss_native.ops.device import Device

MOST_LOGPROBS = 20


@dataclass(frozen=True)
class Draw:
    """How a token is drawn from one row of logits; the meaning and the order of the fields is csrc/sampling.h's.

    position: of the token being drawn; with seed and index it decides the random numbers. mask: uint32
    (ceil(vocab / 32)), bit v % 32 of word v // 32 allows token v. edits: token ids, 1 where it was seen at all, how
    often it was generated, bias: four arrays of one length, each id once.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0
    index: int = 0
    position: int = 1
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    mask: npt.NDArray[np.uint32] | None = None
    edits: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32],
                 npt.NDArray[np.float32]] | None = None
    logprobs: int = -1
    """-1: none. Else the log probability of the drawn token, and of that many (0 to 20) most probable ones."""

    def native(self) -> _core.Sampling:
        return _core.Sampling(
            temperature=self.temperature, top_p=self.top_p, seed=self.seed, index=self.index, top_k=self.top_k,
            min_p=self.min_p, repetition_penalty=self.repetition_penalty, presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty, logprobs=self.logprobs, edits=self.edits, mask=self.mask)


@dataclass(frozen=True)
class Draws:
    token: Result
    """int32 (rows); -1 where a logit is not a number or the largest is not finite, -2 where nothing is allowed."""
    logprob: Result
    """float32 (rows): of the drawn token, from the logits as they were given; undefined where none was asked for."""
    top_token: Result
    """int32 (rows, 20): the most probable ones, as many as were asked for; the rest is undefined."""
    top_logprob: Result


def sample(logits: Any, draws: Draw | Sequence[Draw], *, device: str | Device = "cpu",
           stream: int | None = None) -> Draws:
    """One draw from each row of logits, float32 (rows, vocab). `draws`: one for all rows, or one for each.

    The same token on every device: sampling is exact arithmetic. Source: the Gumbel-max trick, over a hash of (seed,
    index, position, token id). ValueError: parameters out of range, a mask or edits that do not fit the vocabulary.
    """
    call = Call(device, stream=stream)
    a = call.take("logits", logits, "float32", ("rows", "vocab"))
    rows, vocab = call.sizes["rows"], call.sizes["vocab"]
    each = [draws] * rows if isinstance(draws, Draw) else list(draws)
    if len(each) != rows:
        raise ValueError(f"draws: expected one for each of {rows} rows, found {len(each)}")
    results = (call.result("rows", dtype="int32"), call.result("rows"),
               call.result("rows", MOST_LOGPROBS, dtype="int32"), call.result("rows", MOST_LOGPROBS))
    operation = call.lab.sample(a, [draw.native() for draw in each], [draw.position for draw in each], *results, rows,
                                vocab, call.stream)
    return Draws(*call.run(operation, *results))
