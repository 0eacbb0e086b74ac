"""Text from stdin: where "-" asks for it, and what a pipe brings beside a question."""

from __future__ import annotations

import os
import select
import stat
import sys
from typing import TextIO

PATIENCE = 5.0
"""Seconds for the first byte of a pipe that nobody asked to be read: an ssh or a script may hold it open for ever."""


def open_stdin() -> TextIO:
    """stdin; ValueError where it was closed when the program started."""
    if sys.stdin is None:
        raise ValueError("stdin is closed, there is nothing to read; give the text as an argument")
    return sys.stdin


def read_stdin() -> str:
    """All of it, however long it takes."""
    try:
        return open_stdin().buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"stdin is not UTF-8: byte {error.object[error.start]:#04x} at offset {error.start}") from None


def checked_text(text: str, what: str) -> str:
    """`text`, if it was UTF-8: Python keeps other bytes as surrogates. ValueError says which one there is."""
    for place, character in enumerate(text):
        if "\udc80" <= character <= "\udcff":
            raise ValueError(f"{what} is not UTF-8: byte {ord(character) - 0xdc00:#04x} behind {place} characters")
    return text


def text_argument(text: str) -> str:
    """The text itself, or all of stdin where it is "-"."""
    return read_stdin() if text == "-" else checked_text(text, "the text")


def piped_text() -> str:
    """What a file or a pipe on stdin holds; empty where stdin is anything else, or a pipe on which nothing comes."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # closed, or not a file at all
        return ""
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return ""
    if not select.select([sys.stdin], [], [], PATIENCE)[0]:
        print(f"gptoss-native: nothing came on stdin for {PATIENCE:g} seconds, so the question is asked without it; "
              '"-" behind the question waits for it, < /dev/null does not look', file=sys.stderr)
        return ""
    return read_stdin()
