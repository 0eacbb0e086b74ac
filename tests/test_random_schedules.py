"""Joins, leaves, cancels, rewinds, shared beginnings, evictions and preemptions at random, against single cold runs.

Whatever else happens, a request gives bit for bit what it gives alone in an engine that remembers nothing: tokens,
texts, log probabilities. GPTOSS_SCHEDULES says how many schedules are tried (default 500); thousands take minutes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gptoss_native as gptoss
from gptoss_native import SamplingParams
from small_models import ids, write_small

SCHEDULES = int(os.environ.get("GPTOSS_SCHEDULES", "500"))
CONTEXT = 384
ENGINES: dict[str, dict[str, Any]] = {
    "roomy": {"max_sequences": 6, "max_checkpoints": 64, "token_budget": 512},
    "few places, small steps": {"max_sequences": 3, "max_checkpoints": 4, "token_budget": 24, "threads": 1},
    "no memory": {"max_sequences": 4, "max_checkpoints": 0, "token_budget": 100},
    "one at a time": {"max_sequences": 1, "max_checkpoints": 16, "token_budget": 64},
    "short of pages": {"max_sequences": 5, "max_total_tokens": CONTEXT, "max_checkpoints": 1, "token_budget": 48},
}
STOPS = ("e", "in", " the", "\ufffd\ufffd", "Z")


@dataclass(frozen=True)
class Ask:
    """One request of a schedule. patience: how many tokens its caller reads before closing; None is all."""

    prompt: tuple[int, ...]
    params: SamplingParams
    checkpoints: tuple[int, ...]
    patience: int | None
    pause: float


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("schedules"))


@pytest.fixture(scope="module")
def cold(folder: Path) -> Iterator[gptoss.Engine]:
    with gptoss.load(folder, max_context=CONTEXT, max_sequences=1, max_checkpoints=0, token_budget=384) as made:
        yield made


def random_params(rng: np.random.Generator) -> SamplingParams:
    def sometimes(value: Any, otherwise: Any, share: float = 0.2) -> Any:
        return value if rng.random() < share else otherwise

    banned = int(rng.integers(0, 16))
    return SamplingParams(
        seed=int(rng.integers(0, 1000)), temperature=float(rng.choice([0, 0.7, 1, 1.5])), max_tokens=int(rng.integers(1, 30)),
        top_p=sometimes(0.9, 1), top_k=sometimes(20, 0), min_p=sometimes(0.05, 0),
        repetition_penalty=sometimes(1.3, 1), presence_penalty=sometimes(0.7, 0), frequency_penalty=sometimes(-0.4, 0),
        logit_bias=sometimes({5: 3.0, 77: float("-inf")}, {}), min_tokens=0, n=sometimes(int(rng.integers(2, 5)), 1),
        stop=sometimes(tuple(rng.choice(STOPS, 2)), ()), stop_token_ids=sometimes((3, 300), ()),
        logits_mask=sometimes(lambda tokens: np.roll(np.uint32(0xFFFF0FFF) + np.zeros(16, np.uint32), banned + len(tokens)),
                              None),
        logprobs=True, top_logprobs=sometimes(3, 0))  # fmt: skip


def random_ask(rng: np.random.Generator, earlier: list[tuple[int, ...]]) -> Ask:
    """A prompt that goes on from, rewinds, or has nothing to do with an earlier one."""
    base = earlier[int(rng.integers(0, len(earlier)))] if earlier and rng.random() < 0.7 else ()
    kept = base[: int(rng.choice([len(base), rng.integers(0, len(base) + 1), max(0, len(base) - rng.integers(0, 20))]))]
    new = ids(int(rng.choice([1, rng.integers(1, 20), rng.integers(1, 200)])), int(rng.integers(0, 20))).tolist()
    prompt = (*kept, *new)[: CONTEXT - int(rng.choice([1, 10, 40, 60]))]
    return Ask(prompt, random_params(rng), tuple(rng.integers(0, len(prompt) + 1, int(rng.integers(0, 2))).tolist()),
               patience=int(rng.integers(0, 20)) if rng.random() < 0.25 else None,
               pause=float(rng.choice([0, 0, 0.0005, 0.003])))  # fmt: skip


def run(engine: gptoss.Engine, ask: Ask) -> tuple[Any, ...]:
    """What the caller sees: for each sample its tokens, text, end, and log probabilities; what was read, if closed."""
    threading.Event().wait(ask.pause)
    stream = engine.stream(ask.prompt, ask.params, checkpoints=ask.checkpoints)
    if ask.patience is not None:
        with stream:
            read = [token for token, _ in zip(stream, range(ask.patience))]
        return tuple(read)
    return tuple((each.tokens, each.text, each.finish_reason, each.logprobs, each.top_logprobs)
                 for each in stream.run().completions)


def check(ask: Ask, got: tuple[Any, ...], whole: gptoss.Completion) -> None:
    if ask.patience is None:
        assert got == tuple((each.tokens, each.text, each.finish_reason, each.logprobs, each.top_logprobs)
                            for each in whole.completions)
        return
    for sample, want in enumerate(whole.completions):
        mine = [token for token in got if token.index == sample]
        assert tuple(token.id for token in mine) == want.tokens[: len(mine)]
        assert tuple(token.logprob for token in mine) == (want.logprobs or ())[: len(mine)]
        assert (want.text or "").startswith("".join(token.text for token in mine))


@pytest.mark.parametrize("name", ENGINES)
def test_random_schedules_give_what_single_cold_runs_give(folder: Path, cold: gptoss.Engine, name: str) -> None:
    with gptoss.load(folder, max_context=CONTEXT, **ENGINES[name]) as engine, ThreadPoolExecutor(8) as pool:
        earlier: list[tuple[int, ...]] = []
        for seed in range(SCHEDULES // len(ENGINES)):
            rng = np.random.default_rng([list(ENGINES).index(name), seed])
            asks = [random_ask(rng, earlier) for _ in range(int(rng.integers(2, 9)))]
            results = list(pool.map(run, [engine] * len(asks), asks, timeout=120))
            for ask, got in zip(asks, results):
                whole = cold.generate(ask.prompt, ask.params)
                assert whole.cached_tokens == 0
                check(ask, got, whole)
                earlier.append((*ask.prompt, *whole.tokens))
            earlier = earlier[-12:]
        metrics = engine.metrics()
        assert metrics.failed == 0 and metrics.completed > 0 and metrics.cancelled > 0
        assert metrics.cached_tokens > 0 or name == "no memory"
        assert (metrics.preempted > 0) == (name == "short of pages")
