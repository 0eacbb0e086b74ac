"""One generation as an iterator of tokens, for a thread and for a coroutine."""

from __future__ import annotations

from threading import Lock
from types import TracebackType

import numpy as np
import numpy.typing as npt

from gptoss_native.errors import GptOssError
from gptoss_native.scheduler.request import Deadline, Ids, Prefilled, Request, Scored
from gptoss_native.scheduler.results import Completion, StreamToken
from gptoss_native.scheduler.scheduler import Scheduler
from gptoss_native.scheduler.transcript import Progress, Transcript, report
from gptoss_native.tokenizer import Tokenizer


class OneReader:
    """As generators do: a second reader at the same time is refused, not given every other token."""

    def __init__(self) -> None:
        self._lock = Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise ValueError("this stream is already being read in another thread or task")

    def __exit__(self, *error: object) -> None:
        self._lock.release()


class TokenStream:
    """Iterator over the tokens of one generation, which runs whether they are read or not.

    It is both: `for token in stream` and `async for token in stream`. close(), also from another thread and in the
    middle of a prefill, stops the work: a next() that waits raises Cancelled, a later one StopIteration. So does
    Ctrl-C inside next(), cancelling the task that awaits one, leaving a `with` block, and dropping the stream.
    What the progress callable of load() raises comes out of next(), and next() may be called again. One thread or
    task reads at a time: a second one gets ValueError.
    """

    def __init__(self, scheduler: Scheduler, request: Request, tokenizer: Tokenizer | None, progress: Progress | None,
                 deadline: Deadline | None) -> None:
        self._closed = False
        self._reader = OneReader()
        self._scheduler = scheduler  # which lives as long as somebody reads
        self._transcript = Transcript(request, tokenizer, progress)
        self._handle = scheduler.handle(deadline)
        scheduler.generate(request, self._handle)

    def __iter__(self) -> TokenStream:
        return self

    def __next__(self) -> StreamToken:
        with self._reader:
            if self._over:
                raise StopIteration
            while not self._transcript.ended:
                try:
                    item = self._handle.get()
                except BaseException:  # Ctrl-C above all
                    self.close()
                    raise
                token = self._transcript.take(item)
                if token is not None:
                    return token
            raise StopIteration

    def __aiter__(self) -> TokenStream:
        return self

    async def __anext__(self) -> StreamToken:
        with self._reader:
            if self._over:
                raise StopAsyncIteration
            while not self._transcript.ended:
                try:
                    item = await self._handle.aget()
                except BaseException:  # the task was cancelled
                    self.close()
                    raise
                token = self._transcript.take(item)
                if token is not None:
                    return token
            raise StopAsyncIteration

    def run(self) -> Completion:
        """Generate to the end."""
        with self:
            for _ in self:
                pass
        return self.completion

    async def arun(self) -> Completion:
        """run() for a coroutine."""
        async with self:
            async for _ in self:
                pass
        return self.completion

    def close(self) -> None:
        """Stop the generation; nothing happens where it has ended."""
        self._closed = True
        if not self._transcript.ended:
            self._handle.cancel()

    async def aclose(self) -> None:
        """close(), as asynchronous iterators have it."""
        self.close()

    def __enter__(self) -> TokenStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> TokenStream:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        traceback: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self.close()

    @property
    def cancelled(self) -> bool:
        """Whether it was closed before its end."""
        return self._closed and not self._transcript.ended

    @property
    def tokens(self) -> tuple[int, ...]:
        """The tokens read so far; of the first sample, where n was more than 1."""
        return self._transcript.tokens

    @property
    def completion(self) -> Completion:
        """The whole generation, once it has ended. Raises what stopped it before, else GptOssError."""
        if self._transcript.ended:
            return self._transcript.completion
        if self._handle.error is not None:
            raise self._handle.error
        raise GptOssError("this stream has not ended: iterate to its end first")

    @property
    def _over(self) -> bool:
        return self._transcript.ended or self._closed


def score(scheduler: Scheduler, ids: Ids, rows: Ids, out: npt.NDArray[np.float32], progress: Progress | None,
          deadline: Deadline | None) -> None:
    """Scheduler.score(), and wait until it is done."""
    handle = scheduler.handle(deadline)
    try:
        scheduler.score(ids, rows, out, handle)
        while not isinstance(item := handle.get(), Scored):
            if isinstance(item, Prefilled) and progress is not None:
                report(progress, item)
    except BaseException:  # Ctrl-C above all
        handle.cancel()
        raise
