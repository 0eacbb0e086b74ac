"""A model that repeats itself."""

from __future__ import annotations

import numpy as np

LONGEST = 256
"""Tokens of the longest period that is looked for."""
REPEATS = 4
TOKENS = 96
"""A loop is the same few tokens REPEATS times over, and at least so many tokens in all."""


class LoopDetector:
    """Reads tokens one by one. `found` once the last ones are a sequence that has come REPEATS times in a row."""

    def __init__(self) -> None:
        self.found = False
        self._recent = np.full(LONGEST, -1, np.int64)  # the last one first
        self._matches = np.zeros(LONGEST, np.int64)  # [p - 1]: how many of the last tokens equal the one p before
        periods = np.arange(1, LONGEST + 1)
        self._enough = np.maximum(REPEATS * periods, TOKENS) - periods

    def feed(self, token: int) -> None:
        self._matches = np.where(self._recent == token, self._matches + 1, 0)
        self._recent[1:] = self._recent[:-1].copy()
        self._recent[0] = token
        self.found = self.found or bool((self._matches >= self._enough).any())
