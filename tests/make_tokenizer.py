"""Write tokenizer files as gpt-oss checkpoints carry them: the released ones, or a small real tokenizer.

From `o200k_base.tiktoken` the result is the released tokenizer.json, byte for byte. Without it, a byte-level
BPE is learned from a few sentences, with Harmony's special tokens at the end of a small vocabulary.

    python tests/make_tokenizer.py o200k_base.tiktoken tokenizer.json
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RELEASED_SHA256 = "0614fe83cadab421296e664e1f48f4261fa8fef6e03e63bb75c20f38e37d07d3"
RELEASED_VOCAB_SIZE = 201088
RELEASED_ORDINARY = 199998
PATTERN = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    r"\s+",
])
SPECIALS = {0: "startoftext", 1: "endoftext", 4: "return", 5: "constrain", 7: "channel", 8: "start", 9: "end",
            10: "message", 14: "call", 20: "endofprompt"}
"""Distance from the first special id -> name; what lies between is <|reserved_ID|>."""
SPECIAL_COUNT = 21
UNNAMED = 3
"""Ids at the end of a small vocabulary that tokenizer.json does not name (the released one leaves 1,069)."""
TEXT = """The quick brown fox jumps over the lazy dog. What is the capital of France? The capital of France is Paris.
You are ChatGPT, a large language model trained by OpenAI. Knowledge cutoff: 2024-06. Reasoning: medium. Valid
channels: analysis, commentary, final. Channel must be included for every message. The user says hello and the
assistant answers with the other words that there are in this text: and, in, to, of, on, for, that, with, is, it."""


def first_special(vocab_size: int) -> int | None:
    """Id of <|startoftext|>: the released one, or near the end of a small vocabulary; None where none fits."""
    if vocab_size == RELEASED_VOCAB_SIZE:
        return RELEASED_ORDINARY
    first = vocab_size - SPECIAL_COUNT - UNNAMED
    return first if first >= 256 else None


def special_tokens(first: int) -> dict[int, str]:
    return {first + i: f"<|{SPECIALS.get(i, f'reserved_{first + i}')}|>" for i in range(SPECIAL_COUNT)}


def read_ranks(path: Path) -> dict[bytes, int]:
    """A .tiktoken file: base64 of a token, a space, its rank, one per line."""
    pairs = (line.split() for line in path.read_bytes().splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def learn_ranks(size: int, text: str = TEXT) -> dict[bytes, int]:
    """At most `size` tokens: the 256 bytes, then the most frequent pair of neighbours again and again."""
    ranks = {bytes([b]): b for b in range(256)}
    words = Counter(tuple(bytes([b]) for b in word.encode()) for word in re.findall(r"\s?\w+|\W", text))
    while len(ranks) < size:
        pairs: Counter[bytes] = Counter()
        for word, count in words.items():
            for left, right in zip(word, word[1:], strict=False):
                pairs[left + right] += count
        fresh = {token: count for token, count in pairs.items() if token not in ranks}
        if not fresh:
            break
        token = max(fresh, key=lambda token: (fresh[token], token))
        ranks[token] = len(ranks)
        words = Counter({_merge(word, token): count for word, count in words.items()})
    return ranks


def _merge(word: tuple[bytes, ...], token: bytes) -> tuple[bytes, ...]:
    parts = list(word)
    i = 0
    while i + 1 < len(parts):
        if parts[i] + parts[i + 1] == token:
            parts[i:i + 2] = [token]
        i += 1
    return tuple(parts)


def byte_to_unicode() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


def tokenizer_json(ranks: Mapping[bytes, int], specials: Mapping[int, str]) -> bytes:
    """The file in the released form: merges in order of rank, each way to split a token by two known ones."""
    shown = byte_to_unicode()
    text = {token: "".join(shown[b] for b in token) for token in ranks}
    tokens = sorted(ranks, key=lambda token: ranks[token])
    merges = []
    for token in tokens:
        splits = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks]
        merges += [[text[a], text[b]] for a, b in sorted(splits, key=lambda s: (ranks[s[0]], ranks[s[1]]))]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    data = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": content, **flags} for i, content in specials.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False},
            {**byte_level, "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
        "post_processor": byte_level,
        "decoder": {**byte_level, "trim_offsets": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
                  "vocab": {text[token]: ranks[token] for token in tokens}, "merges": merges}}
    return json.dumps(data, ensure_ascii=False, indent=2).encode()


def write_tokenizer(folder: Path, vocab_size: int, ranks_file: Path | None = None) -> bool:
    """tokenizer.json, tokenizer_config.json and special_tokens_map.json. False where the vocabulary has no room.

    `ranks_file`: o200k_base.tiktoken, for a vocabulary of 201,088 ids; None learns a small one.
    """
    first = first_special(vocab_size)
    if first is None:
        return False
    if ranks_file is not None and vocab_size != RELEASED_VOCAB_SIZE:
        raise ValueError(f"{ranks_file} needs vocab_size {RELEASED_VOCAB_SIZE}, not {vocab_size}")
    ranks = read_ranks(ranks_file) if ranks_file is not None else learn_ranks(first)
    specials = special_tokens(first)
    names = {"bos_token": specials[first], "eos_token": specials[first + 4], "pad_token": specials[first + 1]}
    config: dict[str, Any] = {
        "added_tokens_decoder": {str(i): {"content": content, "lstrip": False, "normalized": False, "rstrip": False,
                                          "single_word": False, "special": True} for i, content in specials.items()},
        "clean_up_tokenization_spaces": False, "extra_special_tokens": {},
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 1000000000000000019884624838656, "tokenizer_class": "PreTrainedTokenizerFast", **names}
    (folder / "tokenizer.json").write_bytes(tokenizer_json(ranks, specials))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    (folder / "special_tokens_map.json").write_text(json.dumps(names, indent=2))
    return True


def main(ranks_file: str, out: str) -> None:
    data = tokenizer_json(read_ranks(Path(ranks_file)), special_tokens(RELEASED_ORDINARY))
    Path(out).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    verdict = "identical to the released file" if digest == RELEASED_SHA256 else f"sha256 {digest}"
    print(f"{out}: {len(data):,} bytes, {verdict}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
