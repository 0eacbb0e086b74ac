"""Long contexts through the scheduler: right to the last position, in the memory that was planned."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import gptoss_native as gptoss
import reference
import tolerances
from conftest import CaseMaker
from engines import DEVICE
from gptoss_native import SamplingParams, _core
from shapes import LONG, SLIDING, Shape
from small_models import ids, write_small

WINDOW = 128
PAGE = 64


def check_long(case_of: CaseMaker, shape: Shape, rows: list[int], budget: int) -> None:
    """The reference's logits at `rows` and its greedy token at the end, while other sequences come and go."""
    case = case_of(shape)
    before = _core.allocated_bytes()
    options = {"precision": "exact", "kv_dtype": "f32", "max_context": len(case.tokens) + 1, "max_sequences": 2,
               "token_budget": budget, "max_checkpoints": 8}  # fmt: skip
    planned = gptoss.plan(case.folder, **options)  # type: ignore[arg-type]
    want = reference.forward(case.model, case.tokens, rows=rows).logits
    with gptoss.load(case.folder, **options) as engine, ThreadPoolExecutor(1) as pool:  # type: ignore[arg-type]
        if DEVICE == "cpu":  # of plug-ins the module does not count the bytes
            assert _core.allocated_bytes() - before == planned.total - planned.weights_copied
        long = pool.submit(engine.logits, case.tokens, rows)
        turns = 0
        while not long.done():
            engine.generate(ids(20, turns) % 100, SamplingParams(max_tokens=20, seed=turns))
            turns += 1
        got = long.result()
        assert np.abs(got - want).max() <= tolerances.LOGITS and turns > 0
        completion = engine.generate(case.tokens, SamplingParams(temperature=0, max_tokens=1))
        assert completion.cached_tokens >= len(case.tokens) - 2 * budget
        assert completion.tokens == (int(want[-1].argmax()),)


def test_contexts_beyond_the_original_4096_positions(case_of: CaseMaker) -> None:
    shape = replace(LONG, name="long_context_9000", prompt=9000)
    check_long(case_of, shape, [0, 127, 128, 129, 4095, 4096, 4097, 8191, 8192, 8998, 8999], budget=512)


@pytest.mark.slow
def test_131072_tokens(case_of: CaseMaker) -> None:
    shape = replace(LONG, name="long_context_131072", prompt=131_071)
    rows = [127, 128, 4095, 4096, 65_535, 65_536, 100_000, 131_069, 131_070]
    check_long(case_of, shape, rows, budget=4096)


def pages_held(engine: gptoss.Engine, lengths: list[int]) -> list[int]:
    """Pages in use after so many tokens of one sequence."""
    native = engine._scheduler._native
    session, held, length = native.session(), [], 0
    for wanted in lengths:
        while length < wanted:
            chunk = ids(min(512, wanted - length)) % 100
            native.step([_core.Work(session, chunk)])
            length += len(chunk)
        held.append(native.pages - native.free_pages)
    session.close()
    return held


@pytest.mark.parametrize("layer_types", [[SLIDING, SLIDING], [SLIDING, "full_attention"]], ids=["sliding", "both"])
def test_only_full_layers_keep_all_keys(tmp_path: Path, layer_types: list[str]) -> None:
    """What a decode reads is what is held: it grows with the context in full layers only."""
    write_small(tmp_path, sliding_window=WINDOW, layer_types=layer_types)
    lengths = [2048, 4096, 8192, 16_384]
    with gptoss.load(tmp_path, max_context=16_384, max_sequences=1, max_checkpoints=0) as engine:
        held = pages_held(engine, lengths)
    window = (WINDOW + 64) // PAGE
    full = "full_attention" in layer_types
    assert held == [window + full * length // PAGE for length in lengths]
    assert full == any(later > earlier for earlier, later in pairwise(held))
