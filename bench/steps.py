"""Whole steps, through the public stream: prefill of a prompt, and decode behind an empty or a filled cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

import gptoss_native as gptoss

from .costs import Model
from .measure import Probe, Row, alternate, compare

ROUND_TOKENS = 4
"""Tokens that are decoded between two measurements of the ceilings."""
LONG = 512
"""A prefill of more tokens than this is measured once: it takes long enough to be its own average."""


def bench_steps(folder: Path, *, precision: str, kv_dtype: str, threads: int, prefill: Sequence[int],
                contexts: Sequence[int], rounds: int, probe: Probe) -> Iterator[Row]:
    """contexts: tokens in the cache before the first decode."""
    checkpoint = gptoss.open_checkpoint(folder)
    model = Model(checkpoint.config, checkpoint.expert_format, kv_dtype)
    decoded = (rounds + 1) * (1 + ROUND_TOKENS)
    max_context = min(max([*prefill, *contexts]) + decoded + 2, model.config.max_position_embeddings)
    with gptoss.load(folder, device="cpu", precision=precision, kv_dtype=kv_dtype, threads=threads or None,
                     max_context=max_context) as engine:
        steps = Steps(engine, model, rounds, probe)
        for tokens in prefill:
            yield steps.prefill(tokens)
        for context in sorted(contexts):
            yield steps.decode(context)


class Steps:
    def __init__(self, engine: gptoss.Engine, model: Model, rounds: int, probe: Probe) -> None:
        self.engine, self.model, self.rounds, self.probe = engine, model, rounds, probe
        self.random = np.random.default_rng(0)
        self.cached = self.ids(engine.max_context)  # contexts are prefixes of each other: each is filled once
        engine.generate(self.ids(2), greedy(1))  # reads the tokenizer, starts the threads
        device = engine.device
        self.settings = {"threads": device.threads, "precision": device.precision, "kv_dtype": device.kv_dtype}

    def ids(self, count: int) -> npt.NDArray[np.int32]:
        return self.random.integers(0, self.model.config.vocab_size, count).astype(np.int32)

    def prefill(self, tokens: int) -> Row:
        """From the prompt to the first token drawn: the whole prompt, and one row of logits."""
        def once() -> float:
            return self.engine.generate(self.ids(tokens), greedy(1)).prefill_seconds

        rounds = 1 if tokens > LONG else max(self.rounds // 2, 1)
        seconds, ceilings = alternate(self.probe, once, rounds)
        return compare("prefill", f"prefill {tokens}", self.settings | {"tokens": tokens}, self.model.step(tokens),
                       seconds, ceilings, tokens_per_second=tokens / median(seconds))

    def decode(self, context: int) -> Row:
        """Behind the first token of each round, which the cached prefix of the round before leads to."""
        prompt = self.cached[: max(context, 1)]

        def some() -> float:
            nonlocal prompt
            completion = self.engine.generate(prompt, greedy(1 + ROUND_TOKENS))
            prompt = np.append(prompt, np.array(completion.tokens, np.int32))
            return completion.decode_seconds / ROUND_TOKENS

        some()
        seconds, ceilings = alternate(self.probe, some, self.rounds)
        middle = max(context, 1) + (1 + ROUND_TOKENS) * (2 + self.rounds) // 2
        return compare("decode", f"decode, {context} cached", self.settings | {"context": context},
                       self.model.step(1, context=middle), seconds, ceilings, tokens_per_second=1 / median(seconds))


def greedy(tokens: int) -> gptoss.SamplingParams:
    """So many tokens, whether the model would stop or not."""
    return gptoss.SamplingParams(temperature=0, min_tokens=tokens, max_tokens=tokens)
