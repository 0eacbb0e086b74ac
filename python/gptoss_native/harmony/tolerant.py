"""Generated token ids to messages and events, whatever the model wrote: nothing raises, no text is lost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gptoss_native.errors import TokenizerError
from gptoss_native.events import Done, EndReason, Event, MessageDone, ToolCallDone
from gptoss_native.harmony.controls import STOPS, Control, control_ids
from gptoss_native.harmony.header import could_be_channel, only_names
from gptoss_native.harmony.header_model import Header
from gptoss_native.harmony.messages import KINDS, Kind, Message, Role, Terminator
from gptoss_native.harmony.partial import Draft, OpenMessage
from gptoss_native.harmony.reading import Place, as_ids, call_id, end_reason
from gptoss_native.harmony.toolbox import Toolbox
from gptoss_native.tokenizer import Tokenizer

_TERMINATORS: dict[Control, Terminator] = {
    "end": "end", "return": "return", "call": "call", "endoftext": "eos"}
_UNKNOWN = "\ufffd".encode()


class TolerantParser:
    """Splits a completion into messages, token by token or in batches; how it is cut into batches changes
    nothing. Arguments as for `Parser`.
    """

    def __init__(self, tokenizer: Tokenizer, role: Role | None, toolbox: Toolbox | None, first_call: int = 1) -> None:
        self.messages: list[Message] = []
        self._next_call = first_call
        self._controls = control_ids(tokenizer)
        self._token_bytes = tokenizer.token_bytes
        self._toolbox = toolbox
        # One of the two is set; both after a channel marker inside a message, until its meaning is clear.
        self._draft: Draft | None = Draft(role)
        self._open: OpenMessage | None = None
        self._tokens: list[int] = []  # since the last message ended
        self._last_token = -1
        self._stray: list[str] = []  # text between messages that belongs to none
        self._pending: list[str] = []  # text of the open message that no event has told yet
        self._texts: dict[Kind, list[str]] = {kind: [] for kind in KINDS}

    def feed(self, tokens: int | Iterable[int]) -> list[Event]:
        """Reads one token id or several and returns what became known: deltas, and messages that ended."""
        events: list[Event] = []
        for token in (tokens,) if isinstance(tokens, int) else as_ids(tokens):
            self._tokens.append(token)
            self._last_token = token
            control = self._controls.get(token)
            if control is not None:
                self._read_control(control, events)
                continue
            try:
                data = self._token_bytes(token)
            except TokenizerError:
                data = _UNKNOWN
                self._mark_malformed()
            if self._draft is None:
                self._write(data)
            else:
                self._read_header(self._draft, data, events)
        self._tell(events)
        return events

    def finish(self, reason: EndReason | None = None) -> list[Event]:
        """The end of the tokens: returns what is left, and `Done`.

        reason: why generation ended; None says stop or tool_calls after such a stop token, else length.
        """
        events: list[Event] = []
        self._end_message("eos", events)
        stopped = self._controls.get(self._last_token) in STOPS
        reason = end_reason(reason or ("stop" if stopped else "length"), self.messages)
        return [*events, Done(reason, self.text_of("text"), self.text_of("reasoning"), self.text_of("preamble"),
                              tuple(self.messages), tuple(self._tokens))]

    @property
    def place(self) -> Place:
        """What is being read, see `Place`."""
        if self._draft is None:
            assert self._open is not None
            return "unfinished" if self._open.mid_character else self._open.kind
        if not self._draft.empty or self._open is not None:
            return "unfinished"
        return "role" if self._draft.role else "start" if self._draft.started else "between"

    def text_of(self, kind: Kind) -> str:
        """The text so far of all messages of one kind."""
        pieces = self._texts[kind]
        pieces[:] = ["".join(pieces)]
        return pieces[0]

    # What each token does

    def _read_control(self, control: Control, events: list[Event]) -> None:
        if control == "start":
            self._start(events)
        elif control == "message":
            self._begin_content(events)
        elif control in ("channel", "constrain"):
            self._read_marker(control, events)
        elif control == "ignored":
            self._mark_malformed()
        else:
            self._end_message(_TERMINATORS[control], events)

    def _start(self, events: list[Event]) -> None:
        """A new header. One that was being read is restarted, and what it said is forgotten unless it was
        text.
        """
        restarted = self._draft is not None and (self._draft.started or self._draft.role is not None)
        before = len(self.messages)
        token = self._tokens.pop()  # belongs to the new message
        self._end_message("implicit", events)
        self._tokens.append(token)
        self._draft = Draft(started=True, malformed=restarted and len(self.messages) == before)

    def _read_marker(self, marker: Control, events: list[Event]) -> None:
        if self._open is not None and self._draft is None:
            if marker == "constrain" and not self._open.headerless:
                self._open.malformed = True
                return
            self._draft = Draft(malformed=True)
            self._draft.first_token = len(self._tokens) - 1
            if self._open.headerless:
                self._finish_open("implicit", events)
        assert self._draft is not None
        if len(self._draft.parts) == 1:
            self._draft.first_marker = len(self._tokens) - 1
        self._draft.parts.append((marker, bytearray()))

    def _read_header(self, draft: Draft, data: bytes, events: list[Event]) -> None:
        draft.add(data)
        if self._open is not None:
            marker, text = draft.parts[-1]
            decoded = text.decode("utf-8", "replace")
            if draft.too_long() or marker == "channel" and not could_be_channel(decoded):
                self._resume()
        elif draft.too_long():
            self._open_message(draft.parse(False, self._toolbox), events)

    def _begin_content(self, events: list[Event]) -> None:
        if self._draft is not None:
            header = self._draft.parse(True, self._toolbox)
            if self._open is None:
                self._open_message(header, events)
            elif header.channel is None:
                self._resume()
            else:
                self._finish_open("implicit", events)
                self._open_message(header, events)
        elif self._open is not None:
            self._open.malformed = True
            if self._open.headerless:
                self._finish_open("implicit", events)
                self._open_message(Header(malformed=True), events)

    def _end_message(self, terminator: Terminator, events: list[Event]) -> None:
        """The open message ends, or a header that led to none: text that was written there is a message."""
        if self._open is not None:
            if self._draft is not None:
                self._resume()
            self._finish_open(terminator, events)
        elif self._draft is not None and not self._draft.empty:
            self._end_header(self._draft, terminator, events)
        called = bool(self.messages) and self.messages[-1].terminator == "call"
        self._draft = Draft(after_call=called)

    def _end_header(self, draft: Draft, terminator: Terminator, events: list[Event]) -> None:
        """A header without `<|message|>` is a message if it has text, or if the model ended it on purpose. Before a
        `<|start|>`, names that nothing follows are none, nor are words after a call.
        """
        header = draft.parse(False, self._toolbox)
        header.drop_noise()
        stray = header.blank or terminator == "implicit" and (
            not header.has_text
            or header.only_prose and not draft.started and (draft.after_call or only_names(header.prose)))
        if stray:
            self._stray.append(draft.text)
            return
        self._open_message(header, events)
        self._finish_open(terminator, events)

    # The open message

    def _open_message(self, header: Header, events: list[Event]) -> None:
        """Begins a message. Text before its channel becomes one of its own, or is all there is."""
        draft, self._draft = self._draft, None
        if header.prose and not header.only_prose:
            before = Header(header.role, header.name, malformed=True)
            self._open = OpenMessage(before, headerless=True, toolbox=self._toolbox, call_id="")
            self._write(header.prose.encode("utf-8", "surrogateescape"))
            marker = draft.first_marker if draft is not None else None
            self._finish_open("implicit", events, len(self._tokens) - 1 if marker is None else marker)
        self._open = OpenMessage(header, headerless=header.only_prose, toolbox=self._toolbox,
                                 call_id=call_id(self._next_call))
        self._write((header.prose if header.only_prose else header.rest).encode("utf-8", "surrogateescape"))

    def _write(self, data: bytes) -> None:
        assert self._open is not None
        text = self._open.decoder.decode(data)
        if text:
            self._add(self._open, text)

    def _add(self, message: OpenMessage, text: str) -> None:
        message.pieces.append(text)
        self._texts[message.kind].append(text)
        self._pending.append(text)

    def _tell(self, events: list[Event]) -> None:
        if self._pending and self._open is not None:
            events.append(self._open.delta("".join(self._pending)))
            self._pending.clear()

    def _resume(self) -> None:
        """What came after a channel marker inside a message was no header: it is content, without the marker.
        """
        assert self._open is not None and self._draft is not None
        self._open.malformed = True
        draft, self._draft = self._draft, None
        for _, data in draft.parts:
            self._write(bytes(data))

    def _finish_open(self, terminator: Terminator, events: list[Event], cut: int | None = None) -> None:
        """cut: how many of the tokens are the message's; None: all that do not belong to the next header."""
        assert self._open is not None
        tail = self._open.decoder.decode(b"", True)
        if tail:
            self._add(self._open, tail)
        self._tell(events)
        if cut is None:
            cut = len(self._tokens) if self._draft is None else self._draft.first_token
        message = self._open.message(terminator, tuple(self._tokens[:cut]), "".join(self._stray))
        del self._tokens[:cut]
        self._stray.clear()
        self._open = None
        self.messages.append(message)
        if message.call is not None:
            self._next_call += 1
            events.append(ToolCallDone(message.call))
        events.append(MessageDone(message))

    def _mark_malformed(self) -> None:
        mark: Any = self._draft or self._open
        mark.malformed = True
