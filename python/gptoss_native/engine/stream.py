"""One generation as an iterator of tokens; each token is computed when it is asked for."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Event, Lock
from time import perf_counter
from types import TracebackType

import numpy as np
import numpy.typing as npt

from gptoss_native.engine.driver import Driver
from gptoss_native.engine.results import Completion, FinishReason, StreamToken
from gptoss_native.engine.sampling import MAX_SEED, SamplingParams
from gptoss_native.errors import Cancelled, GptOssError
from gptoss_native.tokenizer import TextStream, Tokenizer


@contextmanager
def one_reader(lock: Lock) -> Iterator[None]:
    """As generators do: a second thread is refused, not given every other token."""
    if not lock.acquire(blocking=False):
        raise ValueError("this stream is already being read in another thread")
    try:
        yield
    finally:
        lock.release()


class TokenStream:
    """Iterator over the tokens of one generation.

    close(), also from another thread and in the middle of a prefill, stops the work: a next() that is at work
    raises Cancelled, a later one StopIteration. One thread reads at a time, a second one gets ValueError. A next()
    that raised anything else may be called again.
    Nothing is held between two tokens, so a stream that is dropped needs no close().
    """

    def __init__(self, driver: Driver, prompt: npt.NDArray[np.int32], params: SamplingParams,
                 stop_ids: frozenset[int], tokenizer: Tokenizer | None, max_context: int) -> None:
        self._driver = driver
        self._params = params
        self._stop_ids = stop_ids
        self._text = TextStream(tokenizer) if tokenizer is not None else None
        self._seed = secrets.randbelow(MAX_SEED + 1) if params.seed is None else params.seed
        room = max_context - len(prompt)
        self._limit = room if params.max_tokens is None else min(room, params.max_tokens)
        self._ids = np.concatenate([prompt, np.empty(self._limit, np.int32)])
        self._prompt_tokens = self._length = len(prompt)
        self._cached_tokens = 0
        self._pieces: list[str] = []
        self._prefill_seconds = self._decode_seconds = 0.0
        self._finish_reason: FinishReason | None = None if self._limit > 0 else "length"
        self._cancelled = Event()
        self._reading = Lock()

    def __iter__(self) -> TokenStream:
        return self

    def __next__(self) -> StreamToken:
        with one_reader(self._reading):
            return self._next()

    def _next(self) -> StreamToken:
        if self._finish_reason is not None or self._cancelled.is_set():
            raise StopIteration
        start = perf_counter()
        token, reused = self._driver.next_token(self._ids[: self._length], self._params, self._seed, self._cancelled)
        first = self._length == self._prompt_tokens
        self._ids[self._length] = token
        self._length += 1
        if token in self._stop_ids:
            self._finish_reason = "stop"
        elif self._length == len(self._ids):
            self._finish_reason = "length"
        if first:
            self._cached_tokens = reused
            self._prefill_seconds = perf_counter() - start
        else:
            self._decode_seconds += perf_counter() - start
        return StreamToken(token, self._piece(token), self._finish_reason)

    def run(self) -> Completion:
        """Generate to the end without giving up the engine in between."""
        with self.turn():
            for _ in self:
                pass
        return self.completion

    def turn(self) -> AbstractContextManager[None]:
        """Hold the engine for several tokens, so that no other caller's tokens come between them."""
        return self._driver.turn(self._cancelled)

    def close(self) -> None:
        """Stop the generation."""
        self._cancelled.set()

    def __enter__(self) -> TokenStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    @property
    def cancelled(self) -> bool:
        """Whether close() was called before the end."""
        return self._finish_reason is None and self._cancelled.is_set()

    @property
    def tokens(self) -> tuple[int, ...]:
        """The tokens drawn so far."""
        return tuple(self._ids[self._prompt_tokens : self._length].tolist())

    @property
    def completion(self) -> Completion:
        """The whole generation, once it has ended. Cancelled where it was closed before, else GptOssError."""
        if self._finish_reason is None:
            if self._cancelled.is_set():
                raise Cancelled(f"this stream was closed after {len(self.tokens)} tokens: there is no completion")
            raise GptOssError("this stream has not ended: iterate to its end first")
        return Completion(
            tokens=self.tokens, text=None if self._text is None else "".join(self._pieces),
            finish_reason=self._finish_reason, prompt_tokens=self._prompt_tokens, cached_tokens=self._cached_tokens,
            seed=self._seed, prefill_seconds=self._prefill_seconds, decode_seconds=self._decode_seconds)

    def _piece(self, token: int) -> str | None:
        if self._text is None:
            return None
        piece = "" if self._finish_reason == "stop" else self._text.feed(token)
        if self._finish_reason is not None:
            piece += self._text.finish()
        self._pieces.append(piece)
        return piece
