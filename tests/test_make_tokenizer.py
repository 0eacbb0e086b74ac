"""The tokenizer files that the fixtures write are those of the release, or a small tokenizer of the same form."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from make_checkpoint import hf_config
from make_tokenizer import (
    RELEASED_SHA256,
    RELEASED_VOCAB_SIZE,
    first_special,
    learn_ranks,
    special_tokens,
    write_tokenizer,
)
from vocabularies import ranks_file


def test_released_file_byte_for_byte(tmp_path: Path) -> None:
    assert write_tokenizer(tmp_path, RELEASED_VOCAB_SIZE, ranks_file())
    data = (tmp_path / "tokenizer.json").read_bytes()
    assert hashlib.sha256(data).hexdigest() == RELEASED_SHA256


def test_released_special_ids() -> None:
    specials = special_tokens(199998)
    assert len(specials) == 21
    assert {specials[i] for i in (199998, 199999, 200002, 200003, 200005, 200006, 200007, 200008, 200012, 200018)} == {
        "<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>",
        "<|message|>", "<|call|>", "<|endofprompt|>"}
    assert specials[200001] == "<|reserved_200001|>"


@pytest.mark.parametrize("vocab_size", [280, 512, 2048])
def test_small_vocabulary(tmp_path: Path, vocab_size: int) -> None:
    assert write_tokenizer(tmp_path, vocab_size)
    data = json.loads((tmp_path / "tokenizer.json").read_text())
    first = first_special(vocab_size)
    assert first is not None
    ids = list(data["model"]["vocab"].values())
    assert ids == list(range(len(ids))) and 256 <= len(ids) <= first
    assert [token["id"] for token in data["added_tokens"]] == list(range(first, first + 21))
    config = hf_config(vocab_size=vocab_size)
    named = {token["id"]: token["content"] for token in data["added_tokens"]}
    assert named[config["eos_token_id"]] == "<|return|>"
    assert named[config["pad_token_id"]] == "<|endoftext|>"


def test_vocabulary_without_room_for_256_bytes(tmp_path: Path) -> None:
    assert not write_tokenizer(tmp_path, 279)
    assert not list(tmp_path.iterdir())


def test_every_learned_token_is_made_of_two_others() -> None:
    ranks = learn_ranks(400)
    for token in list(ranks)[256:]:
        splits = ((token[:i], token[i:]) for i in range(1, len(token)))
        assert any(ranks.get(a, 999) < ranks[token] > ranks.get(b, 999) for a, b in splits)


def test_tokenizers_reads_the_small_file(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")
    write_tokenizer(tmp_path, 512)
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = "What is the capital of France? é\n\t 12345 <|start|>user<|message|>hello<|end|>"
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert tokenizer.token_to_id("<|start|>") in ids
    assert len(ids) < len(text)
