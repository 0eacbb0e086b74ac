"""Runs the steps of one native engine for many callers, one call at a time.

One native session is kept with the ids it holds; a call resumes behind the longest common prefix. Results do
not depend on what was cached, so callers may take turns at any token. A scheduler that batches callers takes
this class's place: what callers use is `turn`, `next_token`, `logits`, `check_usable` and `close`.
"""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, RLock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gptoss_native.engine.native import _core, native_errors
from gptoss_native.engine.sampling import GREEDY_BELOW, SamplingParams
from gptoss_native.errors import Cancelled, GptOssError

Ids = npt.NDArray[np.int32]
Progress = Callable[[str, int, int], None]

LOCK_POLL_SECONDS = 0.05
"""How often a caller that waits for its turn looks whether it was cancelled."""


class Drawn(NamedTuple):
    """A sampled token, and how many of the ids before it were already in the cache."""

    token: int
    reused: int


_alive: weakref.WeakSet[Driver] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A thread that is inside the native module while the interpreter ends would bring the process down."""
    for driver in list(_alive):
        driver.close()


class Driver:
    def __init__(self, native: _core.Engine, max_context: int, progress: Progress | None) -> None:
        with native_errors():
            self._session = native.session()
        self._native = native
        self._max_tokens, self._max_outputs = native.max_tokens, native.max_outputs
        self._progress = progress
        self._held = np.empty(max_context, np.int32)  # [0, session.length) are the ids in the cache
        self._lock = RLock()
        self._in_step = False
        self._closed = False
        self._freed = False
        self._reporting = False
        self._pid = os.getpid()
        _alive.add(self)

    @contextmanager
    def turn(self, cancelled: Event) -> Iterator[None]:
        """Wait for the engine and hold it; a thread that holds it may take a turn inside the turn.

        Raises Cancelled when `cancelled` is set meanwhile, GptOssError as check_usable().
        """
        self.check_usable()
        while not self._lock.acquire(timeout=LOCK_POLL_SECONDS):
            self._check_running(cancelled)
        try:
            if self._reporting:  # this very thread, which alone may hold the lock
                raise GptOssError("the engine was called from its own progress callback, where it is at work")
            self.check_usable()
            yield
        finally:
            if self._closed:
                self._free()
            self._lock.release()

    def next_token(self, ids: Ids, params: SamplingParams, seed: int, cancelled: Event) -> Drawn:
        """Draw the token that follows `ids` (tokens,); at least the last of them is computed."""
        temperature = params.temperature if params.temperature >= GREEDY_BELOW else 0.0
        sampling = _core.Sampling(temperature=temperature, top_p=params.top_p, seed=seed)
        with self.turn(cancelled):
            reused = done = self._resume(ids[:-1])
            while len(ids) - done > self._max_tokens:
                self._step(ids[done : done + self._max_tokens], None, None, cancelled)
                done += self._max_tokens
                self._report(done - reused, len(ids) - reused)
            token = self._step(ids[done:], None, sampling, cancelled).token
            if done > reused:
                self._report(len(ids) - reused, len(ids) - reused)
        return Drawn(token, reused)

    def logits(self, ids: Ids, rows: Ids, out: npt.NDArray[np.float32], cancelled: Event) -> None:
        """Write the logits after ids[rows[i]] to out[i], for rows (n,) in any order, out (n, vocab_size)."""
        wanted, place = np.unique(rows, return_inverse=True)
        with self.turn(cancelled):
            start = done = self._resume(ids[: wanted[0]])
            total = int(wanted[-1]) + 1 - start
            served = 0
            while served < len(wanted):
                end = min(done + self._max_tokens, int(wanted[-1]) + 1)
                taken = int(np.searchsorted(wanted[served:], end))
                if taken > self._max_outputs:
                    taken = self._max_outputs
                    end = int(wanted[served + taken - 1]) + 1
                step_rows = (wanted[served : served + taken] - done).astype(np.int32)
                logits = self._step(ids[done:end], step_rows, None, cancelled).logits
                mine = np.flatnonzero((place >= served) & (place < served + taken))
                out[mine] = logits[place[mine] - served]
                done, served = end, served + taken
                if total > self._max_tokens:
                    self._report(done - start, total)

    def close(self) -> None:
        """Stop what runs and give the memory back. A second close does nothing."""
        self._closed = True
        if os.getpid() != self._pid:
            return  # threads and lock belong to the parent process
        with self._lock:
            if not self._in_step:  # else this is a signal handler inside a step, whose turn will free
                self._free()

    def check_usable(self) -> None:
        """Raise GptOssError when the engine is closed, or was loaded by a process that this one is a fork of."""
        if os.getpid() != self._pid:
            raise GptOssError(
                f"the engine was loaded in process {self._pid} and this is its fork {os.getpid()}, where its threads "
                "do not exist; load an engine after the fork, or start processes with the method 'spawn'")
        if self._closed:
            raise GptOssError("the engine is closed; load it again")

    def _resume(self, ids: Ids) -> int:
        """Keep the longest cached prefix of `ids`, forget the rest; returns the length kept."""
        length = self._session.length
        common = min(len(ids), length)
        differs = np.flatnonzero(ids[:common] != self._held[:common])
        common = int(differs[0]) if differs.size else common
        with native_errors():
            return self._session.truncate(common) if common < length else length

    def _step(self, tokens: Ids, rows: Ids | None, sampling: _core.Sampling | None, cancelled: Event) -> _core.Output:
        self._check_running(cancelled)
        length = self._session.length
        self._held[length : length + len(tokens)] = tokens  # counts only once session.length has grown
        work = _core.Work(self._session, np.ascontiguousarray(tokens), rows=rows, sampling=sampling)
        self._in_step = True
        try:
            with native_errors():
                return self._native.step([work], lambda: self._closed or cancelled.is_set())[0]
        except Cancelled:
            self._check_running(cancelled)  # to say who stopped it
            raise
        finally:
            self._in_step = False

    def _check_running(self, cancelled: Event) -> None:
        if self._closed:
            raise Cancelled("the engine was closed while this call was at work")
        if cancelled.is_set():
            raise Cancelled("this stream was closed while it was at work")

    def _report(self, done: int, total: int) -> None:
        if self._progress is None:
            return
        self._reporting = True
        try:
            self._progress("prefill", done, total)
        finally:
            self._reporting = False

    def _free(self) -> None:
        if not self._freed:
            self._freed = True
            self._session.close()
            self._native.close()
