"""What a Hugging Face `tokenizer.json` says about a byte-level BPE: ranks, split pattern, special tokens.

The `merges` of gpt-oss's file are four fifths of its 27.9 MB and say nothing the ranks do not (see
`_without_merges`), so they are skipped where that is provably the same as reading them.
"""

from __future__ import annotations

import json
import mmap
import re
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptoss_native.config.strict_json import shown
from gptoss_native.errors import TokenizerError

LARGEST_FILE = 512 << 20
"""The released file has 27.9 MB. Parsing takes several times a file's size, so no far larger one is tried."""


@dataclass(frozen=True)
class TokenizerFile:
    """A byte-level BPE vocabulary.

    ranks: bytes of each ordinary token -> its id, which is also its merge rank.
    pattern: the regex that cuts text into the pieces that BPE works on.
    specials: spelling -> id of each added token; these spellings never come out of ordinary text.
    """

    ranks: dict[bytes, int]
    pattern: str
    specials: dict[str, int]


def read_tokenizer_json(path: Path, vocab_size: int) -> TokenizerFile:
    """Reads and checks `path`. `vocab_size` is the number of ids the model has.

    Raises TokenizerError, naming the file and what was expected, for anything that is not a byte-level BPE
    without a normalizer whose ids are whole and fit the model.
    """
    document = _load(path)
    try:
        return _interpret(document, vocab_size)
    except _Wrong as wrong:
        raise TokenizerError(
            f"{path}: {wrong}; use the tokenizer.json that came with the checkpoint") from None


class _Wrong(Exception):
    """A sentence about the document; the caller adds the file's name."""


def _load(path: Path) -> dict[str, Any]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise TokenizerError(f"{path}: a tokenizer.json is expected, but it is not a regular file")
        if not 0 < status.st_size <= LARGEST_FILE:
            raise TokenizerError(f"{path}: a tokenizer.json of 1 to {LARGEST_FILE:,} bytes is expected, "
                                 f"it has {status.st_size:,}; copy the file again")
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            document = _without_merges(data)
            return _parse(data[:]) if document is None else document
    except _Wrong as wrong:
        raise TokenizerError(f"{path}: {wrong}; copy the file again") from None
    except (OSError, ValueError) as error:  # ValueError: the file became empty after stat
        if isinstance(error, TokenizerError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise TokenizerError(f"{path}: the tokenizer file cannot be read ({reason})") from None


def _parse(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`; a key that occurs twice is refused."""
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise _Wrong(f"expected UTF-8, byte {error.start} is not") from None
    except ValueError as error:  # also an integer with more digits than Python converts
        raise _Wrong(f"expected JSON, found a damaged or truncated file ({error})") from None
    except RecursionError:
        raise _Wrong("expected JSON of a few levels, found it nested too deeply") from None
    return _object(document, "the file")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise _Wrong(f"expected each key once, {shown(key)} occurs twice")
    return result


_MERGES_KEY = re.compile(rb'"merges"\s*:\s*\[')
_END_OF_FILE = re.compile(rb"\]\s*\}\s*\}\s*")
_READ_FROM_TOP = ("added_tokens", "normalizer", "pre_tokenizer", "model")
_UNSUPPORTED = ("byte_fallback", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
_READ_FROM_MODEL = ("type", "vocab", *_UNSUPPORTED)


def _without_merges(data: bytes | mmap.mmap) -> dict[str, Any] | None:
    """The document with `model.merges` emptied, or None where only a full parse can tell what the file says.

    Outside strings JSON has no backslash and no quote but those that delimit strings, so `"merges"` whose
    first quote follows no backslash, before a colon, is a key. When the file ends in `]}}`, all between that
    key's bracket and the last bracket is dropped. What is dropped is the merges, and perhaps members that
    come after them; but every member that is read below must have been seen without it, so for a document
    without duplicate keys the result is the same.
    """
    at = data.find(b'"merges"')
    while at >= 0 and (data[at - 1 : at] == b"\\" or _MERGES_KEY.match(data, at) is None):
        at = data.find(b'"merges"', at + 1)
    last = data.rfind(b"]")
    match = _MERGES_KEY.match(data, at) if at >= 0 else None
    if match is None or last < match.end() or _END_OF_FILE.fullmatch(data, last) is None:
        return None
    try:
        document = _parse(data[: match.end()] + data[last:])
    except _Wrong:
        return None
    model = document.get("model")
    if not isinstance(model, dict) or model.get("merges") != []:
        return None
    seen = all(key in model for key in _READ_FROM_MODEL) and all(key in document for key in _READ_FROM_TOP)
    return document if seen else None


def _interpret(document: dict[str, Any], vocab_size: int) -> TokenizerFile:
    model = _object(document.get("model"), '"model"')
    if model.get("type") != "BPE":
        raise _Wrong(f'expected "model"."type" "BPE", found {shown(model.get("type"))}')
    for key in _UNSUPPORTED:
        if model.get(key):
            raise _Wrong(f'expected a byte-level BPE without "{key}", found {shown(model[key])}')
    if document.get("normalizer") is not None:
        raise _Wrong(f'expected no "normalizer", found {shown(document["normalizer"])}')
    specials = _specials(document.get("added_tokens", []), vocab_size)
    vocab = dict(_object(model.get("vocab"), '"model"."vocab"'))
    for spelling, index in specials.items():  # some writers repeat the added tokens in the vocabulary
        if vocab.pop(spelling, index) != index:
            raise _Wrong(f'added token {shown(spelling)} has id {index}, but another id in "model"."vocab"')
    ranks = _ranks(vocab)
    _check_ids(ranks, specials, vocab_size)
    return TokenizerFile(ranks, _pattern(document.get("pre_tokenizer")), specials)


def _specials(entries: Any, vocab_size: int) -> dict[str, int]:
    if not isinstance(entries, list):
        raise _Wrong(f'expected a list as "added_tokens", found {shown(entries)}')
    specials: dict[str, int] = {}
    for entry in entries:
        entry = _object(entry, 'each of "added_tokens"')
        spelling, index = entry.get("content"), entry.get("id")
        if not isinstance(spelling, str) or not spelling or not spelling.isprintable():
            raise _Wrong(f'expected printable text as "content" of an added token, found {shown(spelling)}')
        if type(index) is not int or not 0 <= index < vocab_size:
            raise _Wrong(f"added token {shown(spelling)} has id {shown(index)}, expected 0 to "
                         f"{vocab_size - 1}, below the vocab_size of config.json")
        if specials.setdefault(spelling, index) != index:
            raise _Wrong(f"added token {shown(spelling)} appears twice, with ids {specials[spelling]} "
                         f"and {index}")
    if len(set(specials.values())) != len(specials):
        raise _Wrong("two added tokens have the same id, expected one id each")
    return specials


def _byte_of_character() -> dict[int, str]:
    """Inverse of GPT-2's byte-to-unicode map, as a `str.translate` table to latin-1.

    Bytes 33-126, 161-172 and 174-255 stand for themselves; the other 68, ascending, are U+0100, U+0101, ...
    Those 68 as themselves belong to no token: they go to U+FFFF, which latin-1 refuses.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**dict.fromkeys(others, "\uffff"), **{256 + i: chr(byte) for i, byte in enumerate(others)}}


def _ranks(vocab: dict[str, Any]) -> dict[bytes, int]:
    wrong_types = set(map(type, vocab.values())) - {int}
    if wrong_types:
        token = next(token for token, index in vocab.items() if type(index) is not int)
        raise _Wrong(f'expected integer ids in "model"."vocab", {shown(token)} has {shown(vocab[token])}')
    try:  # one translation for all tokens: each character is one byte, so lengths cut the result apart again
        joined = "".join(vocab).translate(_byte_of_character()).encode("latin-1")
    except UnicodeEncodeError as error:
        raise _Wrong('expected "model"."vocab" in GPT-2\'s byte-to-unicode spelling, a token holds '
                     f"{shown(''.join(vocab)[error.start])}") from None
    ranks: dict[bytes, int] = {}
    start = 0
    for token, index in vocab.items():
        end = start + len(token)
        ranks[joined[start:end]] = index
        start = end
    if b"" in ranks:
        raise _Wrong('expected no empty token in "model"."vocab"')
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise _Wrong(f'expected all 256 single bytes in "model"."vocab", {len(missing)} of them are missing')
    return ranks


def _check_ids(ranks: dict[bytes, int], specials: dict[str, int], vocab_size: int) -> None:
    """Ids are ranks, so one lost id would shift nothing but still decode to nothing: refuse it."""
    ordinary, special = set(ranks.values()), set(specials.values())
    lowest, highest = min(ordinary), max(ordinary)
    if lowest < 0 or highest >= vocab_size:
        raise _Wrong(f'"model"."vocab" has ids from {lowest} to {highest}, expected 0 to {vocab_size - 1}, '
                     "below the vocab_size of config.json")
    if len(ordinary) != len(ranks) or ordinary & special:
        raise _Wrong("two tokens have the same id, expected one id each")
    named = len(ordinary) + sum(index < highest for index in special)
    if named != highest + 1:
        hole = next(index for index in range(highest) if index not in ordinary and index not in special)
        raise _Wrong(f'"model"."vocab" names no token with id {hole}, expected every id from 0 to {highest}')


def _pattern(pre_tokenizer: Any) -> str:
    """The regex of Sequence(Split(regex, Isolated), ByteLevel(no prefix space, no regex of its own))."""
    steps = pre_tokenizer.get("pretokenizers") if isinstance(pre_tokenizer, dict) else None
    if isinstance(steps, list) and len(steps) == 2 and all(isinstance(step, dict) for step in steps):
        split, byte_level = steps
        pattern = split.get("pattern")
        regex = pattern.get("Regex") if isinstance(pattern, dict) else None
        if (
            (split.get("type"), split.get("behavior")) == ("Split", "Isolated")
            and not split.get("invert")
            and byte_level.get("type") == "ByteLevel"
            and not byte_level.get("add_prefix_space", True)
            and not byte_level.get("use_regex", True)
            and isinstance(regex, str)
            and regex
        ):
            return regex
    raise _Wrong('expected "pre_tokenizer" to be an isolated Split on a regex, then ByteLevel without a '
                 f"regex or a prefix space, found {shown(pre_tokenizer)}")


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Wrong(f"expected {what} to be a JSON object, found {shown(value)}")
    return value
