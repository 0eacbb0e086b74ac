"""What a generation in the Harmony format tells its caller while it runs.

The texts of all deltas of one message add up to that message's text; all ReasoningDelta of a completion to
`Done.reasoning`, all TextDelta to `Done.text`, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from gptoss_native.harmony.messages import Message
    from gptoss_native.harmony.toolbox import ToolCall

EndReason = Literal["stop", "tool_calls", "length", "loop"]
"""stop: the model ended its answer. tool_calls: it ended in a tool call. length: it was cut off. loop: it was cut off
because it repeated itself."""


@dataclass(frozen=True)
class ReasoningDelta:
    """More of the analysis channel: the model's thoughts, not meant for the user."""

    text: str


@dataclass(frozen=True)
class PreambleDelta:
    """More of a commentary message to no one in particular: meant for the user, comes before the answer."""

    text: str


@dataclass(frozen=True)
class TextDelta:
    """More of the answer: the final channel, no channel, or one that does not exist."""

    text: str


@dataclass(frozen=True)
class ToolCallDelta:
    """More of the arguments, raw, of a call to the tool `recipient`, which `name` is the caller's name of. id: the
    call's, see ToolCall."""

    recipient: str
    text: str
    name: str = ""
    id: str = ""


@dataclass(frozen=True)
class ToolCallDone:
    """A call with all its arguments, raw and parsed; comes before the MessageDone of its message."""

    call: ToolCall


@dataclass(frozen=True)
class ToolResult:
    """What a tool gave back for a call. content: what the model reads of it. error: why it is no result; None if it
    is one."""

    call: ToolCall
    content: str
    error: str | None = None


@dataclass(frozen=True)
class OtherDelta:
    """More of a message that the model wrote in another `role`: an invented user turn or tool result."""

    role: str
    text: str


@dataclass(frozen=True)
class MessageDone:
    """A message is complete; its deltas have all been given."""

    message: Message


@dataclass(frozen=True)
class Done:
    """The completion is over. The texts are those of all its messages of one kind, in order.

    trailing: token ids behind the last message that belong to none, such as a second stop token.
    """

    reason: EndReason
    text: str
    reasoning: str
    preamble: str
    messages: tuple[Message, ...]
    trailing: tuple[int, ...] = ()

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, in order."""
        return tuple(message.call for message in self.messages if message.call is not None)


Delta = ReasoningDelta | PreambleDelta | TextDelta | ToolCallDelta | OtherDelta
Event = Delta | ToolCallDone | ToolResult | MessageDone | Done
