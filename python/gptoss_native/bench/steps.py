"""Whole steps, through the public stream: prefill of a prompt, and decode behind an empty or a filled cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

import numpy as np
import numpy.typing as npt

from gptoss_native.bench.measure import Probe, Row, alternate, compare
from gptoss_native.bench.setup import Setup
from gptoss_native.engine.engine import Engine
from gptoss_native.engine.loading import load
from gptoss_native.sampling.params import SamplingParams

ROUND_TOKENS = 4
"""Tokens that are decoded between two measurements of the ceilings."""
LONG_SECONDS = 20
"""A prefill that takes longer is measured once: it is its own average."""


def bench_steps(setup: Setup, *, prefill: Sequence[int], contexts: Sequence[int], rounds: int,
                probe: Probe) -> Iterator[Row]:
    """contexts: tokens in the cache before the first decode."""
    decoded = (rounds + 1) * (1 + ROUND_TOKENS)
    most = setup.checkpoint().config.max_position_embeddings
    max_context = min(max([*prefill, *contexts]) + decoded + 2, most)
    with load(setup.folder, **setup.options, max_context=max_context) as engine:
        steps = Steps(engine, setup, rounds, probe)
        for tokens in prefill:
            yield steps.prefill(tokens)
        for context in sorted(contexts):
            yield steps.decode(context)


class Steps:
    def __init__(self, engine: Engine, setup: Setup, rounds: int, probe: Probe) -> None:
        self.engine, self.rounds, self.probe = engine, rounds, probe
        self.model, self.settings = setup.model(), setup.settings
        self.random = np.random.default_rng(0)
        self.cached = self.ids(engine.max_context)  # contexts are prefixes of each other: each is filled once
        engine.generate(self.ids(2), greedy(1))  # reads the tokenizer, starts the threads

    def ids(self, count: int) -> npt.NDArray[np.int32]:
        return self.random.integers(0, self.model.config.vocab_size, count).astype(np.int32)

    def prefill(self, tokens: int) -> Row:
        """From the prompt to the first token drawn: the whole prompt, and one row of logits."""
        def once() -> float:
            return self.engine.generate(self.ids(tokens), greedy(1)).prefill_seconds

        seconds, ceilings = alternate(self.probe, once, 1)
        if seconds[0] < LONG_SECONDS:
            more, their_ceilings = alternate(self.probe, once, (self.rounds - 1) // 2)
            seconds, ceilings = seconds + more, ceilings + their_ceilings
        return compare("prefill", f"prefill {tokens}", self.settings | {"tokens": tokens}, self.model.step(tokens),
                       seconds, ceilings, tokens_per_second=tokens / median(seconds))

    def decode(self, context: int) -> Row:
        """Behind the first token of each round, which the cached prefix of the round before leads to."""
        prompt = self.cached[: max(context, 1)]

        def some() -> float:
            nonlocal prompt
            completion = self.engine.stream(prompt, greedy(1 + ROUND_TOKENS)).run()
            prompt = np.append(prompt, np.array(completion.tokens, np.int32))
            return completion.decode_seconds / ROUND_TOKENS

        some()
        seconds, ceilings = alternate(self.probe, some, self.rounds)
        middle = max(context, 1) + (1 + ROUND_TOKENS) * (2 + self.rounds) // 2
        return compare("decode", f"decode, {context} cached", self.settings | {"context": context},
                       self.model.step(1, context=middle), seconds, ceilings, tokens_per_second=1 / median(seconds))


def greedy(tokens: int) -> SamplingParams:
    """So many tokens, whether the model would stop or not."""
    return SamplingParams(temperature=0, min_tokens=tokens, max_tokens=tokens)
