"""Ctrl-C while an answer comes: it stops the answer, once, and never in the middle of what is being drawn."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType, TracebackType
from typing import Any

REPEAT = 0.7
"""Seconds in which another Ctrl-C is taken for the same one: people press it several times."""


class Interrupts:
    """While it is entered, Ctrl-C raises KeyboardInterrupt outside of held() only."""

    def __init__(self) -> None:
        self._before: Any = None
        self._holding = self._pending = False
        self._raised = float("-inf")

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread() and (
                signal.getsignal(signal.SIGINT) is signal.default_int_handler):
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Ctrl-C waits for the end of the block; a second one does not."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self._pending:
            self._raise()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._holding and not self._pending:
            self._pending = True
        elif monotonic() - self._raised > REPEAT:
            self._raise()

    def _raise(self) -> None:
        self._pending, self._raised = False, monotonic()
        raise KeyboardInterrupt


@contextmanager
def unechoed() -> Iterator[None]:
    """What is typed while an answer is drawn is not shown in the middle of it; the next prompt gets it."""
    try:
        import termios

        before = termios.tcgetattr(sys.stdin.fileno())
    except Exception:  # no terminal, or no such thing here; termios.error is an Exception only
        yield
        return
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, silent)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, before)
