"""One generation of a conversation: tokens in, events out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gptoss_native.chat.thinking import Thinking
from gptoss_native.events import Done, EndReason, Event, MessageDone, TextDelta
from gptoss_native.harmony import Message, Parser, Toolbox
from gptoss_native.sampling.stops import StopTexts
from gptoss_native.scheduler.request import Steering
from gptoss_native.tokenizer import Tokenizer


class Turn:
    """Parses one sample, cuts the answer at the first stop text, and governs its reasoning.

    Stop texts are looked for in each message of the answer on its own, from the token on with which min_tokens are
    complete. first_call: the number of the first call that it may make. reasoning_budget, stop_loops: see Thinking.

    prefix: what belongs to the turn and is not generated; the prompt is to end in it.
    """

    def __init__(self, tokenizer: Tokenizer, toolbox: Toolbox, stops: Sequence[str], min_tokens: int, *,
                 first_call: int = 1, reasoning_budget: int | None = None, stop_loops: bool = False) -> None:
        self._parser = Parser(tokenizer, role="assistant", tools=toolbox, first_call=first_call)
        self._thinking = Thinking(self._parser, tokenizer, budget=reasoning_budget, stop_loops=stop_loops,
                                  may_call=bool(toolbox.functions or toolbox.builtins))
        self._stops = tuple(stops)
        self._unchecked = max(0, min_tokens - 1)
        self._search = StopTexts(self._stops)
        self._shown: list[str] = []  # of the current message, if it is part of the answer
        self._messages = 0  # that have ended
        self._done: Done | None = None
        start = self._thinking.steering
        self.prefix = () if start is None else start.tokens
        self._first = None if start is None else Steering(allowed=start.allowed)
        self._parser.feed(self.prefix)

    @property
    def reasoning_tokens(self) -> int:
        """Tokens on the analysis channel."""
        return self._thinking.spent

    @property
    def stopped(self) -> bool:
        """Whether a stop text was found, the answer is a loop, or what may come has come: a call that did not end in
        `<|call|>`, behind which the model would invent its result, or the answer, and then thoughts beyond the
        budget."""
        called = bool(self._parser.messages) and self._parser.messages[-1].call is not None
        return self._search.found or self._thinking.cut_off or self._thinking.over or called

    @property
    def steering(self) -> Steering | None:
        """How the generation is to go on."""
        first, self._first = self._first, None
        return self._thinking.steering if first is None else first

    def feed(self, token: int) -> list[Event]:
        """What `token` made known."""
        events = self._cut(self._parser.feed(token))
        self._thinking.feed(token)
        self._unchecked = max(0, self._unchecked - 1)
        return events

    def finish(self, reason: EndReason) -> list[Event]:
        """The generation ended for that reason. The last event is Done."""
        if self._thinking.cut_off and not self._search.found:
            reason = "loop"
        *events, done = self._parser.finish(reason)
        assert isinstance(done, Done)
        events = self._cut(events)
        if self._search.found:
            done = self._cut_short(done)
            events.append(MessageDone(done.messages[-1]))
        self._done = done
        return [*events, done]

    @property
    def done(self) -> Done:
        """All of it, once it has ended."""
        assert self._done is not None
        return self._done

    def _cut(self, events: Iterable[Event]) -> list[Event]:
        """The events up to a stop text."""
        kept: list[Event] = []
        for event in events:
            if self._search.found:
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
        return Done(done.reason, text=texts(messages, "text"), reasoning=texts(messages, "reasoning"),
                    preamble=texts(messages, "preamble"), messages=messages)


def texts(messages: Iterable[Message], kind: str) -> str:
    """Of all messages of that kind."""
    return "".join(message.text for message in messages if message.kind == kind)
