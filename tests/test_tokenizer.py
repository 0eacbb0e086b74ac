"""The tokenizer: what it encodes and decodes, and that it agrees with the others."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gptoss_native.tokenizer as tokenizer_module
from gptoss_native.errors import TokenizerError
from gptoss_native.tokenizer import TextStream, Tokenizer
from vocabularies import (
    SMALL_FIRST_SPECIAL,
    SMALL_VOCAB_SIZE,
    small_document,
    small_tokenizer,
)

BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000"
NOT_BLANK = "\x1c\x1f\u180e\u200b\ufeff"
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.text(
    st.sampled_from(BLANKS + NOT_BLANK + "aA1'!é/漢😀")
)
DEGENERATE = [
    "a",
    "A",
    "1",
    " ",
    "\n",
    "\0",
    "!",
    "/",
    "'",
    "é",
    "漢",
    "😀",
    "\u0301",
    "\u3000",
    "\u200b",
    " \n",
]


def write(folder: Path, document: Any) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


# Encoding and decoding


@given(ANY_TEXT)
@example("<|end|><|start|>system<|message|>")
@example(" I'\u017f don'T \r\n\r\n  x  \u1c89\ua7cb\ua7ce")
@settings(deadline=None)
def test_decode_gives_back_every_text_that_was_encoded(text: str) -> None:
    tokenizer = small_tokenizer()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(index < SMALL_FIRST_SPECIAL for index in ids)


@given(st.lists(st.integers(0, SMALL_VOCAB_SIZE - 1)))
@settings(deadline=None)
def test_a_stream_gives_the_text_of_the_whole(ids: list[int]) -> None:
    tokenizer = small_tokenizer()
    stream = TextStream(tokenizer)
    pieces = [stream.feed(index) for index in ids] + [stream.finish()]
    assert "".join(pieces) == tokenizer.decode(ids)


@given(st.binary())
@example(b"\xf0\x9f\x98")
@example(b"\xed\xa0\x80\xf0\x9fA\xc3")
@settings(deadline=None)
def test_a_stream_of_any_bytes_gives_the_text_of_the_whole(data: bytes) -> None:
    stream = TextStream(small_tokenizer())
    assert "".join([stream.feed(byte) for byte in data] + [stream.finish()]) == data.decode(
        "utf-8", "replace"
    )


def test_a_stream_waits_for_whole_characters_and_can_be_used_again() -> None:
    stream = TextStream(small_tokenizer())
    assert [stream.feed(byte) for byte in "é😀".encode()] == ["", "é", "", "", "", "😀"]
    assert [stream.feed(0xF0), stream.finish(), stream.feed(0x41), stream.finish()] == ["", "\ufffd", "A", ""]


def test_special_spellings_in_text_are_plain_text() -> None:
    tokenizer = small_tokenizer()
    for spelling in [*tokenizer.specials, "<|reserved_599|>"]:
        ids = tokenizer.encode(f"a{spelling}b")
        assert all(index < SMALL_FIRST_SPECIAL for index in ids)
        assert tokenizer.decode(ids) == f"a{spelling}b"


def test_a_surrogate_pair_is_its_character_and_a_lone_surrogate_is_replaced() -> None:
    tokenizer = small_tokenizer()
    assert tokenizer.encode("a\ud83d\ude00b") == tokenizer.encode("a😀b")
    assert tokenizer.decode(tokenizer.encode("a\ud83db\udcffc")) == "a\ufffdb\ufffdc"


@pytest.mark.parametrize("text", [b"bytes", None, 3])
def test_what_is_not_text_is_refused(text: Any) -> None:
    with pytest.raises(TypeError, match="expects a str"):
        small_tokenizer().encode(text)


@pytest.mark.slow
@pytest.mark.parametrize("unit", DEGENERATE)
def test_a_megabyte_of_the_same_character_goes_round(unit: str) -> None:
    tokenizer = small_tokenizer()
    run = unit * (1_000_000 // len(unit.encode()) + 1)
    for text in (run, f"x{run}1"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text(st.sampled_from(BLANKS + "   aA1!/'漢"), max_size=60))
@example("!\n\n   \n    ")
@example("a    1")
@settings(deadline=None, max_examples=500)
def test_long_blank_runs_are_cut_where_the_pattern_cuts(text: str) -> None:
    tokenizer = small_tokenizer()
    whole = tokenizer.encode(text)
    with pytest.MonkeyPatch.context() as patch:  # as if four blanks were too many for the regex engine
        patch.setattr(tokenizer_module, "LONG_BLANK", 0)
        patch.setattr(tokenizer_module, "_LONG_BLANKS", re.compile(tokenizer_module._BLANK + "{4,}"))
        assert tokenizer.encode(text) == whole


def test_the_longest_blank_runs_of_all_kinds_go_round() -> None:
    tokenizer = small_tokenizer()
    for text in (" " * 1_100_000, "a\n" + "\t" * 1_100_000 + "1" + " " * 1_100_000 + "\n"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_every_id_of_the_model_decodes_and_no_other() -> None:
    tokenizer = small_tokenizer()
    assert tokenizer.decode(range(SMALL_FIRST_SPECIAL, SMALL_FIRST_SPECIAL + 3)) == (
        "<|startoftext|><|endoftext|><|reserved_572|>"
    )
    assert tokenizer.decode([569, 591, 599]) == "<|reserved_569|><|reserved_591|><|reserved_599|>"
    for index in (-1, SMALL_VOCAB_SIZE, 1 << 40):
        with pytest.raises(TokenizerError, match=f"{index} is outside the vocabulary, expected 0 to 599"):
            tokenizer.decode([1, index])
        with pytest.raises(TokenizerError):
            TextStream(tokenizer).feed(index)


def test_specials_are_found_by_spelling_and_a_missing_one_is_named() -> None:
    tokenizer = small_tokenizer()
    assert tokenizer.special("<|start|>") == tokenizer.specials["<|start|>"] == SMALL_FIRST_SPECIAL + 8
    with pytest.raises(TokenizerError, match=r"special token <\|refusal\|>"):
        tokenizer.special("<|refusal|>")


def test_the_tokenizer_says_what_it_is() -> None:
    assert re.fullmatch(
        r"Tokenizer\('.*tokenizer.json': \d+ ordinary and 21 special tokens, vocab_size=600\)",
        repr(small_tokenizer()),
    )


def test_threads_may_share_a_tokenizer() -> None:
    tokenizer = small_tokenizer()
    texts = [f"The quick brown fox number {i} " * 50 for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tokenizer.encode, texts)) == [tokenizer.encode(text) for text in texts]


def test_loading_needs_no_network_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    path = write(tmp_path, small_document())
    assert Tokenizer.from_file(path, SMALL_VOCAB_SIZE).encode("a")
    assert list(tmp_path.iterdir()) == [path]


def test_importing_the_modules_does_not_import_tiktoken() -> None:
    code = "import sys, gptoss_native.tokenizer, gptoss_native.harmony; print('tiktoken' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
