"""Checkpoints small enough that the scheduler, not the model, is what takes time; and gates that hold an engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import gptoss_native as gptoss
from checkpoint_layouts import write_hf
from gptoss_native import SamplingParams
from make_checkpoint import hf_config, make_tensors

SMALL: dict[str, Any] = {
    "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "num_local_experts": 4, "num_experts_per_tok": 2}
"""One sliding layer with a window of 16, and a full one."""


SLOW: dict[str, Any] = {"num_hidden_layers": 4}
"""For write_small, where a long prompt shall take long: 130,000 tokens a minute on one core, 30,000 three seconds. With
two layers it is half a second: the last layer's attention is computed for the rows asked for alone."""


def write_small(path: Path, **fields: Any) -> Path:
    """A checkpoint with a small real tokenizer in `path`, which is returned."""
    config = hf_config(**SMALL | fields)
    write_hf(path, config, make_tensors(config))
    return path


def ids(count: int, seed: int = 0) -> npt.NDArray[np.int32]:
    """Ordinary tokens: none of them ends a generation."""
    return np.random.default_rng(seed).integers(1, 480, count).astype(np.int32)


class Gate:
    """A logits_mask that holds the engine's thread, and with it every step, until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()

    def __call__(self, tokens: npt.NDArray[np.int32]) -> None:
        self.reached.set()
        assert self._open.wait(60)

    def open(self) -> None:
        self._open.set()


@contextmanager
def held(engine: gptoss.Engine) -> Iterator[gptoss.TokenStream]:
    """The engine is in the middle of a turn, with one sequence running, until the block ends: what is submitted
    meanwhile waits, in this order."""
    gate = Gate()
    stream = engine.stream([1], SamplingParams(max_tokens=1, logits_mask=gate))
    assert gate.reached.wait(60)
    try:
        yield stream
    finally:
        gate.open()


def endless(seed: int = 0, **params: Any) -> SamplingParams:
    """Generates until the context is full: the stop tokens of these checkpoints are forbidden."""
    return SamplingParams(seed=seed, logit_bias={token: float("-inf") for token in range(488, 512)}, **params)
