"""What was typed at the prompt, kept for the next time: a JSON text on each line, for whatever reads the lines."""

from __future__ import annotations

import json
import os
from pathlib import Path

KEPT = 1000


def history_file() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(state) / "gptoss-native" / "history"


class History:
    """Entries, oldest first. A history that cannot be read or written is none, and no error."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries: list[str] = []
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        except (OSError, ValueError):
            return
        self.entries = [text for line in lines if (text := _text(line))][-KEPT:]
        if len(lines) > 2 * KEPT:
            self._write("".join(map(_line, self.entries)), "w")

    def append(self, entry: str) -> None:
        """Nothing where it is what was typed last."""
        if not entry.strip() or self.entries[-1:] == [entry]:
            return
        self.entries.append(entry)
        self._write(_line(entry), "a")

    def _write(self, text: str, mode: str) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(self._path, mode, encoding="utf-8", opener=_private) as file:
                file.write(text)
        except OSError:
            pass


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _line(entry: str) -> str:
    return json.dumps(entry) + "\n"


def _text(line: str) -> str | None:
    try:
        text = json.loads(line)
    except ValueError:
        return None
    return text if isinstance(text, str) else None
