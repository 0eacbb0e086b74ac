"""Stop texts in a stream: found when they are complete, and never shown in part before."""

from __future__ import annotations

from collections.abc import Sequence

from gptoss_native.tokenizer import TextStream, Tokenizer


class StopTexts:
    """Text in, text out, up to the stop text that is complete first (of several that end together, the longest).

    What could be the beginning of one is held back. How the text is cut into pieces changes nothing.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """What can be shown now; nothing once a stop text was found."""
        if self.found:
            return ""
        if not self._stops:
            return text
        self._held += text
        complete = [(start + len(stop), start) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        if complete:
            self.found = True
            return self._release(min(complete)[1])
        start = max(0, len(self._held) - self._longest + 1)
        while not any(stop.startswith(self._held[start:]) for stop in self._stops):
            start += 1  # to the end at last: every text begins with the empty one
        return self._release(start)

    def finish(self) -> str:
        """What was held back. For a text that follows, begin anew."""
        return "" if self.found else self._release(len(self._held))

    def _release(self, end: int) -> str:
        shown, self._held = self._held[:end], self._held[end:]
        return shown


class TextReader:
    """Token ids to text, one by one, up to a stop text.

    Stop texts count from the token on with which min_tokens are complete; what came before is no part of one.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str], min_tokens: int) -> None:
        self._text = TextStream(tokenizer)
        self._stops = StopTexts(stops)
        self._unchecked = max(0, min_tokens - 1)

    def feed(self, token: int) -> str:
        """The text that can be shown now."""
        text = self._text.feed(token)
        if self._unchecked:
            self._unchecked -= 1
            return text
        return self._stops.feed(text)

    @property
    def stopped(self) -> bool:
        """Whether a stop text was found."""
        return self._stops.found

    steering = None
    """A text goes on as the model has it."""

    def finish(self) -> str:
        """What was held back: half a character as U+FFFD, or what might have become a stop text."""
        return self._stops.feed(self._text.finish()) + self._stops.finish()
