"""Many sequences in one engine: what a step of several costs, and how long a cancelled one goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from statistics import median
from time import perf_counter, sleep

import numpy as np
import numpy.typing as npt

from gptoss_native.bench.costs import Cost
from gptoss_native.bench.measure import Probe, Row, Spread, alternate, compare
from gptoss_native.bench.setup import Setup
from gptoss_native.engine.engine import Engine
from gptoss_native.engine.loading import load
from gptoss_native.sampling.params import SamplingParams

ROUND_TOKENS = 3
"""Tokens of each sequence that are timed between two measurements of the ceilings."""
LONG_PROMPT = 4096
"""Longer than what is read of it before it is cancelled."""


def bench_batches(setup: Setup, *, batches: Sequence[int], rounds: int, probe: Probe) -> Iterator[Row]:
    """batches: numbers of sequences that run together."""
    tokens = 2 + ROUND_TOKENS
    with load(setup.folder, **setup.options, max_context=tokens, max_sequences=max(batches)) as engine:
        engine.generate([1, 2], together(1))
        for sequences in batches:
            yield decode_together(engine, setup, sequences, rounds, probe)


def bench_cancel(setup: Setup, *, rounds: int) -> Iterator[Row]:
    config = setup.checkpoint().config
    most = min(LONG_PROMPT + 64, config.max_position_embeddings)
    with load(setup.folder, **setup.options, max_context=most, max_sequences=1) as engine:
        prompt = np.random.default_rng(0).integers(0, config.vocab_size, most - 64, np.int32)
        for phase, begun in (("decode", prompt[:1]), ("prefill", prompt)):
            seconds = [cancel(engine, begun, Random(i).uniform(0.1, 0.5)) for i in range(2 * rounds + 1)]
            yield Row("cancel", f"in a {phase}", setup.settings, Spread.of(seconds), Cost(), "", None, None,
                      {"worst_seconds": max(seconds)})


def decode_together(engine: Engine, setup: Setup, sequences: int, rounds: int, probe: Probe) -> Row:
    """Samples of one prompt, which choose experts of their own: each step holds a token of every one of them."""
    def some() -> float:
        completion = engine.generate([1], together(sequences))
        return max(each.decode_seconds for each in completion.completions) / ROUND_TOKENS

    some()
    seconds, ceilings = alternate(probe, some, rounds)
    settings, cost = {"sequences": sequences} | setup.settings, setup.model().batch(sequences, context=2)
    return compare("batch", f"{sequences} sequences", settings, cost, seconds, ceilings,
                   tokens_per_second=sequences / median(seconds))


def together(sequences: int) -> SamplingParams:
    tokens = 1 + ROUND_TOKENS
    return SamplingParams(n=sequences, seed=sequences, min_tokens=tokens, max_tokens=tokens)


def cancel(engine: Engine, prompt: npt.NDArray[np.int32], after: float) -> float:
    """Seconds from closing a stream to the moment at which the engine does nothing any more."""
    while True:
        stream = engine.stream(prompt, SamplingParams(min_tokens=engine.max_context - len(prompt)))
        sleep(after)
        start = perf_counter()
        if not engine.metrics().running:  # it has ended already: a small model
            after /= 2
            continue
        stream.close()
        while engine.metrics().running:
            sleep(0.0005)
        return perf_counter() - start
