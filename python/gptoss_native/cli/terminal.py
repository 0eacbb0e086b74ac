"""Text to people: on a terminal dimmed and with a progress line, in a pipe nothing but the text."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

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


def colours() -> bool:
    """Whether terminals may be told to dim."""
    return "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def visible(text: str) -> str:
    """Without what would steer a terminal."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def say(text: str) -> None:
    """A line of the program's own, beside what the model says: on stderr, dimmed where that is a terminal."""
    if sys.stderr.isatty():
        text = visible(text)
        text = f"\x1b[2m{text}\x1b[0m" if colours() else text
    print(text, file=sys.stderr)


def rich_console(plain: bool) -> Console | None:
    """Where rich may draw on stdout; None where it is not installed, not wanted, or stdout is no terminal for it."""
    if plain or not sys.stdout.isatty() or not colours():
        return None
    try:
        from rich.console import Console  # an extra, and slow to import
    except ImportError:
        return None
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


class Printer:
    """Writes a streamed answer to stdout, each piece at once."""

    def __init__(self) -> None:
        self.terminal = sys.stdout.isatty()
        self._colour = self.terminal and colours()
        self._dimmed = False
        self._line_open = False

    def write(self, text: str, *, dim: bool = False) -> None:
        if not text:
            return
        if self.terminal:
            text = visible(text)
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


class StatusLine:
    """What is being done, as one line on stderr that the next one replaces; silent where that is no terminal."""

    def __init__(self) -> None:
        self._out: TextIO | None = sys.stderr if sys.stderr.isatty() else None

    def __call__(self, text: str) -> None:
        if self._out is not None:
            room = _columns(self._out) - 1  # a line that wraps could not be wiped
            self._out.write(f"\r{visible(text)[:room]}\x1b[K")
            self._out.flush()

    def clear(self) -> None:
        if self._out is not None:
            self._out.write("\r\x1b[K")
            self._out.flush()


class ProgressLine:
    """A progress callable that draws one line on stderr and wipes it in the end; silent where that is no terminal."""

    def __init__(self) -> None:
        self._out: TextIO | None = sys.stderr if sys.stderr.isatty() else None
        self._drawn = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        if done >= total:
            self.clear()
        elif self._out is not None:
            count = f" {done}/{total}"
            room = _columns(self._out) - len(stage) - len(count) - 2  # a line that wraps could not be wiped
            width = max(0, min(_BAR, room))
            filled = width * done // total
            self._out.write(f"\r{stage} {'#' * filled}{'.' * (width - filled)}{count}\x1b[K")
            self._out.flush()
            self._drawn = True

    def clear(self) -> None:
        if self._drawn and self._out is not None:
            self._out.write("\r\x1b[K")
            self._out.flush()
        self._drawn = False


def _columns(terminal: TextIO) -> int:
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except (OSError, ValueError):  # not one of the system's
        return 80
