"""Generated tokens to messages exactly as the openai-harmony library reads them, its errors and oddities included."""

from __future__ import annotations

from typing import Literal

from gptoss_native.errors import TokenizerError
from gptoss_native.harmony.compat_header import CompatHeader, ParseError, parse_compat_header, read_recipient
from gptoss_native.harmony.controls import spell
from gptoss_native.harmony.messages import Message, Role, Terminator
from gptoss_native.tokenizer import Tokenizer

State = Literal["ExpectStart", "Header", "Content"]


class CompatParser:
    """`StreamableParser` of openai-harmony: one token at a time, and everything can be looked at in between.

    strict: as there; without it a message that ends in its header is text, if the role was known beforehand, and
    is lost otherwise. Raises ParseError for what that library refuses; what follows the next `<|start|>` can then be
    read.

    messages: those that are complete. tokens: all that were read. state: what is being read. last_content_delta: the
    text that the last token added, or None; at the end of a message the content may have more than its deltas.
    """

    def __init__(self, tokenizer: Tokenizer, role: Role | None = None, *, strict: bool = True) -> None:
        self.messages: list[Message] = []
        self.tokens: list[int] = []
        self.last_content_delta: str | None = None
        self.state: State = "ExpectStart" if role is None else "Header"
        self._tokenizer = tokenizer
        self._strict = strict
        self._preset = role
        names: tuple[Terminator, ...] = ("end", "return", "call")
        self._stops: dict[int, Terminator] = {
            tokenizer.specials[spell(name)]: name for name in names if spell(name) in tokenizer.specials}
        self._start, self._message = tokenizer.special("<|start|>"), tokenizer.special("<|message|>")
        self._header_ids: list[int] = []
        self._header: CompatHeader | None = None
        self._pieces: list[str] = []
        self._pending = b""  # bytes of the content that are no text yet
        self._lost = False  # an id outside the vocabulary came; the rest of the message is not read
        self._first = 0  # of the tokens of this message

    # What can be looked at

    @property
    def current_role(self) -> Role | None:
        return self._header.role if self._header else self._preset

    @property
    def current_channel(self) -> str | None:
        return self._header.channel if self._header else None

    @property
    def current_recipient(self) -> str | None:
        return self._header.recipient if self._header else None

    @property
    def current_content_type(self) -> str | None:
        return self._header.content_type if self._header else None

    @property
    def current_content(self) -> str:
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    # What each token does

    def process(self, token: int) -> None:
        """Reads one token."""
        self.tokens.append(token)
        if self.state == "Content":
            if token in self._stops:
                self._finish(self._stops[token])
            else:
                self.last_content_delta = self._read(token)
        elif self.state == "Header":
            self._read_header(token)
        elif token == self._start:
            self.state = "Header"
            self._header_ids = []
            self._first = len(self.tokens) - 1
        else:
            raise ParseError(f"Unexpected token {token} while expecting start token {self._start}")

    def process_eos(self) -> None:
        """The end of the tokens. May be said more than once."""
        if self.state == "Header":
            raise ParseError("Unexpected EOS while waiting for message header to complete")
        if self.state == "Content":
            self._finish("eos")

    def _read_header(self, token: int) -> None:
        if token == self._message:
            self.state = "ExpectStart"
            header, words = parse_compat_header(self._header_text(), self._preset)
            recipient, content_type = read_recipient(words)
            self._header = CompatHeader(header.role, header.name, header.channel, recipient, content_type)
            self.state, self._preset = "Content", None
        elif token in self._stops and not self._strict:
            self._end_in_header(self._stops[token])
        else:
            self._header_ids.append(token)

    def _header_text(self) -> str:
        try:
            return b"".join(map(self._tokenizer.token_bytes, self._header_ids)).decode("utf-8")
        except (UnicodeDecodeError, TokenizerError) as error:
            raise ParseError(f"could not decode header: {error}") from None

    def _end_in_header(self, terminator: Terminator) -> None:
        if self._preset is not None and self._header_ids:
            header, words = parse_compat_header(self._header_text(), self._preset)
            self._add(header, " ".join(words), terminator)
        self.state, self._preset, self._header_ids = "ExpectStart", None, []

    def _read(self, token: int) -> str | None:
        """The text that becomes known with `token`, if any."""
        if self._lost:
            return None
        try:
            self._pending += self._tokenizer.token_bytes(token)
        except TokenizerError:
            self._lost = True
            return None
        try:
            text, self._pending = self._pending.decode("utf-8"), b""
        except UnicodeDecodeError as error:
            text = self._pending[: error.start].decode("utf-8")
            if error.reason == "unexpected end of data":
                self._pending = self._pending[error.start:]
                if not text:
                    return None
            else:
                text += "\ufffd"
                self._pending = self._pending[error.end:]
        self._pieces.append(text)
        return text

    def _finish(self, terminator: Terminator) -> None:
        assert self._header is not None
        self._pieces.append("\ufffd" if self._lost else self._pending.decode("utf-8", "replace"))
        self._add(self._header, "".join(self._pieces), terminator)
        self._header, self._pieces, self._pending, self._lost = None, [], b"", False
        self.state, self.last_content_delta = "ExpectStart", None

    def _add(self, header: CompatHeader, text: str, terminator: Terminator) -> None:
        ids = tuple(self.tokens[self._first:])
        self._first = len(self.tokens)
        self.messages.append(Message(
            header.role, text, header.name, header.channel, header.recipient, header.content_type,
            terminator=terminator, token_ids=ids))
