"""One turn of a conversation as an iterator of events, for a thread and for a coroutine."""

from __future__ import annotations

from collections import deque
from types import TracebackType

from gptoss_native.chat.chat import Chat
from gptoss_native.chat.reply import Reply
from gptoss_native.chat.tool_calls import arun_call, run_call
from gptoss_native.errors import GptOssError
from gptoss_native.events import Event, ToolResult
from gptoss_native.harmony import ToolCall
from gptoss_native.scheduler.stream import OneReader


class ChatStream:
    """Iterator over the events of one turn: deltas, ToolCallDone, ToolResult, MessageDone, and Done as the last.

    Both `for` and `async for`; close() and what stops it as for TokenStream. Tools that are Python functions run in
    the thread that reads, or as its task; what they raise is told to the model.
    """

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._events: deque[Event] = deque()
        self._calls: deque[ToolCall] = deque()  # to be answered before the turn goes on
        self._results: list[ToolResult] = []
        self._finished = self._closed = False
        self._error: BaseException | None = None  # which ended the turn between two generations
        self._reader = OneReader()

    def __iter__(self) -> ChatStream:
        return self

    def __next__(self) -> Event:
        with self._reader:
            while not self._events:
                if self._finished or self._closed:
                    raise StopIteration
                if self._calls:
                    self._answer(run_call(self._calls[0], self._chat.toolbox))
                    continue
                if self._results:
                    self._go_on()
                try:
                    self._events.extend(self._chat.feed(next(self._chat.stream).id))
                except StopIteration:
                    self._end()
            return self._events.popleft()

    def __aiter__(self) -> ChatStream:
        return self

    async def __anext__(self) -> Event:
        with self._reader:
            while not self._events:
                if self._finished or self._closed:
                    raise StopAsyncIteration
                if self._calls:
                    self._answer(await arun_call(self._calls[0], self._chat.toolbox))
                    continue
                if self._results:
                    self._go_on()
                try:
                    token = await self._chat.stream.__anext__()
                except StopAsyncIteration:
                    self._end()
                else:
                    self._events.extend(self._chat.feed(token.id))
            return self._events.popleft()

    def run(self) -> Reply:
        """The turn to its end."""
        with self:
            for _ in self:
                pass
        return self.reply

    async def arun(self) -> Reply:
        """run() for a coroutine."""
        async with self:
            async for _ in self:
                pass
        return self.reply

    def close(self) -> None:
        """Stop the turn; nothing happens where it has ended."""
        self._closed = True
        self._chat.stream.close()
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
        if self._finished:
            return self._chat.reply()
        if self._error is not None:
            raise self._error
        _ = self._chat.stream.completion  # raises what stopped it
        raise GptOssError("this stream has not ended: iterate to its end first")

    def _end(self) -> None:
        """There are no more tokens of this generation: tools are to be called, the turn is complete, or it was
        closed."""
        if self._chat.stream.cancelled:
            self._closed = True
            return
        events, calls = self._chat.end()
        self._events.extend(events)
        self._calls.extend(calls)
        self._finished = not calls

    def _answer(self, result: ToolResult) -> None:
        if not self._closed:  # while the tool ran
            self._calls.popleft()
            self._results.append(result)
            self._events.append(result)

    def _go_on(self) -> None:
        results, self._results = self._results, []
        try:
            self._chat.answer(results)
        except BaseException as error:  # no time or no room for another generation
            self._closed, self._error = True, error
            raise
