"""What only a card can show: real concurrency, real time, the whole demonstration model. Skipped where there is none.

The device's results are tested by test_gpu_device.py, and by every test that opens its engines through engines.py
when GPTOSS_BACKEND=cuda.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

import gptoss_native as gptoss
import tolerances
from conftest import CaseMaker
from engines import all_logits, ids, skip_unless_present
from gptoss_native import _core, demo, ops
from shapes import DEFAULT, shape_named
from test_device_plugin import generate, open_on
from test_matrix_kernels import FUSED, WIDE, assert_same_bits, attention_alone, decode_steps

pytestmark = [pytest.mark.gpu, pytest.mark.slow]


@pytest.fixture(autouse=True)
def card() -> None:
    skip_unless_present("cuda")


def test_two_engines_on_one_card_at_the_same_time(case_of: CaseMaker) -> None:
    """Two models, two threads: graphs are captured in one while the other allocates, captures and runs."""
    cases = [case_of(DEFAULT), case_of(shape_named("head_dim_128"))]
    alone = []
    for case in cases:
        engine = open_on("cuda", case.folder)
        alone.append((all_logits(engine, case.tokens, [9, 1, 1, 1]), generate(engine, case.tokens[:9], 60)))
        engine.close()
    failures: list[Any] = []

    def work(index: int) -> None:
        try:
            for _ in range(4):
                engine = open_on("cuda", cases[index].folder)
                logits, drawn = alone[index]
                if not np.array_equal(all_logits(engine, cases[index].tokens, [9, 1, 1, 1]), logits):
                    failures.append(f"other logits of model {index}")
                if generate(engine, cases[index].tokens[:9], 60) != drawn:
                    failures.append(f"other tokens of model {index}")
                engine.close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_long_prefill_is_stopped_within_a_few_layers(case_of: CaseMaker) -> None:
    """In a step that takes the card long enough to be stopped in."""
    case = case_of(shape_named("several_splits"))
    for tokens in (30_000, 60_000, 120_000):
        engine = open_on("cuda", case.folder, max_tokens=tokens, max_context=tokens, max_outputs=8)
        session, free = engine.session(), engine.free_pages
        long = ids(np.resize(case.tokens, tokens))
        begun = time.perf_counter()
        engine.step([_core.Work(session, long)])
        whole = time.perf_counter() - begun
        session.truncate(0)
        if whole >= 0.2:
            break
        engine.close()
    else:
        pytest.skip(f"the card needs {whole:.3f} s for a whole step of {tokens} tokens: too little to stop in")
    asked: list[float] = []

    def stop() -> bool:
        asked.append(time.perf_counter())
        return True

    with pytest.raises(InterruptedError, match="nothing was added"):
        engine.step([_core.Work(session, long)], interrupted=stop)
    print(f"whole step of {tokens} tokens {whole:.3f} s, ended {time.perf_counter() - asked[0]:.3f} s after it was stopped")
    assert session.length == 0 and engine.free_pages == free
    got = all_logits(engine, case.tokens[:8], session=session)
    assert np.abs(got - case.trace.logits[:8]).max() <= tolerances.LOGITS
    engine.close()


def test_memory_that_another_engine_holds_is_missed_with_figures(case_of: CaseMaker) -> None:
    """And given back when that engine is closed."""
    folder = case_of(DEFAULT).folder
    fits = None
    sequences = 8192  # 128 KiB a page of 64 tokens: halved until it fits
    while fits is None:
        try:
            fits = open_on("cuda", folder, max_context=131072, max_sequences=sequences)
        except RuntimeError as error:
            assert "out of memory: the KV cache" in str(error) and "are free" in str(error), error
            sequences //= 2
    with pytest.raises(RuntimeError, match="out of memory"):
        open_on("cuda", folder, max_context=131072, max_sequences=sequences)
    fits.close()
    again = open_on("cuda", folder, max_context=131072, max_sequences=sequences)
    again.close()


@pytest.mark.parametrize("precision", ["exact", "fast"])
@pytest.mark.parametrize("kv_dtype", ["f32", "bf16"])
def test_the_demonstration_model_by_replay_and_in_batches(precision: str, kv_dtype: str) -> None:
    """Eight conversations at once say what each says alone, whatever graph a step went through."""
    questions = [f"What is {a} + {b}?" for a, b in [(27, 58), (3, 4), (99, 1), (250, 250), (7, 8), (41, 9), (60, 6), (12, 34)]]
    params = gptoss.SamplingParams(temperature=0, max_tokens=200)
    with gptoss.load(device="cuda", precision=precision, kv_dtype=kv_dtype, max_context=512, max_sequences=8) as engine:
        alone = [engine.chat([{"role": "user", "content": q}], params=params).text for q in questions]
        replies: list[str] = [""] * len(questions)

        def ask(i: int) -> None:
            replies[i] = engine.chat([{"role": "user", "content": questions[i]}], params=params).text

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(questions))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert replies == alone
    assert alone[0] == "27 + 58 = 85"


@pytest.mark.parametrize("precision", ["exact", "fast"])
@pytest.mark.parametrize("without", ["fusion", "dependent", "graphs", "fusion,dependent,graphs"])
def test_what_is_there_for_speed_changes_no_bit(case_of: CaseMaker, monkeypatch: pytest.MonkeyPatch, precision: str, without: str) -> None:
    """Stages that are one kernel, launches that overlap, steps that are replayed: beside a run without them."""
    case = case_of(FUSED)
    monkeypatch.setenv("GPTOSS_CUDA_WITHOUT", without)
    plain = decode_steps("cuda", case.folder, case.tokens, precision, 20)
    monkeypatch.setenv("GPTOSS_CUDA_WITHOUT", "")
    for _ in range(3):  # what overlaps does so by chance
        assert_same_bits(decode_steps("cuda", case.folder, case.tokens, precision, 20), plain)


@pytest.mark.parametrize("kv_dtype", ["f32", "bf16"])
def test_wgmma_adds_as_mma_sync_does(case_of: CaseMaker, monkeypatch: pytest.MonkeyPatch, kv_dtype: str) -> None:
    """The 16 products of a step, and a step to a chain: then a prefill by one has the bits of a decode by the other."""
    case, logits = case_of(WIDE), []
    for without in ("wgmma", ""):
        monkeypatch.setenv("GPTOSS_CUDA_WITHOUT", without)
        engine = open_on("cuda", case.folder, precision="fast", kv_dtype=kv_dtype)
        if not without and "wgmma" not in engine.device["isa"]:
            pytest.skip("this card has no wgmma")
        logits.append(all_logits(engine, case.tokens))
        engine.close()
    assert np.array_equal(*logits)


@pytest.mark.parametrize("window", [None, 128])
def test_attention_by_wgmma_adds_as_that_of_mma_sync_does(monkeypatch: pytest.MonkeyPatch, window: int | None) -> None:
    """Enough queries for every multiprocessor of a card of today."""
    results = []
    for without in ("wgmma_attention", ""):
        monkeypatch.setenv("GPTOSS_CUDA_WITHOUT", without)
        results.append(attention_alone(ops.Device("cuda"), [90, 333], [200, 700], 64, 8, window))
    assert_same_bits(*results)


def test_every_card_is_listed_and_can_be_chosen(case_of: CaseMaker) -> None:
    """By its index, in the order of CUDA; the last is tried too."""
    [cuda] = [entry for entry in gptoss.info()["devices"] if entry["name"] == "cuda"]
    cards = cuda["detail"].split("; ")
    last = len(cards) - 1
    with gptoss.load(demo.path(), device=f"cuda:{last}", max_context=64) as engine:
        assert engine.device.name == ("cuda" if last == 0 else f"cuda:{last}")
        assert engine.device.isa.split(", sm_")[0] in cards[last]
    with pytest.raises(gptoss.DeviceError, match=f"there is no card {last + 1}"):
        gptoss.load(demo.path(), device=f"cuda:{last + 1}", max_context=64)
