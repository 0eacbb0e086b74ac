"""The events of a `CompatParser`: what it makes known, told as the tolerant parser tells it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gptoss_native.events import Done, EndReason, Event, MessageDone, ToolCallDone
from gptoss_native.harmony.compat import CompatParser
from gptoss_native.harmony.compat_header import ParseError
from gptoss_native.harmony.header_model import Header
from gptoss_native.harmony.messages import KINDS, Kind, Message, Role, kind_of
from gptoss_native.harmony.partial import OpenMessage
from gptoss_native.harmony.reading import Place, as_ids, call_id, end_reason
from gptoss_native.harmony.toolbox import Toolbox, tool_call
from gptoss_native.tokenizer import Tokenizer


class CompatEvents:
    """As TolerantParser, with the openai-harmony library's reading; deltas can be shorter than the content."""

    def __init__(self, tokenizer: Tokenizer, role: Role | None, toolbox: Toolbox | None, strict: bool,
                 first_call: int = 1) -> None:
        self.messages: list[Message] = []
        self._next_call = first_call
        self._parser = CompatParser(tokenizer, role, strict=strict)
        self._preset, self._start = role, tokenizer.special("<|start|>")
        self._toolbox = toolbox
        self._open: OpenMessage | None = None
        self._texts: dict[Kind, list[str]] = {kind: [] for kind in KINDS}

    def feed(self, tokens: int | Iterable[int]) -> list[Event]:
        events: list[Event] = []
        for position, token in enumerate(as_ids(tokens)):
            try:
                self._parser.process(token)
            except ParseError as error:
                raise self._explained(error, position, events) from None
            finally:
                self._tell(events)
        return events

    def finish(self, reason: EndReason | None) -> list[Event]:
        events: list[Event] = []
        try:
            self._parser.process_eos()
        except ParseError as error:
            raise self._explained(error, -1, events) from None
        self._tell(events)
        if reason is None:
            last = self.messages[-1].terminator if self.messages else None
            reason = "stop" if last in ("return", "call") else "length"
        reason = end_reason(reason, self.messages)
        texts = [self.text_of(kind) for kind in ("text", "reasoning", "preamble")]
        return [*events, Done(reason, texts[0], texts[1], texts[2], tuple(self.messages))]

    @property
    def place(self) -> Place:
        if self._open is not None:
            return self._open.kind
        return "between" if self._parser.state == "ExpectStart" else "unfinished"

    def text_of(self, kind: Kind) -> str:
        return "".join(self._texts[kind])

    def _tell(self, events: list[Event]) -> None:
        parser = self._parser
        for message in parser.messages[len(self.messages):]:
            kind = kind_of(message.role, message.channel, message.recipient)
            if kind == "call":
                complete = message.terminator != "eos"
                number, self._next_call = self._next_call, self._next_call + 1
                call = tool_call(message.recipient or "", message.text, complete, self._toolbox, call_id(number))
                message = replace(message, call=call)
                events.append(ToolCallDone(call))
            self.messages.append(message)
            events.append(MessageDone(message))
            self._open = None
        if parser.state == "Content" and self._open is None:
            role = parser.current_role or "assistant"
            header = Header(role, None, parser.current_channel, parser.current_recipient, parser.current_content_type)
            self._open = OpenMessage(header, False, self._toolbox, call_id(self._next_call))
        elif parser.state == "Content" and self._open is not None and parser.last_content_delta:
            events.append(self._open.delta(parser.last_content_delta))
            self._texts[self._open.kind].append(parser.last_content_delta)

    def _explained(self, error: ParseError, position: int, events: list[Event]) -> ParseError:
        hint = ""
        if self._preset is not None and self._parser.tokens[:1] == [self._start]:
            hint = (f"; the tokens begin with <|start|>, but the parser was told that the role is {self._preset}: give "
                    "it what comes behind the prompt, or use role=None for the tokens of a prompt")
        told = ParseError(f"{error}{hint}")
        told.index, told.events = position, tuple(events)
        return told
