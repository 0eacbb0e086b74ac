"""One answer: streamed to people, or as a line of JSON to programs, with its figures behind it."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from time import monotonic

from gptoss_native.cli.figures import as_json, of_reply
from gptoss_native.cli.interrupts import Interrupts
from gptoss_native.cli.session import Session
from gptoss_native.cli.terminal import ProgressLine, say
from gptoss_native.cli.view import TurnView
from gptoss_native.events import Event


class Answerer:
    """How answers are shown. quiet: without what is not the answer."""

    def __init__(self, progress: ProgressLine, *, model: str, json: bool, quiet: bool, plain: bool) -> None:
        self.interrupts = Interrupts()
        self._progress, self._model = progress, model
        self._json, self._quiet, self._plain = json, quiet, plain

    @property
    def figures(self) -> bool:
        """Whether there are figures where nobody said."""
        return sys.stderr.isatty() and not self._quiet and not self._json

    def say(self, text: str) -> None:
        """What is not the answer, to who wants to see it."""
        if not self._quiet:
            say(text)

    def answer(self, session: Session, question: str, *, figures: bool | None = None) -> None:
        """To be called in a block of `interrupts`. The turn is kept in the session once it is complete;
        KeyboardInterrupt leaves what there was on the screen."""
        view = None if self._json else TurnView(quiet=self._quiet, plain=self._plain)
        began, first = monotonic(), 0.0
        with session.ask(question) as stream:
            held = self.interrupts.held if view is not None and view.terminal else nullcontext
            try:
                for event in stream:
                    first = first or monotonic() - began
                    with held():
                        self._show(event, view)
            finally:
                with held():
                    self._progress.clear()
                    if view is not None:
                        view.end()
            reply = stream.reply
            session.keep()
        found = of_reply(reply, first, session.settings.params.max_tokens)
        if self._json:
            print(as_json(reply, found, self._model, reasoning=not self._quiet), flush=True)
        if self.figures if figures is None else figures:
            say(found.line())
        elif found.why is not None and not self._json and (sys.stderr.isatty() or not reply.text):
            say(f"({found.why})")

    def _show(self, event: Event, view: TurnView | None) -> None:
        self._progress.clear()
        if view is not None:
            view.show(event)
