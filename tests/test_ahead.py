"""One step ahead, through the driver: on the plug-in of tests/deferred_device, the CPU as a device that computes when it
is waited for. Nothing that a caller sees tells it from the CPU.

The halves of a step are those of tests/native/ahead_test.cpp, and GPUs' part in it is in test_gpu_device.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gptoss_native as gptoss
from gptoss_native import SamplingParams, _core
from native_build import native_build
from small_models import endless, held, ids, write_small
from test_random_schedules import CONTEXT, ENGINES, check, random_ask, run
from test_scheduler import at_rest, logprobs
from test_steering import steered

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> str:
    built = native_build(tmp_path_factory)
    if not built.same_abi:
        pytest.skip(built.difference)
    _core.register_device("deferred", str(built.folder / "devices/gptoss_device_deferred.so"))
    return "deferred"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("ahead"))


@pytest.fixture(scope="module")
def cold(folder: Path) -> Iterator[gptoss.Engine]:
    with gptoss.load(folder, device="cpu", max_context=CONTEXT, max_sequences=1, max_checkpoints=0,
                     threads=1) as made:
        yield made


@pytest.fixture
def engine(device: str, folder: Path) -> Iterator[gptoss.Engine]:
    with gptoss.load(folder, device=device, max_context=CONTEXT, max_sequences=4, threads=1) as made:
        yield made


def steps(engine: gptoss.Engine) -> tuple[int, int]:
    """How many there were, and how many of them were submitted while the one before was under way."""
    at_rest(engine)
    words = engine._scheduler._native.device["isa"].split()
    return int(words[0]), int(words[2])


@pytest.mark.parametrize(("params", "ahead"), [
    (SamplingParams(temperature=0), 19), (SamplingParams(seed=1, logprobs=True, top_logprobs=3, top_p=0.9), 19),
    (endless(2), 19), (endless(3, min_tokens=8), 18), (endless(4, frequency_penalty=0.5), 0),
    (endless(5, repetition_penalty=1.1), 0), (endless(6, logits_mask=lambda tokens: None), 0),
], ids=["greedy", "log probabilities", "bias", "min_tokens", "frequency", "repetition", "mask"])  # fmt: skip
def test_what_needs_no_token_is_submitted_before_the_last_step_has_ended(
    engine: gptoss.Engine, cold: gptoss.Engine, params: SamplingParams, ahead: int
) -> None:
    """And the last step of a sequence, which max_tokens tells beforehand, has none behind it."""
    params = replace(params, max_tokens=20)
    want = cold.generate(ids(9), params)
    got = engine.generate(ids(9), params)
    assert logprobs(got) == logprobs(want) and len(got.tokens) == 20
    assert steps(engine) == (20, ahead)
    assert at_rest(engine).decode_tokens == 19


def test_a_token_that_ends_a_sequence_leaves_no_trace_of_the_step_behind_it(
    engine: gptoss.Engine, cold: gptoss.Engine
) -> None:
    prompt = ids(62)  # the step that is discarded begins a page
    free = at_rest(engine).free_pages
    params = endless(7, max_tokens=30)
    whole = cold.generate(prompt, params)
    stop = whole.tokens[2]
    assert stop not in whole.tokens[:2]
    stopped = engine.generate(prompt, replace(params, stop_token_ids=(stop,)))
    assert stopped.tokens == whole.tokens[:3] and stopped.finish_reason == "stop"
    assert steps(engine) == (4, 3)
    metrics = at_rest(engine)
    assert metrics.decode_tokens == 2 and metrics.completed == 1
    assert metrics.free_pages == free - 4, "a page of each kind for its checkpoints, behind the prompt and at the end"
    again = engine.generate([*prompt.tolist(), *whole.tokens[:2], 5], params)
    assert again.cached_tokens == 64
    assert again.tokens == cold.generate([*prompt.tolist(), *whole.tokens[:2], 5], params).tokens


def test_a_context_that_is_full_has_no_step_behind_it(engine: gptoss.Engine, cold: gptoss.Engine) -> None:
    prompt = ids(CONTEXT - 6)
    got = engine.generate(prompt, endless(8))
    assert got.tokens == cold.generate(prompt, endless(8)).tokens and got.finish_reason == "length"
    assert steps(engine)[1] == len(got.tokens) - 1


def test_one_that_needs_its_tokens_keeps_those_beside_it_in_step(engine: gptoss.Engine, cold: gptoss.Engine) -> None:
    """They go on one step ahead when it has left."""
    masked = endless(1, max_tokens=10, logits_mask=lambda tokens: np.full(16, 0xFFFFFFFF, np.uint32))
    asks = [(ids(5, 1), masked), (ids(5, 2), endless(2, max_tokens=30)), (ids(5, 3), endless(3, max_tokens=20))]
    with ThreadPoolExecutor(3) as pool, held(engine):
        results = [pool.submit(engine.generate, *ask) for ask in asks]
        while engine.metrics().waiting < 3:
            time.sleep(0.001)
    assert [each.result().tokens for each in results] == [cold.generate(*ask).tokens for ask in asks]
    assert steps(engine) == (1 + 30, 30 - 10)


@pytest.mark.parametrize("free", [1, 6])
def test_what_is_forced_behind_a_draw_undoes_the_step_ahead(
    engine: gptoss.Engine, cold: gptoss.Engine, free: int
) -> None:
    params = endless(3, max_tokens=40, logprobs=True, top_logprobs=2)
    other = endless(4, max_tokens=40)
    with engine.stream(ids(12), other) as beside:
        next(beside)
        got = steered(engine, ids(30), params, free).run()
        assert logprobs(got) == logprobs(steered(cold, ids(30), params, free).run())
        assert beside.run().tokens == cold.generate(ids(12), other).tokens
    assert steps(engine)[1] > 5


def test_a_device_that_fails_in_one_step_fails_in_both(engine: gptoss.Engine, cold: gptoss.Engine) -> None:
    """The sequences get the error, and the engine goes on."""
    native, calls = engine._scheduler._native, 0

    def collect(step: _core.Step, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != 5:
            return native.collect(step, *arguments)
        with pytest.raises(InterruptedError):  # as a device ends it that fails
            native.collect(step, lambda: True)
        raise RuntimeError("it broke")

    broken = type("Broken", (), {"__getattr__": lambda self, name: getattr(native, name),
                                 "collect": staticmethod(collect)})
    engine._scheduler._driver._native = broken()
    free = at_rest(engine).free_pages
    with pytest.raises(gptoss.DeviceError, match="it broke"):
        engine.generate(ids(5), endless(1, max_tokens=20))
    assert at_rest(engine).free_pages == free - 2, "a page of each kind for the checkpoint behind the prompt"
    params = endless(1, max_tokens=20)
    assert engine.generate(ids(5), params).tokens == cold.generate(ids(5), params).tokens


def test_an_engine_is_closed_in_the_middle(device: str, folder: Path) -> None:
    engine = gptoss.load(folder, device=device, max_context=CONTEXT, threads=1)
    stream = engine.stream(ids(5), endless(1))
    next(stream)
    engine.close()
    with pytest.raises(gptoss.Cancelled):
        stream.run()


@pytest.mark.parametrize("name", ENGINES)
def test_random_schedules(device: str, folder: Path, cold: gptoss.Engine, name: str) -> None:
    settings = ENGINES[name] | {"device": device, "threads": 1}
    with gptoss.load(folder, max_context=CONTEXT, **settings) as engine, ThreadPoolExecutor(8) as pool:
        earlier: list[tuple[int, ...]] = []
        for seed in range(3):
            rng = np.random.default_rng([list(ENGINES).index(name), seed, 1])
            asks = [random_ask(rng, earlier) for _ in range(int(rng.integers(2, 9)))]
            results = list(pool.map(run, [engine] * len(asks), asks, timeout=120))
            for ask, got in zip(asks, results):
                whole = cold.generate(ask.prompt, ask.params)
                check(ask, got, whole)
                earlier.append((*ask.prompt, *whole.tokens))
        assert engine.metrics().failed == 0
        assert steps(engine)[1] > 0
