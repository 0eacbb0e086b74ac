"""Reasoning, governed: a budget of tokens, an end to loops."""

from __future__ import annotations

from gptoss_native.chat.loops import LoopDetector
from gptoss_native.harmony import Parser, closing_ids
from gptoss_native.scheduler.request import Steering
from gptoss_native.tokenizer import Tokenizer


class Thinking:
    """Watches what `parser` reads, and says when and how the model's reasoning is to be ended.

    budget: tokens on the analysis channel; None is no limit, with 0 the model does not reason. stop_loops: whether
    reasoning that repeats itself is ended too, and an answer that does is cut off. may_call: whether the model may go
    on with a tool call; if not, its answer has to come next.
    """

    def __init__(self, parser: Parser, tokenizer: Tokenizer, *, budget: int | None, stop_loops: bool,
                 may_call: bool) -> None:
        self._parser, self._tokenizer = parser, tokenizer
        self._budget, self._may_call = budget, may_call
        self._loops = LoopDetector() if stop_loops else None
        self._inside = False  # of reasoning
        self._looped = False  # in reasoning
        self.spent = 0
        """Tokens of reasoning."""
        self.cut_off = False
        """Whether what is not reasoning repeats itself."""
        self.over = False
        """Whether it reasons behind its answer, though it has done enough of that."""

    def feed(self, token: int) -> None:
        """The parser has read `token`."""
        place, was_inside = self._parser.place, self._inside
        self._inside = place == "reasoning" or place == "unfinished" and was_inside
        self.spent += was_inside and self._inside
        if self._loops is not None:
            if place == "between":
                self._loops = LoopDetector()  # every message begins anew
            self._loops.feed(token)
            if self._loops.found and self._inside:
                self._looped = True
            elif self._loops.found:
                self.cut_off = True
        self.over = self.over or place == "reasoning" and self._enough and self._answered

    @property
    def steering(self) -> Steering | None:
        """What has to follow now; None while the model may go on as it likes."""
        if not self._enough or self._answered:
            return None
        closing = closing_ids(self._parser, self._tokenizer)
        if not closing:
            return None  # in the middle of something: after the next token perhaps
        if not self._may_call:
            return Steering(tuple(closing))
        channel = closing.index(self._tokenizer.special("<|channel|>"))
        return Steering(tuple(closing[: channel + 1]),
                        allowed=tuple(self._tokenizer.encode(name)[0] for name in ("final", "commentary")))

    @property
    def _enough(self) -> bool:
        return self._looped or self._budget is not None and self.spent >= self._budget

    @property
    def _answered(self) -> bool:
        return any(message.kind in ("text", "call") for message in self._parser.messages)
