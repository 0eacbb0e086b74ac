"""Text to people: on a terminal dimmed and with a progress line, in a pipe nothing but the text."""

from __future__ import annotations

import os
import re
import sys
from typing import TextIO

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BAR = 24


def make_streams_safe() -> None:
    """Characters that the terminal's encoding lacks are replaced, never an error; closed outputs swallow all."""
    if sys.stdout is None:  # which is how Python says that the descriptor was closed when it started
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)


def open_stdin() -> TextIO:
    """stdin; ValueError where it was closed when the program started."""
    if sys.stdin is None:
        raise ValueError("stdin is closed, there is nothing to read; give the text as an argument")
    return sys.stdin


class Printer:
    """Writes a streamed answer to stdout, each piece at once."""

    def __init__(self) -> None:
        self.terminal = sys.stdout.isatty()
        self._colour = self.terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._dimmed = False
        self._line_open = False

    def write(self, text: str, *, dim: bool = False) -> None:
        if not text:
            return
        if self.terminal:
            text = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)  # what a model says must not steer the terminal
        if dim != self._dimmed and self._colour:
            sys.stdout.write("\x1b[2m" if dim else "\x1b[0m")
        self._dimmed = dim
        sys.stdout.write(text)
        sys.stdout.flush()
        self._line_open = not text.endswith("\n")

    def paragraph(self) -> None:
        """Begin a new one: undim, finish the line, leave a blank one."""
        self.end()
        sys.stdout.write("\n")

    def end(self) -> None:
        """Undim and finish the line, also after an interrupt."""
        if self._dimmed and self._colour:
            sys.stdout.write("\x1b[0m")
        if self._line_open:
            sys.stdout.write("\n")
        self._dimmed = self._line_open = False
        sys.stdout.flush()


class ProgressLine:
    """A progress callable that draws one line on stderr and wipes it in the end; silent where that is no terminal."""

    def __init__(self) -> None:
        self._out: TextIO | None = sys.stderr if sys.stderr.isatty() else None
        self._drawn = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        if done >= total:
            self.clear()
        elif self._out is not None:
            filled = _BAR * done // total
            self._out.write(f"\r{stage} {'#' * filled}{'.' * (_BAR - filled)} {done}/{total}\x1b[K")
            self._out.flush()
            self._drawn = True

    def clear(self) -> None:
        if self._drawn and self._out is not None:
            self._out.write("\r\x1b[K")
            self._out.flush()
        self._drawn = False
