"""A message of several lines, at a prompt that reads one: a backslash at the end goes on, three quotes make a block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

QUOTES = '"""'


@dataclass(frozen=True)
class Entry:
    """What was typed. literal: it is a message, also where it begins with a slash."""

    text: str
    literal: bool = False


def goes_on(line: str) -> bool:
    """Whether it ends in a backslash that is not one of a pair."""
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def is_open(text: str) -> bool:
    """Whether it begins a block of three quotes that has no end yet."""
    text = text.strip()
    return text.startswith(QUOTES) and not (len(text) >= 2 * len(QUOTES) and text.endswith(QUOTES))


def entry(text: str) -> Entry:
    """A whole text, of a block or not."""
    text = text.strip()
    if text.startswith(QUOTES) and not is_open(text):
        return Entry(text[len(QUOTES): -len(QUOTES)].strip("\n"), literal=True)
    return Entry(text)


def read_entry(read_line: Callable[[bool], str]) -> Entry:
    """read_line: the next line; its argument says whether it goes on with what came before. EOFError where the input
    ends before anything came; what came is the entry otherwise."""
    text = read_line(False)
    try:
        while is_open(text):
            text += "\n" + read_line(True)
        while not text.lstrip().startswith(QUOTES) and goes_on(text):
            text = text[:-1] + "\n"
            text += read_line(True)
    except EOFError:
        text = text + QUOTES if is_open(text) else text
    return entry(text)
