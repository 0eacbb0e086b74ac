"""What a caller asks of the driver, and what both sides hold of it while it runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from threading import TIMEOUT_MAX
from time import monotonic
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gptoss_native.errors import Cancelled, GptOssError, Timeout
from gptoss_native.sampling.params import SamplingParams
from gptoss_native.scheduler.channel import Channel
from gptoss_native.scheduler.results import FinishReason, TopLogprobs

Ids = npt.NDArray[np.int32]


class Steering(NamedTuple):
    """How a sequence is to go on: `tokens` follow without being drawn, and the draw after them is one of `allowed`,
    where that is given."""

    tokens: tuple[int, ...] = ()
    allowed: tuple[int, ...] | None = None


class Reader(Protocol):
    """Reads the tokens of one sequence, says how they go on and when they have said enough."""

    def feed(self, token: int) -> object: ...

    @property
    def stopped(self) -> bool: ...

    @property
    def steering(self) -> Steering | None:
        """Asked before the first draw, when there may be no tokens in it yet, and after every token that was drawn."""


@dataclass(frozen=True, eq=False)
class Request:
    """A prompt (tokens,) to be continued `params.n` times.

    seed: of params, or a fresh one. stop_ids: end a sequence. limit: tokens of one sequence at most.
    checkpoints: places of the prompt from which other prompts may go on, beside those that are always kept.
    reader: makes one for each sequence, where stop texts end it or something steers it.
    """

    prompt: Ids
    params: SamplingParams
    seed: int
    stop_ids: frozenset[int]
    limit: int
    checkpoints: tuple[int, ...] = ()
    reader: Callable[[], Reader] | None = None


class Drawn(NamedTuple):
    """The next token of that sample; with a finish_reason its last one. forced: it was not drawn, see Steering."""

    sample: int
    token: int
    finish_reason: FinishReason | None
    logprob: float | None
    top_logprobs: TopLogprobs
    forced: bool = False


class Ended(NamedTuple):
    """That sample is complete: times in seconds, see Completion."""

    sample: int
    finish_reason: FinishReason
    cached_tokens: int
    queue_seconds: float
    prefill_seconds: float
    decode_seconds: float


class Prefilled(NamedTuple):
    """`done` of `total` tokens of a prompt are computed."""

    done: int
    total: int


class Scored(NamedTuple):
    """All logits asked for are written."""


class Failed(NamedTuple):
    """There will be no more, because of `error`."""

    error: BaseException


Item = Drawn | Ended | Prefilled | Scored | Failed


class Deadline:
    """`timeout` seconds from now, as its caller gave them. Several requests may share one."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._ends = monotonic() + timeout

    @staticmethod
    def after(timeout: float | None) -> Deadline | None:
        """None is no limit."""
        return None if timeout is None else Deadline(timeout)

    @property
    def left(self) -> float:
        """Seconds, 0 where there is no more time."""
        return max(0.0, self._ends - monotonic())

    def error(self) -> Timeout:
        """To raise when it has passed."""
        return Timeout(f"the work was not done after timeout={self._timeout:g} seconds and was stopped")


class Handle:
    """One request under way. The driver puts items, the caller gets them; either may end it.

    deadline: None is no limit. wake: lets the driver look at the handle.
    """

    def __init__(self, wake: Callable[[], None], deadline: Deadline | None) -> None:
        self.submitted = monotonic()
        self._deadline = deadline
        self._wake = wake
        self._channel: Channel[Item] = Channel()
        self._process = os.getpid()
        self.error: BaseException | None = None
        """Why it was ended before its end."""

    # The driver's side

    def is_over(self) -> bool:
        """Whether nobody waits for it any more; ends it where its time is up."""
        if self.error is None and self._deadline is not None and self._deadline.left == 0:
            self.fail(self._deadline.error())
        return self.error is not None

    def put(self, item: Item) -> None:
        self._channel.put(item)

    def fail(self, error: BaseException) -> None:
        """End it with `error`; the first one counts."""
        if self.error is None:
            self.error = error
            self._channel.put(Failed(error))

    # The caller's side

    def get(self) -> Item:
        """The next item; waits for it. Raises what ended the request."""
        check_process(self._process)
        try:
            return self._open(self._channel.get(self._left()))
        except TimeoutError:
            raise self._time_is_up() from None

    async def aget(self) -> Item:
        """get() for a coroutine."""
        check_process(self._process)
        try:
            return self._open(await self._channel.aget(self._left()))
        except TimeoutError:
            raise self._time_is_up() from None

    def cancel(self) -> None:
        """Stop the work. A get() that waits raises Cancelled; the driver stops as soon as it can."""
        if os.getpid() == self._process and self.error is None:
            self.fail(Cancelled("this stream was closed while it was at work"))
            self._wake()

    def _open(self, item: Item) -> Item:
        if not isinstance(item, Failed):
            return item
        self.error = _to_keep(item.error)
        try:
            raise item.error
        finally:
            del item

    def _left(self) -> float | None:
        return None if self._deadline is None else min(self._deadline.left, TIMEOUT_MAX)

    def _time_is_up(self) -> BaseException:
        assert self._deadline is not None
        self.fail(self._deadline.error())
        self._wake()
        assert self.error is not None
        return _to_keep(self.error)


def _to_keep(error: BaseException) -> BaseException:
    """A copy of an error that is raised: its traceback holds the frames that hold the handle, which must not hold it
    in turn, or what a caller dropped would live until the garbage collector comes around."""
    try:
        return copy(error)
    except Exception:  # of a class that has its own idea of copies
        return error


def check_process(loaded_in: int) -> None:
    """Raise GptOssError where this process is a fork of the one that loaded the engine."""
    if os.getpid() != loaded_in:
        raise GptOssError(
            f"the engine was loaded in process {loaded_in} and this is its fork {os.getpid()}, where its threads "
            "do not exist; load an engine after the fork, or start processes with the method 'spawn'")
