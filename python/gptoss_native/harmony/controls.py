"""The special tokens that give a Harmony conversation its shape, looked up by spelling."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal
from weakref import WeakKeyDictionary

from gptoss_native.tokenizer import Tokenizer

Control = Literal["start", "end", "message", "channel", "constrain", "return", "call", "endoftext", "ignored"]

REQUIRED: tuple[Control, ...] = ("start", "end", "message", "channel", "return")
OPTIONAL: tuple[Control, ...] = ("constrain", "call", "endoftext")
STOPS = ("return", "call", "endoftext")
UNUSED = ("startoftext", "endofprompt")

CONSTRAIN = "<|constrain|>"


def spell(name: str) -> str:
    """The spelling of a special token: "end" -> "<|end|>"."""
    return f"<|{name}|>"


_KNOWN: WeakKeyDictionary[Tokenizer, Mapping[int, Control]] = WeakKeyDictionary()


def control_ids(tokenizer: Tokenizer) -> Mapping[int, Control]:
    """Id -> meaning of every control token that the vocabulary has.

    `ignored` are those that mean nothing inside a completion; unused ids (`<|reserved_N|>`) are not control
    tokens. Raises TokenizerError, naming it, if one is missing without which there is no conversation.
    """
    known = _KNOWN.get(tokenizer)
    if known is not None:
        return known
    controls: dict[int, Control] = {tokenizer.special(spell(name)): name for name in REQUIRED}
    for name in OPTIONAL:
        if spell(name) in tokenizer.specials:
            controls[tokenizer.specials[spell(name)]] = name
    for unused in UNUSED:
        if spell(unused) in tokenizer.specials:
            controls[tokenizer.specials[spell(unused)]] = "ignored"
    _KNOWN[tokenizer] = controls
    return controls


def stop_ids(tokenizer: Tokenizer, *, stop_at_call: bool = True) -> frozenset[int]:
    """Ids on which generation stops: `<|return|>`, and `<|call|>` and `<|endoftext|>` where there are such.

    `<|end|>` is not one of them: it only ends a message, and the answer usually comes after it.
    stop_at_call: False lets the model go on after a call, perhaps with others, which it was not trained to do.
    Raises TokenizerError if there is no `<|return|>`.
    """
    stops = STOPS if stop_at_call else tuple(name for name in STOPS if name != "call")
    return frozenset(index for index, name in control_ids(tokenizer).items() if name in stops)


_RESERVED = re.compile(r"<\|reserved_\d+\|>")


def control_spelling_in(text: str, tokenizer: Tokenizer) -> str | None:
    """A special token's spelling that `text` contains, or None."""
    if "<|" not in text:
        return None
    match = _RESERVED.search(text)
    if match is not None:
        return match.group()
    return next((spelling for spelling in tokenizer.specials if spelling in text), None)
