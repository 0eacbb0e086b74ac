"""Many sequences in one engine: what a step of several costs, and how long a cancelled one goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, sleep
from typing import Any

import numpy as np
import numpy.typing as npt

import gptoss_native as gptoss

from .costs import Cost, Model
from .measure import Probe, Row, Spread, alternate, compare

ROUND_TOKENS = 3
"""Tokens of each sequence that are timed between two measurements of the ceilings."""
LONG_PROMPT = 4096
"""Longer than what is read of it before it is cancelled."""


def bench_serving(folder: Path, *, precision: str, kv_dtype: str, threads: int, batches: Sequence[int], rounds: int,
                  probe: Probe) -> Iterator[Row]:
    """batches: numbers of sequences that run together."""
    checkpoint = gptoss.open_checkpoint(folder)
    model = Model(checkpoint.config, checkpoint.expert_format, kv_dtype)
    most = checkpoint.config.max_position_embeddings
    with gptoss.load(folder, device="cpu", precision=precision, kv_dtype=kv_dtype, threads=threads or None,
                     max_context=min(LONG_PROMPT + 64, most), max_sequences=max(batches),
                     max_total_tokens=min(LONG_PROMPT + 64, most)) as engine:
        device = engine.device
        settings = {"threads": device.threads, "precision": device.precision, "kv_dtype": device.kv_dtype}
        engine.generate([1, 2], together(1))
        for sequences in batches:
            yield decode_together(engine, model, settings | {"sequences": sequences}, rounds, probe)
        tokens = min(LONG_PROMPT, most - 64)
        prompt = np.random.default_rng(0).integers(0, checkpoint.config.vocab_size, tokens, np.int32)
        for phase, begun in (("decode", prompt[:1]), ("prefill", prompt)):
            seconds = [cancel(engine, begun, Random(i).uniform(0.1, 0.5)) for i in range(2 * rounds + 1)]
            yield Row("cancel", f"in a {phase}", settings, Spread.of(seconds), Cost(), "", None, None,
                      {"worst_seconds": max(seconds)})


def decode_together(engine: gptoss.Engine, model: Model, settings: dict[str, Any], rounds: int, probe: Probe) -> Row:
    """Samples of one prompt, which choose experts of their own: each step holds a token of every one of them."""
    sequences: int = settings["sequences"]

    def some() -> float:
        completion = engine.generate([1], together(sequences))
        return max(each.decode_seconds for each in completion.completions) / ROUND_TOKENS

    some()
    seconds, ceilings = alternate(probe, some, rounds)
    return compare("batch", f"{sequences} sequences", settings, model.batch(sequences, context=2), seconds, ceilings,
                   tokens_per_second=sequences / median(seconds))


def together(sequences: int) -> gptoss.SamplingParams:
    tokens = 1 + ROUND_TOKENS
    return gptoss.SamplingParams(n=sequences, seed=sequences, min_tokens=tokens, max_tokens=tokens)


def cancel(engine: gptoss.Engine, prompt: npt.NDArray[np.int32], after: float) -> float:
    """Seconds from closing a stream to the moment at which the engine does nothing any more."""
    while True:
        stream = engine.stream(prompt, gptoss.SamplingParams(min_tokens=engine.max_context - len(prompt)))
        sleep(after)
        start = perf_counter()
        if not engine.metrics().running:  # it has ended already: a small model
            after /= 2
            continue
        stream.close()
        while engine.metrics().running:
            sleep(0.0005)
        return perf_counter() - start
