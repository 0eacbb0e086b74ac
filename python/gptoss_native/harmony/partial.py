"""What the parser has read of a header or of a message that is not complete yet."""

from __future__ import annotations

import codecs

from gptoss_native.events import Delta, OtherDelta, PreambleDelta, ReasoningDelta, TextDelta, ToolCallDelta
from gptoss_native.harmony.header import MAX_BYTES, MAX_WORDS, parse_header
from gptoss_native.harmony.header_model import Header
from gptoss_native.harmony.messages import Kind, Message, Role, Terminator, kind_of
from gptoss_native.harmony.toolbox import Toolbox, called, tool_call

_DECODER = codecs.getincrementaldecoder("utf-8")


class Draft:
    """A header that is being read: markers and the bytes after each.

    role: known beforehand, because `<|start|>` and the role were in the prompt; else None.
    started: a `<|start|>` came before it. after_call: none did, and the message before it was a call.
    """

    def __init__(self, role: Role | None = None, started: bool = False, malformed: bool = False,
                 after_call: bool = False) -> None:
        self.role, self.started, self.malformed, self.after_call = role, started, malformed, after_call
        self.parts: list[tuple[str, bytearray]] = [("", bytearray())]
        self.first_token = 0  # index among the tokens since the last message ended
        self.first_marker: int | None = None
        self._pieces = self._bytes = 0

    @property
    def empty(self) -> bool:
        return len(self.parts) == 1 and not self.parts[0][1]

    def add(self, data: bytes) -> None:
        self.parts[-1][1].extend(data)
        self._pieces += 1
        self._bytes += len(data)

    def too_long(self) -> bool:
        """The model is writing text where a header belongs."""
        if self._pieces <= MAX_WORDS and self._bytes <= MAX_BYTES // 2:
            return False  # a token has no more than one word, but for a few odd ones
        text = b" ".join(data for _, data in self.parts)
        return len(text) > MAX_BYTES or len(text.split()) > MAX_WORDS

    @property
    def text(self) -> str:
        return " ".join(data.decode("utf-8", "replace") for _, data in self.parts)

    def parse(self, closed: bool, toolbox: Toolbox | None) -> Header:
        # Only where content goes on without a token between may a character go on.
        errors = ["replace"] * (len(self.parts) - 1) + ["replace" if closed else "surrogateescape"]
        parts = tuple((marker, data.decode("utf-8", how)) for (marker, data), how in zip(self.parts, errors))
        tools = frozenset[str]() if toolbox is None else toolbox.names
        header = parse_header(parts, role=self.role, started=self.started, closed=closed, tools=tools)
        header.malformed |= self.malformed
        return header


class OpenMessage:
    """A message whose content is being read. headerless: it is text that stood where a header belongs. call_id: of the
    call, if it is one."""

    def __init__(self, header: Header, headerless: bool, toolbox: Toolbox | None, call_id: str) -> None:
        self.header, self.headerless, self.malformed = header, headerless, header.malformed
        self.kind: Kind = kind_of(header.role, header.channel, header.recipient)
        self.decoder = _DECODER("replace")
        self.pieces: list[str] = []
        self._toolbox, self._call_id = toolbox, call_id
        self._name = called(header.recipient or "", toolbox)[0] if self.kind == "call" else ""

    @property
    def mid_character(self) -> bool:
        """Bytes of a character have come, and not all of them."""
        return bool(self.decoder.getstate()[0])

    def delta(self, text: str) -> Delta:
        if self.kind == "reasoning":
            return ReasoningDelta(text)
        if self.kind == "preamble":
            return PreambleDelta(text)
        if self.kind == "call":
            return ToolCallDelta(self.header.recipient or "", text, self._name, self._call_id)
        return TextDelta(text) if self.kind == "text" else OtherDelta(self.header.role, text)

    def message(self, terminator: Terminator, token_ids: tuple[int, ...], stray: str) -> Message:
        header, text = self.header, "".join(self.pieces)
        call = None
        if self.kind == "call":
            call = tool_call(header.recipient or "", text, terminator != "eos", self._toolbox, self._call_id)
        return Message(
            header.role, text, header.name, header.channel, header.recipient, header.content_type, terminator,
            self.malformed, stray + _printable(header.stray), token_ids, call)


def _printable(text: str) -> str:
    """Without the surrogates that stand for bytes that are not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if text else text
