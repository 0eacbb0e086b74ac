"""Many sequences in one engine: what a step of several costs, and how long a cancelled one goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from statistics import median
from time import perf_counter, sleep

import numpy as np
import numpy.typing as npt

from gptoss_native.bench.costs import Cost
from gptoss_native.bench.measure import Ceilings, Probe, Row, Spread, alternate, compare
from gptoss_native.bench.setup import Setup
from gptoss_native.engine.engine import Engine
from gptoss_native.engine.loading import load
from gptoss_native.native import _core
from gptoss_native.sampling.params import SamplingParams

ROUND_TOKENS = 3
"""Tokens of each sequence that are timed between two measurements of the ceilings."""
PROMPT = [1]
LONG_PROMPT = 4096
"""Longer than what is read of it before it is cancelled."""


def bench_batches(setup: Setup, *, batches: Sequence[int], rounds: int, probe: Probe) -> Iterator[Row]:
    """batches: numbers of sequences that run together."""
    tokens = len(PROMPT) + 1 + ROUND_TOKENS
    with load(setup.folder, **setup.options, max_context=tokens, max_sequences=max(batches)) as engine:
        engine.generate(PROMPT, together(1))
        measured = [decode_together(engine, sequences, rounds, probe) for sequences in batches]
    native = setup.open_native(max_context=tokens, max_sequences=max(batches), max_tokens=max(batches) * tokens,
                               max_outputs=1, max_observed=max(batches) * tokens)
    for seconds, ceilings, samples in measured:
        experts = distinct_experts(native, samples)
        cost = setup.model().batch(len(samples), context=len(PROMPT) + 1, experts=experts)
        yield compare("batch", f"{len(samples)} sequences", {"sequences": len(samples)} | setup.settings, cost, seconds,
                      ceilings, tokens_per_second=len(samples) / median(seconds), experts=experts)
    native.close()


def bench_cancel(setup: Setup, *, rounds: int) -> Iterator[Row]:
    config = setup.checkpoint().config
    most = min(LONG_PROMPT + 64, config.max_position_embeddings)
    with load(setup.folder, **setup.options, max_context=most, max_sequences=1) as engine:
        prompt = np.random.default_rng(0).integers(0, config.vocab_size, most - 64, np.int32)
        for phase, begun in (("decode", prompt[:1]), ("prefill", prompt)):
            seconds = [cancel(engine, begun, Random(i).uniform(0.1, 0.5)) for i in range(2 * rounds + 1)]
            yield Row("cancel", f"in a {phase}", setup.settings, Spread.of(seconds), Cost(), "", None, None,
                      {"worst_seconds": max(seconds)})


def decode_together(engine: Engine, sequences: int, rounds: int,
                    probe: Probe) -> tuple[list[float], list[Ceilings], list[tuple[int, ...]]]:
    """Samples of one prompt, which choose experts of their own: each step holds a token of every one of them. Seconds
    of a step and the ceilings of each round, and the samples, which are the same in every round."""
    samples: list[tuple[int, ...]] = []

    def some() -> float:
        completions = engine.generate(PROMPT, together(sequences)).completions
        samples[:] = [each.tokens for each in completions]
        return max(each.decode_seconds for each in completions) / ROUND_TOKENS

    some()
    return *alternate(probe, some, rounds), samples


def distinct_experts(native: _core.Engine, samples: Sequence[Sequence[int]]) -> float:
    """How many experts of a layer the tokens of one decode step choose together: the mean over layers and steps."""
    ids = [np.array([*PROMPT, *sample], np.int32) for sample in samples]
    sessions = [native.session() for _ in ids]
    _, seen = native.observe([_core.Work(session, tokens) for session, tokens in zip(sessions, ids)], ["router_choice"])
    for session in sessions:
        session.close()
    chosen = seen["router_choice"]  # (layers, tokens of all samples, num_experts_per_tok)
    steps = chosen.reshape(len(chosen), len(samples), -1, chosen.shape[-1])[:, :, len(PROMPT):-1]
    return float(np.mean([len(np.unique(step)) for layer in steps for step in np.moveaxis(layer, 1, 0)]))


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
