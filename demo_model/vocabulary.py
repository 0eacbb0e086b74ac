"""The vocabulary: a byte-level BPE learned from the training text, in the form of the released tokenizer.json.

Digits never merge, so each is a token of its own. All 256 bytes are tokens, so every text can be encoded.

    python -m demo_model.vocabulary OUT_DIR
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import regex  # type: ignore[import-untyped]

from demo_model.conversation import Piece
from demo_model.samples import Samples
from gptoss_native.tokenizer import O200K_PATTERN, Tokenizer

SIZE = 768
SPECIAL_COUNT = 21
ORDINARY = SIZE - SPECIAL_COUNT
SPECIALS = {0: "startoftext", 1: "endoftext", 4: "return", 5: "constrain", 7: "channel", 8: "start", 9: "end",
            10: "message", 14: "call", 20: "endofprompt"}
"""Distance from the first special id -> name, as in the released vocabulary; what lies between is reserved."""
CONVERSATIONS = 12_000
"""So many are read to learn it; rarer words are left to the bytes and to shorter tokens."""
CAP = 400
"""A word counts at most so often: the texts that never change would otherwise leave no room for the questions."""


def special_tokens() -> dict[int, str]:
    return {ORDINARY + i: f"<|{SPECIALS.get(i, f'reserved_{ORDINARY + i}')}|>" for i in range(SPECIAL_COUNT)}


def learn(seed: int) -> list[bytes]:
    """The ordinary tokens, in order of rank: the bytes, then again and again the most frequent pair."""
    words = Counter({tuple(bytes([byte]) for byte in word.encode()): count for word, count in _words(seed).items()})
    tokens = [bytes([byte]) for byte in range(256)]
    while len(tokens) < ORDINARY:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        tokens.append(best[0] + best[1])
        words = Counter({_merged(word, best): count for word, count in words.items()})
    return tokens


def _words(seed: int) -> Counter[str]:
    """How often each piece of the split pattern occurs; pieces with digits are left out, as digits never merge."""
    samples, split = Samples(seed), regex.compile(O200K_PATTERN)
    words: Counter[str] = Counter()
    for i in range(CONVERSATIONS):
        preamble = samples.preamble(("low", "medium", "high")[i % 3])
        for piece in [*preamble.pieces(), *samples.body(preamble)]:
            if not piece.control:
                words.update(word for word in split.findall(piece.text) if not any(map(str.isdigit, word)))
    return Counter({word: min(count, CAP) for word, count in words.items()})


def _merged(word: tuple[bytes, ...], pair: tuple[bytes, bytes]) -> tuple[bytes, ...]:
    parts = list(word)
    i = 0
    while i + 1 < len(parts):
        if (parts[i], parts[i + 1]) == pair:
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        i += 1
    return tuple(parts)


def tokenizer_json(tokens: Sequence[bytes]) -> bytes:
    """The file in the released form."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    shown = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    text = {token: "".join(shown[byte] for byte in token) for token in tokens}
    rank = {token: i for i, token in enumerate(tokens)}
    merges = []
    for token in tokens:
        splits = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in rank and token[i:] in rank]
        merges += [[text[a], text[b]] for a, b in sorted(splits, key=lambda s: (rank[s[0]], rank[s[1]]))]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    data = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": content, **flags} for i, content in special_tokens().items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": O200K_PATTERN}, "behavior": "Isolated", "invert": False},
            {**byte_level, "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
        "post_processor": byte_level,
        "decoder": {**byte_level, "trim_offsets": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
                  "vocab": {text[token]: rank[token] for token in tokens}, "merges": merges}}
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def encode(pieces: Sequence[Piece], tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    """(token ids, which of them the model is to learn)."""
    ids: list[int] = []
    learned: list[bool] = []
    for piece in pieces:
        tokens = [tokenizer.special(piece.text)] if piece.control else tokenizer.encode(piece.text)
        ids += tokens
        learned += [piece.learned] * len(tokens)
    return ids, learned


def main(out: str) -> None:
    path = Path(out) / "tokenizer.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tokenizer_json(learn(seed=0)))
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
