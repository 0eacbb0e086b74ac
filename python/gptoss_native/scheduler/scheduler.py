"""The door to the driver thread: many callers, on threads and in coroutines, one engine."""

from __future__ import annotations

import atexit
import os
import weakref
from threading import Thread, current_thread
from time import monotonic

import numpy as np
import numpy.typing as npt

from gptoss_native.errors import GptOssError
from gptoss_native.native import _core, native_errors
from gptoss_native.scheduler.driver import Driver
from gptoss_native.scheduler.metrics import Metrics
from gptoss_native.scheduler.request import Deadline, Ended, Handle, Ids, Request, check_process
from gptoss_native.scheduler.sequence import Sequence, checkpoint_places
from gptoss_native.scheduler.tasks import Generation, Scoring

EXIT_SECONDS = 5.0
"""How long the interpreter waits at its exit for a driver that is inside a caller's logits_mask."""


class Scheduler:
    """Runs requests on a native engine that was started, and closes it.

    Results reach their callers through a Handle. The thread is a daemon; it sleeps while there is nothing to do, and
    ends with close(), with the last reference to the scheduler, or with the interpreter.
    """

    def __init__(self, native: _core.Engine, *, vocab_size: int, token_budget: int, max_sequences: int,
                 max_queue: int) -> None:
        self._native = native
        self._vocab_size, self._max_edits = vocab_size, native.max_edits
        self._token_budget, self._max_sequences, self._max_queue = token_budget, max_sequences, max_queue
        self._driver = Driver(native, token_budget, max_sequences, max_queue)
        self._thread = Thread(target=self._driver.run, name="gptoss-native", daemon=True)
        self._process = os.getpid()
        weakref.finalize(self, self._driver.stop).atexit = False  # the exit has a way of its own, which waits
        _threads[self._thread] = self._driver
        self._thread.start()

    def handle(self, deadline: Deadline | None) -> Handle:
        """For one request."""
        return Handle(self._driver.look, deadline)

    def generate(self, request: Request, handle: Handle) -> None:
        """Continue a prompt: Drawn for each token, Ended for each sample. QueueFull where too many wait."""
        self.check_usable()
        if request.limit == 0:
            for index in range(request.params.n):
                handle.put(Ended(index, "length", 0, 0.0, 0.0, 0.0))
            return
        tokens = len(request.prompt)
        places = checkpoint_places(tokens, request.checkpoints, self._token_budget)
        tasks = [Generation(request, index, self._vocab_size, self._max_edits) for index in range(request.params.n)]
        if len(tasks) == 1 or tokens == 1:
            self._add(handle, [Sequence(handle, task, places) for task in tasks])
        else:  # the first computes all but the last token of the prompt, where the others join
            leader = Sequence(handle, tasks[0], sorted({*places, tokens - 1}))
            self._add(handle, [leader, *(Sequence(handle, task, places, leader) for task in tasks[1:])])

    def score(self, ids: Ids, rows: Ids, out: npt.NDArray[np.float32], handle: Handle) -> None:
        """Write the logits after ids[rows[i]] to out[i]: Scored when that is done."""
        self.check_usable()
        task = Scoring(ids, rows, out)
        self._add(handle, [Sequence(handle, task, checkpoint_places(len(task.ids), (), self._token_budget))])

    def metrics(self) -> Metrics:
        self.check_usable()
        meter = self._driver.meter
        prefill, decode = meter.rates()
        with native_errors(GptOssError):
            pages, free_pages = self._native.pages, self._native.free_pages
            device = self._native.device
        return Metrics(
            waiting=self._driver.waiting, running=self._driver.running, max_queue=self._max_queue,
            max_sequences=self._max_sequences, prefill_tokens=meter.prefill_tokens, cached_tokens=meter.cached_tokens,
            decode_tokens=meter.decode_tokens, prefill_tokens_per_second=prefill, decode_tokens_per_second=decode,
            time_to_first_token=meter.time_to_first_token(), pages=pages, free_pages=free_pages,
            completed=meter.completed, cancelled=meter.cancelled, failed=meter.failed, preempted=meter.preempted,
            precision=device["precision"], kv_dtype=device["kv_dtype"], dense=device["dense"])

    def check_usable(self) -> None:
        """Raise GptOssError when the engine is closed, when this process is a fork of the one that loaded it, or when
        this is the driver's own thread, which would wait for itself."""
        check_process(self._process)
        if self._driver.stopping:
            raise GptOssError("the engine is closed; load it again")
        if current_thread() is self._thread:
            raise GptOssError("the engine was called from inside logits_mask, which runs on the engine's own thread")

    def close(self) -> None:
        """Stop what runs and give the memory back. A second close does nothing."""
        if os.getpid() != self._process:
            return  # the thread belongs to the parent process
        self._driver.stop()
        if current_thread() is not self._thread:
            self._thread.join()

    def _add(self, handle: Handle, sequences: list[Sequence]) -> None:
        self._driver.add(sequences)
        if self._driver.stopping:  # in between: it may have looked for the last time
            handle.fail(GptOssError("the engine is closed; load it again"))


_threads: weakref.WeakKeyDictionary[Thread, Driver] = weakref.WeakKeyDictionary()


@atexit.register
def _stop_all() -> None:
    """A thread that comes back from native code to an interpreter that is gone would take the process down. Who still
    waits is a daemon thread, and dies with the interpreter without a word."""
    threads = [(thread, driver) for thread, driver in _threads.items() if thread.is_alive()]
    for _, driver in threads:
        driver.stop(silently=True)
    until = monotonic() + EXIT_SECONDS
    for thread, _ in threads:
        while thread.is_alive() and (left := until - monotonic()) > 0:
            try:
                thread.join(left)
            except KeyboardInterrupt:  # an impatient one: leaving now is what would take the process down
                pass
