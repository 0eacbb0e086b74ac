"""Harmony: random and mutated streams, by the thousand; tests/fuzz_harmony.py runs as many as one likes."""

from __future__ import annotations

import pytest

import fuzz_harmony
from vocabularies import released_tokenizer, small_tokenizer


@pytest.mark.parametrize("seed", range(4))
def test_no_stream_raises_and_every_byte_is_accounted_for(seed: int) -> None:
    fuzz_harmony.run(500, seed, small_tokenizer())


def test_no_stream_of_the_released_vocabulary_raises() -> None:
    fuzz_harmony.run(300, 77, released_tokenizer())
