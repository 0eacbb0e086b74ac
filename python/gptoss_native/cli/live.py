"""The end of what is on the terminal, as long as it may still change."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence

_STYLE = re.compile("\x1b\\[[0-9;]*m")


class LiveLines:
    """Lines with the cursor at the end of the last one. What is drawn anew replaces them; kept ones stay for good.

    size: columns and rows of the terminal now. width: columns that a text takes.
    """

    def __init__(self, size: Callable[[], tuple[int, int]], width: Callable[[str], int]) -> None:
        self._size, self._width = size, width
        self._shown: list[str] = []

    def draw(self, lines: Sequence[str]) -> None:
        """The last of them that fit on the screen: what has scrolled away could not be replaced."""
        columns, rows = self._size()
        room, kept = max(1, rows - 1), len(lines)
        while kept > 0 and (room := room - self._rows(lines[kept - 1], columns)) >= 0:
            kept -= 1
        self._replace(lines[min(kept, len(lines) - 1):])

    def keep(self, lines: Sequence[str]) -> None:
        """All of them, and the cursor on the line below."""
        self._replace(lines)
        sys.stdout.write("\n")
        sys.stdout.flush()
        self._shown = []

    def _replace(self, lines: Sequence[str]) -> None:
        columns, _ = self._size()
        same = 0  # lines that stand there already; never the last one, where the cursor is
        while same < min(len(self._shown), len(lines)) - 1 and self._shown[same] == lines[same]:
            same += 1
        up = sum(self._rows(line, columns) for line in self._shown[same:]) - 1
        back = f"\r\x1b[{up}A" if up > 0 else "\r"
        sys.stdout.write(f"{back}\x1b[J" + "\n".join(lines[same:]))
        sys.stdout.flush()
        self._shown = list(lines)

    def _rows(self, line: str, columns: int) -> int:
        return max(1, -(-self._width(without_style(line)) // max(1, columns)))


def without_style(line: str) -> str:
    return _STYLE.sub("", line)
