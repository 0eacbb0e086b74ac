"""One sequence of the engine: its place in the KV cache, and how far it has come."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic

import numpy as np

from gptoss_native.native import _core, native_errors
from gptoss_native.scheduler.request import Handle, Prefilled
from gptoss_native.scheduler.tasks import Task

PAGE_TOKENS = 64
"""Tokens of one page of the KV cache: a checkpoint at a multiple of it shares whole pages only."""
_DRAWN_BEFORE = np.array([_core.DRAWN_BEFORE], np.int32)


class Sequence:
    """A task, and the session that computes it while it runs.

    checkpoints: lengths at which the place is remembered, ascending. leader: another sequence with the same prompt,
    which is waited for until it has computed what both share: all but the last token of the prompt, behind which
    each draws for itself. Samples of one prompt so prefill it once.
    """

    def __init__(self, handle: Handle, task: Task, checkpoints: Iterable[int], leader: Sequence | None = None) -> None:
        self.handle, self.task = handle, task
        self._checkpoints = tuple(checkpoints)
        self._leader = leader
        self._session: _core.Session | None = None
        self._began = 0  # length at which the session was resumed
        self._reported = False  # something of the prefill
        self._first_token = self._last_token = 0.0  # when it was drawn
        self.admitted: float | None = None
        """When it first ran."""
        self.cached_tokens = 0
        """What the cache held of the prompt then."""
        self.led = False
        """Whether others that wait for this one may go on."""

    # Coming and going

    @property
    def may_start(self) -> bool:
        return self._leader is None or self._leader.led

    def start(self, native: _core.Engine) -> None:
        """Take up the work at the latest checkpoint that there is."""
        with native_errors():
            for place in self._checkpoints[:-1]:
                native.touch(self.task.ids[:place])
            self._session = native.session(self.task.head)
        self._began = self._session.length
        if self.admitted is None:
            self.admitted = monotonic()
            self.cached_tokens = self._began

    def stop(self, native: _core.Engine, *, keep: bool) -> None:
        """Give the session's pages back; with `keep` a checkpoint stays, which costs nothing until room is needed."""
        session, self._session = self._session, None
        if session is None:
            return
        if keep:
            with native_errors():
                native.checkpoint(session)
        session.close()

    # The next step

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        assert self._session is not None
        return self._session.length

    @property
    def pending(self) -> int:
        """Tokens that are known and not computed."""
        return len(self.task.ids) - self.length

    def chunk(self, tokens: int, rows: int) -> int:
        """How many of its next `tokens` it would compute in one step with `rows` rows of logits, at least one."""
        return self.task.most(self.length, min(tokens, self.pending), rows)

    def work(self, tokens: int) -> _core.Work:
        """Its part of a step that computes the next `tokens`. Raises what the caller's logits_mask raises."""
        assert self._session is not None
        done = self.length
        rows, sampling = self.task.asks(done, tokens)
        return _core.Work(self._session, self.task.ids[done : done + tokens], rows=rows, sampling=sampling,
                          checkpoints=[place - done for place in self._checkpoints if done < place <= done + tokens])

    def work_ahead(self, tokens: int) -> _core.Work | None:
        """Its part of the step behind one that computes the next `tokens`: the token that is drawn there, and a draw
        after it. None where there is nothing to draw, or how depends on the token."""
        assert self._session is not None
        sampling = self.task.asks_ahead(self.length, tokens)
        return None if sampling is None else _core.Work(self._session, _DRAWN_BEFORE, sampling=sampling)

    def ends(self, tokens: int) -> bool:
        """Whether a step that computes the next `tokens` is its last, whatever comes of it."""
        return self.task.ends(self.length, tokens)

    def advance(self, tokens: int, output: _core.Output) -> bool:
        """The step computed them: tell the caller what came of it. Returns whether a token was drawn."""
        done, known = self.length, len(self.task.ids)
        if not self.task.continuing and (self._reported or done < known):
            self._reported = True  # a prefill of more than one step
            self.handle.put(Prefilled(done - self._began, known - self._began))
        self.led = self.led or done >= self._checkpoints[-1] - 1
        drawn = self.task.take(done - tokens, tokens, output)
        if drawn:
            self._last_token = monotonic()
            self._first_token = self._first_token or self._last_token
        for each in drawn:
            self.handle.put(each)
        return bool(drawn)

    def conclude(self) -> None:
        """The task is finished: tell the caller that there is no more."""
        admitted = self.admitted or 0.0
        self.handle.put(self.task.conclusion(self.cached_tokens, admitted - self.handle.submitted,
                                             self._first_token - admitted, self._last_token - self._first_token))


def checkpoint_places(tokens: int, asked: Iterable[int], chunk: int) -> list[int]:
    """Where a prompt of `tokens` leaves checkpoints, ascending: at its end, where the caller asks, and 1, 2, 4, ...
    chunks before its end.

    So a prompt that turns off d tokens before the end computes at most 2 d + chunk of the common ones again, and a
    long prompt takes few of the places there are.
    """
    places = {place for place in asked if 0 < place < tokens}
    distance = chunk
    while distance < tokens:
        places.add((tokens - distance) // PAGE_TOKENS * PAGE_TOKENS)
        distance *= 2
    return sorted(places - {0} | {tokens})
