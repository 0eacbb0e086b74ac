"""One turn of a conversation as an iterator of events, for a thread and for a coroutine."""

from __future__ import annotations

from collections import deque
from types import TracebackType

from gptoss_native.engine.results import Reply
from gptoss_native.engine.stream import OneReader, TokenStream
from gptoss_native.engine.turn import Turn
from gptoss_native.errors import GptOssError
from gptoss_native.events import Event


class ChatStream:
    """Iterator over the events of one turn: deltas, MessageDone, and Done as the last.

    Both `for` and `async for`; close() and what stops it as for TokenStream.
    """

    def __init__(self, tokens: TokenStream, turn: Turn) -> None:
        self._tokens, self._turn = tokens, turn
        self._events: deque[Event] = deque()
        self._finished = False
        self._reader = OneReader()

    def __iter__(self) -> ChatStream:
        return self

    def __next__(self) -> Event:
        with self._reader:
            while not self._events:
                if self._finished:
                    raise StopIteration
                try:
                    self._events.extend(self._turn.feed(next(self._tokens).id))
                except StopIteration:
                    self._end()
            return self._events.popleft()

    def __aiter__(self) -> ChatStream:
        return self

    async def __anext__(self) -> Event:
        with self._reader:
            while not self._events:
                if self._finished:
                    raise StopAsyncIteration
                try:
                    token = await self._tokens.__anext__()
                except StopAsyncIteration:
                    self._end()
                else:
                    self._events.extend(self._turn.feed(token.id))
            return self._events.popleft()

    def close(self) -> None:
        """Stop the generation."""
        self._tokens.close()
        self._events.clear()

    async def aclose(self) -> None:
        """close(), as asynchronous iterators have it."""
        self.close()

    def __enter__(self) -> ChatStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> ChatStream:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        traceback: TracebackType | None) -> None:
        self.close()

    @property
    def reply(self) -> Reply:
        """The whole turn, once it has ended. Raises what stopped it before, else GptOssError."""
        completion = self._tokens.completion  # raises both
        if not self._finished:
            raise GptOssError("this stream has not ended: iterate to its end first")
        return self._turn.reply(completion)

    def _end(self) -> None:
        """There are no more tokens: the turn is complete, or it was closed."""
        self._finished = True
        if not self._tokens.cancelled:
            self._events.extend(self._turn.finish(self._tokens.completion.finish_reason))
