"""Tokens for people and for programs: the text of each, and where messages begin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from gptoss_native.tokenizer import Tokenizer

SHOWN = 48
"""Characters of a message that its line shows."""


def piece(index: int, tokenizer: Tokenizer) -> dict[str, Any]:
    """One token: its id, its text, or its bytes in hexadecimal where they are no whole characters."""
    data = tokenizer.token_bytes(index)
    special = _is_special(index, tokenizer)
    try:
        return {"id": index, "text": data.decode("utf-8"), "special": special}
    except UnicodeDecodeError:
        return {"id": index, "text": None, "bytes": data.hex(), "special": special}


def shown(index: int, tokenizer: Tokenizer) -> str:
    """One token on one line: control tokens as they are spelled, text in quotes, parts of characters as bytes."""
    data = tokenizer.token_bytes(index)
    if _is_special(index, tokenizer):
        return data.decode("utf-8", "replace")
    try:
        return repr(data.decode("utf-8"))
    except UnicodeDecodeError:
        return repr(data)[1:]


def outline(ids: Sequence[int], tokenizer: Tokenizer) -> Iterable[str]:
    """A line for each message of a rendered conversation: how many tokens it has, and how it begins."""
    start, message = tokenizer.special("<|start|>"), tokenizer.special("<|message|>")
    begins = [i for i, token in enumerate(ids) if token == start]
    for begin, end in zip(begins, [*begins[1:], len(ids)]):
        part = list(ids[begin + 1: end])
        middle = part.index(message) if message in part else len(part)
        header, text = (" ".join(_plain(each, tokenizer).split()) for each in (part[:middle], part[middle:]))
        yield f"{end - begin:7,} {header}: {text[:SHOWN]}{'...' if len(text) > SHOWN else ''}"


def _plain(ids: Iterable[int], tokenizer: Tokenizer) -> str:
    """With spaces for control tokens."""
    return " ".join(tokenizer.decode(run) for special, run in groupby(ids, lambda each: _is_special(each, tokenizer))
                    if not special)


def _is_special(index: int, tokenizer: Tokenizer) -> bool:
    return index in tokenizer.specials.values()
