"""Random token streams: pieces of headers, control tokens, text, and ordinary completions, mutated."""

from __future__ import annotations

import random

from gptoss_native.tokenizer import Tokenizer
from vocabularies import with_controls

WORDS = [
    "assistant", "user", "system", "tool", "analysis", "commentary", "final", " to=functions.f", "to=f", " to=assistant",
    " to=", " json", " code", "json", " ", "\n", "?", "functions.f", " python", "<|channel|>", "<|constrain|>", "to", "=",
    "\u2003", "\x85", "\x1c", " final", "é", "user:bob", "<", "hello world", " functions.g", "<|message|>",
]
CONTROLS = ["start", "end", "message", "message", "channel", "channel", "constrain", "return", "call", "endoftext"]
TEXTS = ["Hi", " The quick brown fox", "漢字", "😀😀", "{\"a\": 1}", "\n\n", "don't", "null", "京都", "\ufffd"]
HEADERS = [
    "<|channel|>analysis<|message|>",
    "<|channel|>final<|message|>",
    "<|channel|>commentary<|message|>",
    "<|channel|>commentary to=functions.f <|constrain|>json<|message|>",
    " to=functions.f<|channel|>commentary <|constrain|>json<|message|>",
    " to=python<|channel|>analysis code<|message|>",
    "<|channel|>commentary to=functions.f<|constrain|>json<|message|>",
    "<|message|>",
]
ENDS = ["<|end|>", "<|end|>", "<|return|>", "<|call|>", ""]


def soup(tokenizer: Tokenizer, choose: random.Random, length: int = 24) -> list[int]:
    """Control tokens, words and bytes without order."""
    ids: list[int] = []
    for _ in range(choose.randrange(length)):
        kind = choose.randrange(10)
        if kind < 5:
            ids.append(tokenizer.specials[f"<|{choose.choice(CONTROLS)}|>"])
        elif kind < 8:
            ids += tokenizer.encode(choose.choice(WORDS))
        elif kind == 8:
            ids += tokenizer.encode(choose.choice(TEXTS))
        else:
            ids.append(choose.randrange(min(tokenizer.vocab_size, 560)))
    return ids


def completion(tokenizer: Tokenizer, choose: random.Random) -> list[int]:
    """A well-formed completion of a few messages."""
    parts = []
    for _ in range(choose.randrange(1, 5)):
        text = "".join(choose.choice(TEXTS) for _ in range(choose.randrange(5)))
        parts.append(choose.choice(HEADERS) + text + choose.choice(ENDS))
    return with_controls(tokenizer, "<|start|>assistant".join(parts))


def mutated(ids: list[int], tokenizer: Tokenizer, choose: random.Random) -> list[int]:
    """`ids` with a few tokens dropped, doubled, swapped, inserted or replaced, or cut short."""
    ids = list(ids)
    for _ in range(choose.randrange(5)):
        at, edit = choose.randrange(len(ids) + 1), choose.randrange(7)
        if edit == 0:
            del ids[at : at + choose.randrange(1, 3)]
        elif edit == 1:
            ids[at:at] = ids[at : at + choose.randrange(1, 4)]
        elif edit == 2:
            ids[at : at + 2] = ids[at : at + 2][::-1]
        elif edit == 3:
            ids.insert(at, tokenizer.specials[f"<|{choose.choice(CONTROLS)}|>"])
        elif edit == 4:
            ids[at:at] = tokenizer.encode(choose.choice(WORDS + TEXTS))
        elif edit == 5:
            ids[at : at + 1] = [choose.randrange(-2, tokenizer.vocab_size + 2)]
        elif choose.random() < 0.3:
            del ids[at:]
    return ids


def stream(tokenizer: Tokenizer, choose: random.Random) -> list[int]:
    """One of these, by chance."""
    kind = choose.randrange(3)
    if kind == 0:
        return soup(tokenizer, choose)
    return mutated(completion(tokenizer, choose), tokenizer, choose)
