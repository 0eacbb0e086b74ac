"""The two things a sequence can be for: continuing its prompt, and the logits of given rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gptoss_native.native import _core
from gptoss_native.sampling.drawing import Drawing
from gptoss_native.scheduler.request import Drawn, Ended, Ids, Item, Request, Scored, Steering
from gptoss_native.scheduler.results import FinishReason


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

    def asks_ahead(self, done: int, count: int) -> _core.Sampling | None:
        """How to draw once more behind what that step draws, before anybody knows what that is: what asks() would say
        if it is `free`. None where there is no such draw, or it depends on the token."""

    def ends(self, done: int, count: int) -> bool:
        """Whether the task is finished by that step, whatever it draws."""

    @property
    def free(self) -> bool:
        """Whether nothing is forced: the token that was drawn last is the last of `ids`, and the next may be any."""

    def take(self, done: int, count: int, output: _core.Output) -> Sequence[Drawn]:
        """What came of it: a token, where one was drawn, and those that follow it by force."""

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
        self._steering = (None if self._reader is None else self._reader.steering) or Steering()
        self._drew = False
        self._finish_reason: FinishReason | None = None

    @property
    def ids(self) -> Ids:
        return self._ids[: self._length]

    @property
    def head(self) -> Ids:
        return self.ids  # the last token, for the draw after it

    @property
    def continuing(self) -> bool:
        return self._drew

    def most(self, done: int, count: int, rows: int) -> int:
        return min(count, self._length - done)

    def asks(self, done: int, count: int) -> tuple[Ids | None, _core.Sampling | None]:
        whole = done + count == self._length
        completion = self.ids[len(self._request.prompt) :]
        return None, self._drawing.next(completion, self._steering.allowed) if whole else None

    def asks_ahead(self, done: int, count: int) -> _core.Sampling | None:
        if done + count < self._length:
            return None
        return self._drawing.ahead(self.ids[len(self._request.prompt) :])

    def ends(self, done: int, count: int) -> bool:
        return done + count + 1 == len(self._ids)

    @property
    def free(self) -> bool:
        return not self._steering.tokens and self._steering.allowed is None

    def take(self, done: int, count: int, output: _core.Output) -> Sequence[Drawn]:
        if done + count < self._length:
            return ()
        self._drew = True
        token = output.token
        self._append(token)
        if token in self._request.stop_ids or (self._reader is not None and self._reader.stopped):
            self._finish_reason = "stop"
        asked = self._request.params.logprobs
        drawn = [Drawn(self._index, token, self._finish_reason, output.logprob if asked else None,
                       tuple(zip(output.top_tokens, output.top_logprobs)))]
        if self._reader is not None and not self.finished:
            self._steering = self._reader.steering or Steering()
            for token in self._steering.tokens:
                if not self.finished:
                    self._append(token)
                    drawn.append(Drawn(self._index, token, self._finish_reason, 0.0 if asked else None, (), True))
        return drawn

    def _append(self, token: int) -> None:
        self._drawing.add(token)
        self._ids[self._length] = token
        self._length += 1
        if self._reader is not None:
            self._reader.feed(token)
        if self._length == len(self._ids):
            self._finish_reason = "length"

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

    def asks_ahead(self, done: int, count: int) -> _core.Sampling | None:
        return None

    def ends(self, done: int, count: int) -> bool:
        return done + count == len(self._ids)

    @property
    def free(self) -> bool:
        return False

    def take(self, done: int, count: int, output: _core.Output) -> Sequence[Drawn]:
        end = self._end(done + count)
        here = np.flatnonzero((self._place >= self._served) & (self._place < end))
        self._out[here] = output.logits[self._place[here] - self._served]
        self._served = end
        return ()

    @property
    def finished(self) -> bool:
        return self._served == len(self._wanted)

    def conclusion(self, cached_tokens: int, queue_seconds: float, prefill_seconds: float,
                   decode_seconds: float) -> Item:
        return Scored()

    def _end(self, end: int) -> int:
        """How many of the wanted rows are before `end`."""
        return int(np.searchsorted(self._wanted, end))
