"""What an engine says about its own work."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import RLock
from typing import Any, NamedTuple

RECENT = 256
"""Steps, and first tokens, of which rates and times are taken."""


@dataclass(frozen=True)
class Metrics:
    """A moment of an engine. Counts are since it was loaded, in tokens or sequences; a request for n samples is n
    sequences.

    waiting, running: sequences now. max_queue, max_sequences: their limits.
    prefill_tokens: computed of prompts, also what was computed again after a preemption. cached_tokens: of prompts,
        found in the cache instead. decode_tokens: drawn, but for each sequence's first.
    prefill_tokens_per_second, decode_tokens_per_second: over the latest 256 steps, as tokens of that kind per second
        of the steps that had any; 0 before there was one.
    time_to_first_token: seconds from the call to the first token, the mean of the latest 256; None before the first.
    pages, free_pages: of the KV cache, 64 tokens each. Pages that only checkpoints hold are not free, but are given
        up when they are needed.
    completed, cancelled, failed: sequences that ended by themselves, by their callers, by an error. preempted: how
        often one had to wait in the middle because the pages were all in use.
    precision, kv_dtype, dense: how the engine was loaded, without which its rates mean nothing.
    """

    waiting: int
    running: int
    max_queue: int
    max_sequences: int
    prefill_tokens: int
    cached_tokens: int
    decode_tokens: int
    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    time_to_first_token: float | None
    pages: int
    free_pages: int
    completed: int
    cancelled: int
    failed: int
    preempted: int
    precision: str
    kv_dtype: str
    dense: str


class _Step(NamedTuple):
    seconds: float
    prefill: int
    decode: int


@dataclass
class Meter:
    """Counts for Metrics. The driver writes, any thread reads."""

    completed: int = 0
    cancelled: int = 0
    failed: int = 0
    preempted: int = 0
    cached_tokens: int = 0
    prefill_tokens: int = 0
    decode_tokens: int = 0
    _steps: deque[_Step] = field(default_factory=lambda: deque(maxlen=RECENT))
    _first_tokens: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    _lock: Any = field(default_factory=RLock)

    def step(self, seconds: float, prefill: int, decode: int, first_tokens: Iterable[float]) -> None:
        """A step took `seconds`, and led to sequences' first tokens after these times."""
        with self._lock:
            self.prefill_tokens += prefill
            self.decode_tokens += decode
            self._steps.append(_Step(seconds, prefill, decode))
            self._first_tokens.extend(first_tokens)

    def rates(self) -> tuple[float, float]:
        """Tokens per second of prefill and of decode."""
        with self._lock:
            steps = list(self._steps)
        return (_rate((each.prefill, each.seconds) for each in steps),
                _rate((each.decode, each.seconds) for each in steps))

    def time_to_first_token(self) -> float | None:
        with self._lock:
            return sum(self._first_tokens) / len(self._first_tokens) if self._first_tokens else None


def _rate(steps: Iterable[tuple[int, float]]) -> float:
    with_tokens = [(tokens, seconds) for tokens, seconds in steps if tokens]
    total = sum(seconds for _, seconds in with_tokens)
    return sum(tokens for tokens, _ in with_tokens) / total if total else 0.0
