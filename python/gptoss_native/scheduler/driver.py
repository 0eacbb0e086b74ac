"""The one thread that runs the steps of an engine: who joins, who leaves, and what happens when something fails.

Everything here belongs to that thread but add(), look(), stop() and the counts. Nothing is called with a lock held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from copy import copy
from queue import Empty, SimpleQueue
from threading import RLock
from time import monotonic, perf_counter

from gptoss_native.errors import Cancelled, GptOssError, OutOfMemory, QueueFull
from gptoss_native.native import _core
from gptoss_native.scheduler.metrics import Meter
from gptoss_native.scheduler.sequence import Sequence
from gptoss_native.scheduler.step import Outcome, Step, begin, begin_ahead


class Driver:
    """Sequences wait in the order in which they came; the first `max_sequences` of them run, all in every step."""

    def __init__(self, native: _core.Engine, token_budget: int, max_sequences: int, max_queue: int) -> None:
        self.meter = Meter()
        self._native = native
        self._token_budget, self._max_sequences, self._max_queue = token_budget, max_sequences, max_queue
        self._inbox: SimpleQueue[list[Sequence] | None] = SimpleQueue()  # may be put to from anywhere, also destructors
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []  # the oldest first
        self._queued = 0  # in the inbox or waiting
        self._queue_lock = RLock()
        self._no_room = False  # since a sequence was preempted nobody has left
        self._cut_short = False  # the latest step
        self._steps: deque[Step] = deque()  # that the device has to do; two, where it runs ahead
        self._busy_since = 0.0  # the device, with the first of them
        self._silently = False
        self.stopping = False
        """Whether nothing that is added will run any more."""

    # For any thread

    def add(self, sequences: list[Sequence]) -> None:
        """Let them run when it is their turn. QueueFull where too many wait already."""
        most = self._max_sequences + self._max_queue  # as many as run, and as many as wait
        if len(sequences) > most:
            raise ValueError(
                f"{len(sequences)} samples are more than the max_sequences={self._max_sequences} that run and the "
                f"max_queue={self._max_queue} that wait; ask for fewer, or load with a larger max_queue")
        with self._queue_lock:
            there = self._queued + len(self._running)
            if there + len(sequences) > most:
                raise QueueFull(
                    f"{there} sequences run or wait, and {len(sequences)} more would be beyond max_sequences="
                    f"{self._max_sequences} and max_queue={self._max_queue}; try again later, or load with a larger "
                    "max_queue")
            self._queued += len(sequences)
        self._inbox.put(sequences)

    def look(self) -> None:
        """Wake the driver: something changed, a request was cancelled perhaps."""
        self._inbox.put(None)

    def stop(self, silently: bool = False) -> None:
        """End the thread, within a fraction of a second, whatever it is at. What runs and waits fails, or with
        `silently` is left alone."""
        self._silently = self._silently or silently
        self.stopping = True
        self._inbox.put(None)

    @property
    def waiting(self) -> int:
        return self._queued

    @property
    def running(self) -> int:
        """Also those that have ended while the device is at one more step of theirs, until it is done with that."""
        return len(set(self._running).union(*(step.sequences for step in tuple(self._steps))))

    # The thread

    def run(self) -> None:
        try:
            while self._wait_for_work():
                self._turn()
            end: GptOssError = Cancelled("the engine was closed while this call was at work")
        except BaseException as error:  # nothing of a caller's comes here: it would be a mistake in this package
            end = GptOssError(f"the engine's thread failed ({type(error).__name__}: {error}); load the engine again")
            end.__cause__ = error
        self.stopping = True  # and then look for the last time
        left = [*self._running, *self._waiting, *self._arrivals(wait=False)]
        for sequence in left if not self._silently else ():
            sequence.handle.fail(copy(end))
        for sequence in left:
            sequence.stop(self._native, keep=False)
        self._steps.clear()
        self._native.close()  # waits for what the device is at

    def _wait_for_work(self) -> bool:
        """Sleep while there is none. False when it is time to end."""
        idle = not self._running and not self._waiting and not self._steps
        self._waiting.extend(self._arrivals(wait=idle and not self.stopping))
        return not self.stopping

    def _arrivals(self, wait: bool) -> Iterator[Sequence]:
        while True:
            try:
                yield from self._inbox.get(block=wait) or ()
            except Empty:
                return
            wait = False

    def _turn(self) -> None:
        """One step, and what belongs around it. Where the device runs ahead, the next one is begun before, and the
        device is at that while the callers of this one are told."""
        self._drop_stopped()
        self._admit()
        if not self._steps and not self._running:
            return
        try:
            if not self._steps:
                self._busy_since = perf_counter()
                self._steps.append(begin(self._native, self._running, self._token_budget, self._for_nothing))
            step = self._steps[0]
            if self._native.runs_ahead and self._inbox.empty():  # who has just come need not wait for one step more
                ahead = begin_ahead(self._native, step, self._running, self._for_nothing)
                if ahead is not None:
                    self._steps.append(ahead)
            outcomes = step.finish(self._native, self._running, self._for_nothing)
            self._steps.popleft()
            self._cut_short = False
        except OutOfMemory as error:
            self._steps.clear()
            self._make_room(error)
        except Cancelled:
            self._steps.clear()
            self._cut_short = True  # whom it was for is dropped in the next turn
        except Exception as error:  # of the device
            self._steps.clear()
            for sequence in list(self._running):
                self._fail(sequence, copy(error))
        else:
            now = perf_counter()
            self._count(outcomes, now - self._busy_since)
            self._busy_since = now
            for each in outcomes:
                if each.error is not None:
                    self._fail(each.sequence, each.error)
                elif each.sequence.task.finished:
                    self.meter.completed += 1
                    self._leave(each.sequence, keep=True)
                    each.sequence.conclude()

    def _for_nothing(self) -> bool:
        """Whether the step under way is: nobody waits for it any more, or only decodes do, which are kept waiting by a
        prompt and soon done again. Not two steps on end for the latter, so that decodes always come on."""
        needed = [sequence for sequence in self._running if not sequence.handle.is_over()]
        if self.stopping or not needed:
            return True
        stopped = [sequence for sequence in self._running if sequence.handle.error is not None]
        return (not self._cut_short and any(sequence.pending > 1 for sequence in stopped)
                and all(sequence.pending == 1 for sequence in needed))

    # Joining and leaving

    def _drop_stopped(self) -> None:
        for sequence in [each for each in self._running if each.handle.is_over()]:
            self.meter.cancelled += 1
            self._leave(sequence, keep=True)
        for sequence in [each for each in self._waiting if each.handle.is_over()]:
            self.meter.cancelled += 1
            self._waiting.remove(sequence)
            self._requeue(-1)

    def _admit(self) -> None:
        while len(self._running) < self._max_sequences and not (self._no_room and self._running):
            sequence = next((each for each in self._waiting if each.may_start), None)
            if sequence is None:
                return
            self._waiting.remove(sequence)
            self._requeue(-1)
            fresh = sequence.admitted is None
            try:
                sequence.start(self._native)
            except Exception as error:  # of the device
                self.meter.failed += 1
                sequence.handle.fail(error)
                continue
            self._running.append(sequence)
            if fresh:
                self.meter.cached_tokens += sequence.cached_tokens

    def _make_room(self, error: OutOfMemory) -> None:
        """The pages of all that run do not suffice: the youngest waits until somebody leaves. It is computed again
        from the latest checkpoint that is left, with the same result."""
        youngest = self._running[-1]
        if len(self._running) == 1:
            self._fail(youngest, OutOfMemory(f"{error}; it runs alone, so nothing can make room by waiting"))
            return
        self.meter.preempted += 1
        self._leave(youngest, keep=True)
        self._no_room = True
        self._waiting.appendleft(youngest)
        self._requeue(1)

    def _fail(self, sequence: Sequence, error: BaseException) -> None:
        self.meter.failed += 1
        self._leave(sequence, keep=False)
        sequence.handle.fail(error)

    def _leave(self, sequence: Sequence, *, keep: bool) -> None:
        self._running.remove(sequence)
        self._no_room = False
        sequence.stop(self._native, keep=keep)

    def _requeue(self, change: int) -> None:
        with self._queue_lock:
            self._queued += change

    def _count(self, outcomes: list[Outcome], seconds: float) -> None:
        now = monotonic()
        self.meter.step(
            seconds,
            prefill=sum(each.tokens for each in outcomes if not each.decoded),
            decode=sum(each.decoded for each in outcomes),
            first_tokens=[now - each.sequence.handle.submitted for each in outcomes if each.began])
