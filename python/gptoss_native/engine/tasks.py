"""The two things a sequence can be for: continuing its prompt, and the logits of given rows."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from gptoss_native.engine.drawing import Drawing
from gptoss_native.engine.native import _core
from gptoss_native.engine.request import Drawn, Ended, Ids, Item, Request, Scored
from gptoss_native.engine.results import FinishReason


class Task(Protocol):
    """What a sequence wants of the tokens that the engine computes for it."""

    @property
    def ids(self) -> Ids:
        """The tokens known so far (tokens,)."""

    @property
    def head(self) -> Ids:
        """The first of them, up to the first one that has to be computed even where the cache knows it."""

    @property
    def continuing(self) -> bool:
        """Whether what is computed next is the task's own output, no longer the prompt."""

    def most(self, done: int, count: int, rows: int) -> int:
        """How many of the next `count` tokens after the first `done` can be computed with `rows` rows of logits."""

    def asks(self, done: int, count: int) -> tuple[Ids | None, _core.Sampling | None]:
        """What to ask of a step that computes them: rows of logits, or a draw."""

    def take(self, done: int, count: int, output: _core.Output) -> Drawn | None:
        """What came of it; a token, where one was drawn."""

    @property
    def finished(self) -> bool:
        """Whether the task has all it wants."""

    def conclusion(self, cached_tokens: int, queue_seconds: float, prefill_seconds: float,
                   decode_seconds: float) -> Item:
        """What to tell the caller then."""


class Generation:
    """Draws token after token behind a prompt."""

    def __init__(self, request: Request, index: int, vocab_size: int, max_edits: int) -> None:
        params = request.params
        self._request, self._index = request, index
        self._ids = np.concatenate([request.prompt, np.empty(request.limit, np.int32)])
        self._length = len(request.prompt)
        self._drawing = Drawing(params, request.seed, index, request.prompt, request.stop_ids, vocab_size, max_edits)
        self._reader = None if request.reader is None else request.reader()
        self._finish_reason: FinishReason | None = None

    @property
    def ids(self) -> Ids:
        return self._ids[: self._length]

    @property
    def head(self) -> Ids:
        return self.ids  # the last token, for the draw after it

    @property
    def continuing(self) -> bool:
        return self._length > len(self._request.prompt)

    def most(self, done: int, count: int, rows: int) -> int:
        return min(count, self._length - done)

    def asks(self, done: int, count: int) -> tuple[Ids | None, _core.Sampling | None]:
        whole = done + count == self._length
        return None, self._drawing.next(self.ids[len(self._request.prompt) :]) if whole else None

    def take(self, done: int, count: int, output: _core.Output) -> Drawn | None:
        if done + count < self._length:
            return None
        token = output.token
        self._drawing.drew(token)
        self._ids[self._length] = token
        self._length += 1
        if self._reader is not None:
            self._reader.feed(token)
        if token in self._request.stop_ids or (self._reader is not None and self._reader.stopped):
            self._finish_reason = "stop"
        elif self._length == len(self._ids):
            self._finish_reason = "length"
        asked = self._request.params.logprobs
        return Drawn(self._index, token, self._finish_reason, output.logprob if asked else None,
                     tuple(zip(output.top_tokens, output.top_logprobs)))

    @property
    def finished(self) -> bool:
        return self._finish_reason is not None

    def conclusion(self, cached_tokens: int, queue_seconds: float, prefill_seconds: float,
                   decode_seconds: float) -> Item:
        assert self._finish_reason is not None
        return Ended(self._index, self._finish_reason, cached_tokens, queue_seconds, prefill_seconds, decode_seconds)


class Scoring:
    """Writes the logits after ids[rows[i]] to out[i], for rows (n,) in any order, out (n, vocab_size)."""

    def __init__(self, ids: Ids, rows: Ids, out: npt.NDArray[np.float32]) -> None:
        self._wanted, self._place = np.unique(rows, return_inverse=True)
        self._ids = ids[: int(self._wanted[-1]) + 1]
        self._out = out
        self._served = 0  # of the wanted rows

    @property
    def ids(self) -> Ids:
        return self._ids

    @property
    def head(self) -> Ids:
        return self._ids[: int(self._wanted[self._served]) + 1]

    @property
    def continuing(self) -> bool:
        return False

    def most(self, done: int, count: int, rows: int) -> int:
        end = min(done + count, len(self._ids))
        if self._served + rows < len(self._wanted):
            end = min(end, int(self._wanted[self._served + rows]))  # up to the first row too many
        return end - done

    def asks(self, done: int, count: int) -> tuple[Ids | None, _core.Sampling | None]:
        return (self._wanted[self._served : self._end(done + count)] - done).astype(np.int32), None

    def take(self, done: int, count: int, output: _core.Output) -> Drawn | None:
        end = self._end(done + count)
        here = np.flatnonzero((self._place >= self._served) & (self._place < end))
        self._out[here] = output.logits[self._place[here] - self._served]
        self._served = end
        return None

    @property
    def finished(self) -> bool:
        return self._served == len(self._wanted)

    def conclusion(self, cached_tokens: int, queue_seconds: float, prefill_seconds: float,
                   decode_seconds: float) -> Item:
        return Scored()

    def _end(self, end: int) -> int:
        """How many of the wanted rows are before `end`."""
        return int(np.searchsorted(self._wanted, end))
