"""Text to token ids and back, with the vocabulary of the checkpoint's `tokenizer.json`; tiktoken does it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from gptoss_native.errors import TokenizerError
from gptoss_native.tokenizer_json import TokenizerFile, read_tokenizer_json

O200K_PATTERN = "|".join((
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    r"\s+",
))
"""The split pattern of gpt-oss; that it is known allows to cut very long blank runs (`_encode_pieces`)."""

LONG_BLANK = 100_000
"""tiktoken's regex engine gives up after 1,000,000 backtracking steps; `\\s+(?!\\S)` takes one a character."""

_BLANK = "[\t\x0b\x0c \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"  # White_Space, no CR, no LF
_LONG_BLANKS = re.compile(f"{_BLANK}{{{LONG_BLANK},}}")


class Tokenizer:
    """The vocabulary of one checkpoint: byte-level BPE, and special tokens that only their ids can produce.

    vocab_size: number of ids the model has; ids 0 to vocab_size - 1 decode.
    specials: spelling -> id of the tokens named by `added_tokens`, such as "<|start|>".

    Safe to use from several threads; encoding releases the GIL.
    """

    def __init__(self, file: TokenizerFile, vocab_size: int, source: str) -> None:
        import tiktoken  # here, so that importing the package does not pay for it

        self.vocab_size = vocab_size
        self.specials: Mapping[str, int] = MappingProxyType(file.specials)
        self.source = source
        self._bytes = {index: token for token, index in file.ranks.items()}
        self._bytes.update((index, spelling.encode()) for spelling, index in file.specials.items())
        self._cuts_blanks = file.pattern == O200K_PATTERN
        try:
            self._encoding = tiktoken.Encoding(
                name="gpt-oss", pat_str=file.pattern, mergeable_ranks=file.ranks, special_tokens=file.specials
            )
        except ValueError as error:
            raise TokenizerError(f"{source}: the pre-tokenizer's regex cannot be compiled: {error}") from None

    @classmethod
    def from_file(cls, tokenizer_json: str | Path, vocab_size: int) -> Tokenizer:
        """Reads a Hugging Face `tokenizer.json`, and nothing else; `vocab_size` is config.json's.

        Raises TokenizerError, naming the file and what was expected, if it is missing, damaged or different.
        """
        return cls(read_tokenizer_json(Path(tokenizer_json), vocab_size), vocab_size, str(tokenizer_json))

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, all of it ordinary: "<|end|>" becomes the tokens of those seven characters.

        A surrogate pair counts as the character it means, a lone surrogate as U+FFFD; for every other text
        `decode(encode(text)) == text`. Raises TokenizerError if the file's own split pattern cannot cope with
        the text.
        """
        if not isinstance(text, str):
            raise TypeError(f"encode expects a str, got {type(text).__name__}")
        try:
            utf8 = text.encode("utf-8")
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            utf8 = text.encode("utf-8")
        try:
            ids = self._encode_pieces(text)
        except BaseException as error:
            # A regex that gives up reaches Python as a Rust panic, which is no Exception.
            if type(error).__name__ != "PanicException" and not isinstance(error, (ValueError, RuntimeError)):
                raise
            raise TokenizerError(f"{self.source}: its split pattern fails on this text of {len(text)} "
                                 "characters; break up very long runs of one kind of character") from None
        if sum(map(len, map(self._bytes.__getitem__, ids))) != len(utf8):
            raise TokenizerError(f"{self.source}: its split pattern leaves parts of the text out; "
                                 "use the tokenizer.json that came with the checkpoint")
        return ids

    def _encode_pieces(self, text: str) -> list[int]:
        """`encode_ordinary`, with each very long blank run that ends no line cut out by hand.

        Such a run is one piece of the pattern: up to its last character if a visible one follows, all of it
        at the end of the text. No other piece reaches into it. Where a line end follows, `\\s*[\\r\\n]+`
        takes it without backtracking.
        """
        if not self._cuts_blanks or len(text) < LONG_BLANK:
            return self._encoding.encode_ordinary(text)
        ids: list[int] = []
        start = 0
        for run in _LONG_BLANKS.finditer(text):
            end = run.end() if run.end() == len(text) else run.end() - 1
            if text[run.end() : run.end() + 1] in ("\r", "\n"):
                continue
            ids += self._encoding.encode_ordinary(text[start : run.start()])
            ids += self._encoding._encode_single_piece(text[run.start() : end])
            start = end
        return ids + self._encoding.encode_ordinary(text[start:])

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`. Bytes that are not UTF-8 become U+FFFD, specials their spelling.

        Raises TokenizerError for an id outside 0 to vocab_size - 1.
        """
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def token_bytes(self, index: int) -> bytes:
        """The bytes of one token, often not whole characters; "<|reserved_N|>" for an id that has no name.

        Raises TokenizerError for an id outside 0 to vocab_size - 1.
        """
        token = self._bytes.get(index)
        if token is not None:
            return token
        if 0 <= index < self.vocab_size:
            return f"<|reserved_{index}|>".encode()
        raise TokenizerError(
            f"token id {index} is outside the vocabulary, expected 0 to {self.vocab_size - 1}")

    def special(self, spelling: str) -> int:
        """Id of the special token `spelling`, such as "<|return|>". TokenizerError if there is none."""
        index = self.specials.get(spelling)
        if index is None:
            raise TokenizerError(f'{self.source}: expected the special token {spelling} in "added_tokens", '
                                 "it is not there; use the tokenizer.json that came with the checkpoint")
        return index

    def __repr__(self) -> str:
        ordinary = len(self._bytes) - len(self.specials)
        return (f"Tokenizer({self.source!r}: {ordinary} ordinary and {len(self.specials)} special tokens, "
                f"vocab_size={self.vocab_size})")


class TextStream:
    """Token ids to text, one by one: never half a character, and in sum `tokenizer.decode` of all ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, index: int) -> str:
        """The characters that token `index` completes, often "". Raises as `token_bytes` does."""
        return self._decoder.decode(self._tokenizer.token_bytes(index))

    def finish(self) -> str:
        """What is left: U+FFFD if the last character is not whole, else "". The stream may be used again."""
        text = self._decoder.decode(b"", True)
        self._decoder.reset()
        return text
