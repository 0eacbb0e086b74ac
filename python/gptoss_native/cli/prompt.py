"""Reading what the user types: with prompt_toolkit, else with readline, else as it comes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from gptoss_native.cli.history import History, history_file
from gptoss_native.cli.interrupts import REPEAT
from gptoss_native.cli.lines import Entry, read_entry
from gptoss_native.cli.stdin import checked_text
from gptoss_native.cli.terminal import colours

if TYPE_CHECKING:
    from gptoss_native.cli.commands import Command

PROMPT, GOES_ON = "> ", ". "

ReadEntry = Callable[[], Entry]
"""Raises EOFError at the end and KeyboardInterrupt at Ctrl-C."""


class Prompt:
    """The next entry that is not blank. On a terminal the first Ctrl-C forgets the line, which may have been meant for
    an answer that ended just then, and a second one is a KeyboardInterrupt."""

    def __init__(self, commands: dict[str, Command], *, plain: bool) -> None:
        self._stopped = float("-inf")
        self.terminal = sys.stdin.isatty()
        self._read = _reader(commands, plain) if self.terminal else lambda: read_entry(_piped_line)

    def answer_stopped(self) -> None:
        """By Ctrl-C just now, which people press several times: until REPEAT is over, more of them are the same one."""
        self._stopped = monotonic()

    def next(self) -> Entry | None:
        """None at the end of the input."""
        interrupted = False
        while True:
            try:
                entry = self._read()
            except EOFError:
                if self.terminal:
                    print(file=sys.stderr)
                return None
            except KeyboardInterrupt:
                if self.terminal and monotonic() - self._stopped < REPEAT:
                    continue
                if interrupted or not self.terminal:
                    raise
                interrupted = True
                print("\n(Ctrl-C again or Ctrl-D ends)", file=sys.stderr)
                continue
            if entry.text.strip():
                return entry
            interrupted = False


def _piped_line(goes_on: bool) -> str:
    return checked_text(input(""), "a line of stdin")


def _reader(commands: dict[str, Command], plain: bool) -> ReadEntry:
    history = History(history_file())
    if sys.stdout.isatty() and not plain and colours():
        try:
            from gptoss_native.cli.editor import editor  # which needs an extra
        except ImportError:
            pass
        else:
            return editor(history, commands)
    return _by_line(history)


def _by_line(history: History) -> ReadEntry:
    readline = _readline(history)

    def line(goes_on: bool) -> str:
        prompt = GOES_ON if goes_on else PROMPT
        if sys.stdout.isatty():
            return input(prompt)
        sys.stderr.write(prompt)  # input() would write it into the file that stdout is
        sys.stderr.flush()
        return input("")

    def read() -> Entry:
        entry = read_entry(line)
        history.append(entry.text)
        if readline is not None:
            for each in entry.text.split("\n"):
                readline.add_history(each)
        return entry

    return read


def _readline(history: History) -> Any:
    """The module, where there is one and it has a terminal to edit on."""
    if not sys.stdout.isatty():
        return None
    try:
        import readline  # gives input() editing
    except ImportError:
        return None
    readline.set_auto_history(False)
    for entry in history.entries:
        for each in entry.split("\n"):
            readline.add_history(each)
    return readline
