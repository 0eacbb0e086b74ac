"""Tokenizers for the tests: a small one that is always there, and gpt-oss's own where its ranks are at hand."""

from __future__ import annotations

import json
import os
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gptoss_native.tokenizer import Tokenizer
from make_tokenizer import (
    RELEASED_ORDINARY,
    RELEASED_VOCAB_SIZE,
    learn_ranks,
    read_ranks,
    special_tokens,
    tokenizer_json,
)

SMALL_VOCAB_SIZE = 600
SMALL_FIRST_SPECIAL = 570


@cache
def _small_json() -> bytes:
    return tokenizer_json(learn_ranks(520), special_tokens(SMALL_FIRST_SPECIAL))


def small_document() -> dict[str, Any]:
    """tokenizer.json of 600 ids, as an object: learned tokens, specials from 570 on, nine ids without a name."""
    document: dict[str, Any] = json.loads(_small_json())
    return document


@cache
def small_tokenizer() -> Tokenizer:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokenizer.json")
        path.write_text(json.dumps(small_document()))
        return Tokenizer.from_file(path, SMALL_VOCAB_SIZE)


def ranks_file() -> Path:
    """o200k_base.tiktoken; the test that asks is skipped where it is absent."""
    shared = Path(os.environ.get("GPTOSS_SHARED", Path(__file__).parents[2] / "shared"))
    path = shared / "data" / "o200k_base.tiktoken"
    if not path.exists():
        pytest.skip(f"the ranks of gpt-oss's vocabulary are not at {path} (set GPTOSS_SHARED)")
    return path


@cache
def released_json() -> bytes:
    """The tokenizer.json of the released checkpoints, byte for byte."""
    return tokenizer_json(read_ranks(ranks_file()), special_tokens(RELEASED_ORDINARY))


@cache
def released_tokenizer() -> Tokenizer:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokenizer.json")
        path.write_bytes(released_json())
        return Tokenizer.from_file(path, RELEASED_VOCAB_SIZE)


def with_controls(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of `text` with special spellings as special tokens; <|unknown|> is an id outside the model."""
    ids: list[int] = []
    for part in re.split(r"(<\|\w+\|>)", text):
        if part == "<|unknown|>":
            ids.append(tokenizer.vocab_size)
        elif part in tokenizer.specials:
            ids.append(tokenizer.specials[part])
        else:
            ids += tokenizer.encode(part)
    return ids
