"""What the parser has read of a header or of a message that is not complete yet."""

from __future__ import annotations

import codecs

from gptoss_native.events import Delta, OtherDelta, PreambleDelta, ReasoningDelta, TextDelta, ToolCallDelta
from gptoss_native.harmony.header import MAX_BYTES, MAX_WORDS, Header, parse_header
from gptoss_native.harmony.messages import Kind, Message, Role, Terminator, kind_of


class Draft:
    """A header that is being read: markers and the bytes after each.

    role: known beforehand, because `<|start|>` and the role were in the prompt; else None.
    started: a `<|start|>` came before it.
    """

    def __init__(self, role: Role | None = None, started: bool = False, malformed: bool = False) -> None:
        self.role, self.started, self.malformed = role, started, malformed
        self.parts: list[tuple[str, bytearray]] = [("", bytearray())]
        self.first_token = 0

    def too_long(self) -> bool:
        """The model is writing text where a header belongs."""
        text = b" ".join(data for _, data in self.parts)
        return len(text) > MAX_BYTES or len(text.split()) > MAX_WORDS

    def parse(self, closed: bool) -> Header:
        parts = [(marker, data.decode("utf-8", "surrogateescape")) for marker, data in self.parts]
        header = parse_header(parts, role=self.role, started=self.started, closed=closed)
        header.malformed |= self.malformed
        return header


class OpenMessage:
    """A message whose content is being read. headerless: it is text that stood where a header belongs."""

    def __init__(self, header: Header, headerless: bool) -> None:
        self.header, self.headerless, self.malformed = header, headerless, header.malformed
        self.kind: Kind = kind_of(header.role, header.channel, header.recipient)
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.pieces: list[str] = []

    def delta(self, text: str) -> Delta:
        if self.kind == "reasoning":
            return ReasoningDelta(text)
        if self.kind == "preamble":
            return PreambleDelta(text)
        if self.kind == "call":
            return ToolCallDelta(self.header.recipient or "", text)
        return TextDelta(text) if self.kind == "text" else OtherDelta(self.header.role, text)

    def message(self, terminator: Terminator, tokens: tuple[int, ...]) -> Message:
        header = self.header
        return Message(
            header.role, "".join(self.pieces), header.name, header.channel, header.recipient,
            header.content_type, terminator=terminator, malformed=self.malformed, tokens=tokens,
        )
