"""Generated token ids to messages and events, with patience or exactly as the openai-harmony library."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from gptoss_native.config.strict_json import shown
from gptoss_native.events import EndReason, Event
from gptoss_native.harmony.compat_events import CompatEvents
from gptoss_native.harmony.messages import ROLES, Message, MessageError, Role
from gptoss_native.harmony.reading import Place
from gptoss_native.harmony.specs import toolbox
from gptoss_native.harmony.tolerant import TolerantParser
from gptoss_native.harmony.toolbox import Toolbox, ToolCall
from gptoss_native.tokenizer import Tokenizer

Policy = Literal["tolerant", "compat"]


class Parser:
    """Splits a completion into messages, token by token or in batches; how it is cut into batches changes nothing.

    tokenizer: of the model; TokenizerError if it lacks a special token that the format needs.
    role: "assistant" if the prompt ended in `<|start|>assistant`, as the renderer leaves it; None if the tokens begin
    with `<|start|>`, as those of a prompt do.
    policy: "tolerant" never raises on what a model wrote. What the model gets wrong is read as well as can be and
    marked `malformed`: text where a header belongs is an answer without a channel; a missing `<|start|>`, `<|end|>` or
    role is supplied; stop tokens and blanks between messages are skipped; ids outside the vocabulary become U+FFFD.
    Control tokens never show in any text. "compat" reads exactly what the openai-harmony library reads, and raises
    ParseError where that does; see `CompatParser`. strict: its, of no meaning to "tolerant".
    tools: a Toolbox, or a list of function tools; calls then say whether they are `known`, and have the caller's names.
    first_call: the number of the first call, which its id is made of; see `Conversation.next_call`.
    """

    def __init__(self, tokenizer: Tokenizer, role: Role | None = "assistant", *, policy: Policy = "tolerant",
                 tools: Toolbox | Iterable[Any] | None = None, strict: bool = True, first_call: int = 1) -> None:
        if role is not None and role not in ROLES:
            raise MessageError(f"expected role to be None or one of {', '.join(ROLES)}, found {shown(role)}")
        if policy not in ("tolerant", "compat"):
            raise MessageError(f"expected policy to be tolerant or compat, found {shown(policy)}")
        known = None if tools is None else toolbox(tools)
        self._machine: TolerantParser | CompatEvents = (
            CompatEvents(tokenizer, role, known, strict, first_call) if policy == "compat"
            else TolerantParser(tokenizer, role, known, first_call))

    def feed(self, tokens: int | Iterable[int]) -> list[Event]:
        """Reads one token id or several and returns what became known: deltas, and messages that ended.

        Raises TypeError for what is no token id, and with policy "compat" ParseError.
        """
        return self._machine.feed(tokens)

    def finish(self, reason: EndReason | None = None) -> list[Event]:
        """The end of the tokens: returns what is left, and `Done`.

        reason: why generation ended; None says stop after a token that stops, else length. Where it was stopped and
        the last message is a call, it is tool_calls.
        With policy "compat" raises ParseError if the tokens end in a header.
        """
        return self._machine.finish(reason)

    @property
    def messages(self) -> list[Message]:
        """Those that have ended."""
        return self._machine.messages

    @property
    def text(self) -> str:
        """The answer so far: all text on the final channel or on none."""
        return self._machine.text_of("text")

    @property
    def reasoning(self) -> str:
        """The analysis channel so far."""
        return self._machine.text_of("reasoning")

    @property
    def preamble(self) -> str:
        """What was said to the user on the commentary channel so far."""
        return self._machine.text_of("preamble")

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls that have ended."""
        return tuple(message.call for message in self.messages if message.call is not None)

    @property
    def place(self) -> Place:
        """What is being read now, see `Place`; `closing_ids` needs it."""
        return self._machine.place
