"""One turn of a conversation as an iterator of events."""

from __future__ import annotations

from collections import deque
from threading import Lock
from types import TracebackType

from gptoss_native.engine.results import Reply
from gptoss_native.engine.stream import TokenStream, one_reader
from gptoss_native.errors import GptOssError
from gptoss_native.events import Done, EndReason, Event
from gptoss_native.harmony import Parser
from gptoss_native.tokenizer import Tokenizer


class ChatStream:
    """Iterator over the events of one turn: deltas, MessageDone, and Done as the last.

    close() as that of TokenStream.
    """

    def __init__(self, tokens: TokenStream, tokenizer: Tokenizer) -> None:
        self._tokens = tokens
        self._parser = Parser(tokenizer, role="assistant")
        self._events: deque[Event] = deque()
        self._done: Done | None = None
        self._reading = Lock()

    def __iter__(self) -> ChatStream:
        return self

    def __next__(self) -> Event:
        with one_reader(self._reading):
            return self._next()

    def _next(self) -> Event:
        while not self._events:
            if self._done is not None:
                raise StopIteration
            token = next(self._tokens, None)
            if token is not None:
                self._events.extend(self._parser.feed(token.id))
            elif self._tokens.cancelled:
                raise StopIteration
            else:
                self._finish()
        return self._events.popleft()

    def run(self) -> Reply:
        """Generate to the end without giving up the engine in between."""
        with self._tokens.turn():
            for _ in self:
                pass
        return self.reply

    def close(self) -> None:
        """Stop the generation."""
        self._tokens.close()
        self._events.clear()

    def __enter__(self) -> ChatStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    @property
    def reply(self) -> Reply:
        """The whole turn, once it has ended. Cancelled where it was closed before, else GptOssError."""
        completion = self._tokens.completion  # raises both
        if self._done is None:
            raise GptOssError("this stream has not ended: iterate to its end first")
        return Reply(
            text=self._done.text, reasoning=self._done.reasoning, preamble=self._done.preamble,
            finish_reason=self._done.reason, messages=self._done.messages, tokens=completion.tokens,
            prompt_tokens=completion.prompt_tokens, cached_tokens=completion.cached_tokens, seed=completion.seed,
            prefill_seconds=completion.prefill_seconds, decode_seconds=completion.decode_seconds)

    def _finish(self) -> None:
        reason: EndReason = self._tokens.completion.finish_reason
        messages = self._parser.messages
        if reason == "stop" and messages and messages[-1].terminator == "call":
            reason = "tool_calls"
        events = self._parser.finish(reason)
        self._events.extend(events)
        self._done = next(event for event in events if isinstance(event, Done))
