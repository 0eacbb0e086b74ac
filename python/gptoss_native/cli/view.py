"""The events of a turn on stdout: on a terminal reasoning and tools dimmed, elsewhere what is meant for the user."""

from __future__ import annotations

import sys

from gptoss_native.cli.terminal import Printer, rich_console, visible
from gptoss_native.events import (
    Event,
    MessageDone,
    PreambleDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallDone,
    ToolResult,
)

RESULT_SHOWN = 600
"""Characters of a tool's result that are shown; the model reads all of it."""


class TurnView:
    """Paragraphs of different kinds have an empty line between them."""

    def __init__(self, *, quiet: bool, plain: bool) -> None:
        self._printer = Printer()
        self.terminal = self._printer.terminal
        self._tells_all = self.terminal and not quiet  # a file or a program gets the answer alone
        self._kind: str | None = None  # of the paragraph that is open
        self._begun = False
        console = rich_console(plain)
        if console is None:
            self._markdown = None
        else:
            from gptoss_native.cli.markdown import MarkdownStream

            self._markdown = MarkdownStream(console)

    def show(self, event: Event) -> None:
        if isinstance(event, ReasoningDelta):
            if self._tells_all:
                self._paragraph("reasoning")
                self._printer.write(event.text, dim=True)
        elif isinstance(event, (PreambleDelta, TextDelta)):
            self._paragraph(type(event).__name__)
            if self._markdown is None:
                self._printer.write(event.text)
            else:
                self._markdown.feed(visible(event.text))
        elif isinstance(event, ToolCallDone):
            self._aside(f"-> {event.call.name} {event.call.arguments.strip()}")
        elif isinstance(event, ToolResult):
            self._aside(f"<- {_shortened(event.content)}")
        elif isinstance(event, MessageDone) and self._kind != "tools":
            self._finish()

    def end(self) -> None:
        """Finish what is open, also after an interrupt."""
        self._finish()

    def _aside(self, text: str) -> None:
        if not self._tells_all:
            self._finish()
            return
        self._paragraph("tools")
        self._printer.write(f"{text}\n", dim=True)

    def _paragraph(self, kind: str) -> None:
        if kind == self._kind:
            return
        self._finish()
        if self._begun:
            sys.stdout.write("\n")
        self._kind, self._begun = kind, True

    def _finish(self) -> None:
        if self._markdown is not None:
            self._markdown.end()
        self._printer.end()
        self._kind = None


def _shortened(text: str) -> str:
    text = text.rstrip()
    rest = len(text) - RESULT_SHOWN
    return text if rest <= 0 else f"{text[:RESULT_SHOWN]}... ({rest:,} more characters)"
