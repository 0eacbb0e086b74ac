"""One turn of a conversation: tokens in, events out, the reply at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from gptoss_native import harmony
from gptoss_native.engine.results import Completion, Reply
from gptoss_native.engine.stops import StopTexts
from gptoss_native.events import Done, EndReason, Event, MessageDone, TextDelta
from gptoss_native.harmony import ChatMessage, Message, Parser
from gptoss_native.tokenizer import Tokenizer


class Turn:
    """Parses one sample, and cuts the answer at the first stop text.

    Stop texts are looked for in each message of the answer on its own, from the token on with which min_tokens are
    complete.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str], min_tokens: int) -> None:
        self._parser = Parser(tokenizer, role="assistant")
        self._stops = tuple(stops)
        self._unchecked = max(0, min_tokens - 1)
        self._search = StopTexts(self._stops)
        self._shown: list[str] = []  # of the current message, if it is part of the answer
        self._messages = 0  # that have ended
        self._done: Done | None = None

    @property
    def stopped(self) -> bool:
        """Whether a stop text was found."""
        return self._search.found

    def feed(self, token: int) -> list[Event]:
        """What `token` made known."""
        events = self._cut(self._parser.feed(token))
        self._unchecked = max(0, self._unchecked - 1)
        return events

    def finish(self, reason: EndReason) -> list[Event]:
        """The generation ended for that reason. The last event is Done."""
        messages = self._parser.messages
        if reason == "stop" and messages and messages[-1].call is not None:
            reason = "tool_calls"
        *events, done = self._parser.finish(reason)
        assert isinstance(done, Done)
        events = self._cut(events)
        if self.stopped:
            done = self._cut_short(done)
            events.append(MessageDone(done.messages[-1]))
        self._done = done
        return [*events, done]

    def reply(self, completion: Completion) -> Reply:
        """The turn, which has ended, as a whole."""
        done, c = self._done, completion
        assert done is not None
        return Reply(
            text=done.text, reasoning=done.reasoning, preamble=done.preamble, finish_reason=done.reason,
            messages=done.messages, tokens=c.tokens, prompt_tokens=c.prompt_tokens, cached_tokens=c.cached_tokens,
            seed=c.seed, queue_seconds=c.queue_seconds, prefill_seconds=c.prefill_seconds,
            decode_seconds=c.decode_seconds, logprobs=c.logprobs, top_logprobs=c.top_logprobs)

    def _cut(self, events: Iterable[Event]) -> list[Event]:
        """The events up to a stop text."""
        kept: list[Event] = []
        for event in events:
            if self.stopped:
                break
            if isinstance(event, TextDelta):
                self._show(event.text if self._unchecked else self._search.feed(event.text), kept)
                continue
            if isinstance(event, MessageDone):
                self._show(self._search.finish(), kept)
                self._search, self._shown = StopTexts(self._stops), []
                self._messages += 1
            kept.append(event)
        return kept

    def _show(self, text: str, events: list[Event]) -> None:
        if text:
            self._shown.append(text)
            events.append(TextDelta(text))

    def _cut_short(self, done: Done) -> Done:
        """Without what the stop text and all behind it say: the current message is the last one."""
        cut = replace(done.messages[self._messages], content="".join(self._shown))
        messages = (*done.messages[: self._messages], cut)
        return Done(done.reason, text=_texts(messages, "text"), reasoning=_texts(messages, "reasoning"),
                    preamble=_texts(messages, "preamble"), messages=messages)


def _texts(messages: Iterable[Message], kind: str) -> str:
    return "".join(message.text for message in messages if message.kind == kind)


def instructions_end(messages: Sequence[ChatMessage], prompt: npt.NDArray[np.int32], tokenizer: Tokenizer) -> int:
    """How many tokens of the rendered `prompt` (tokens,) are system and developer messages at its beginning, which
    other conversations may begin with too."""
    return harmony.instructions_end(prompt.tolist(), tokenizer)
