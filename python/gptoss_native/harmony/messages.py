"""The parts of a conversation in the Harmony format, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from gptoss_native.errors import GptOssError
from gptoss_native.harmony.tools import JsonObject, ToolNamespace

if TYPE_CHECKING:
    from gptoss_native.harmony.toolbox import ToolCall

Role = Literal["user", "assistant", "system", "developer", "tool"]
Effort = Literal["low", "medium", "high"]
Terminator = Literal["end", "return", "call", "eos", "implicit"]
Kind = Literal["reasoning", "preamble", "text", "call", "other"]

ROLES: tuple[Role, ...] = ("user", "assistant", "system", "developer", "tool")
EFFORTS: tuple[Effort, ...] = ("low", "medium", "high")
KINDS: tuple[Kind, ...] = ("reasoning", "preamble", "text", "call", "other")
CHANNELS = ("analysis", "commentary", "final")


class MessageError(GptOssError, ValueError):
    """A message cannot be rendered; the sentence names the message and what was expected."""


@dataclass(frozen=True)
class SystemContent:
    """What a Harmony system message says. None leaves a line out; an empty text keeps it, empty.

    The dates are the caller's; today's is never filled in. tools: the built-in ones, `browser()` and `python()`.
    """

    model_identity: str | None = "You are ChatGPT, a large language model trained by OpenAI."
    reasoning_effort: Effort | None = "medium"
    knowledge_cutoff: str | None = "2024-06"
    conversation_start_date: str | None = None
    valid_channels: tuple[str, ...] = CHANNELS
    channel_required: bool = True
    tools: tuple[ToolNamespace, ...] = ()


@dataclass(frozen=True)
class ResponseFormat:
    """A JSON schema that the answer is to follow. The model is told of it; nothing enforces it."""

    name: str
    schema: JsonObject = field(hash=False)
    description: str | None = None


@dataclass(frozen=True)
class DeveloperContent:
    """What a Harmony developer message says: instructions, which elsewhere are called the system prompt, and
    tools: `functions(...)`."""

    instructions: str | None = None
    tools: tuple[ToolNamespace, ...] = ()
    response_formats: tuple[ResponseFormat, ...] = ()


Item = str | SystemContent | DeveloperContent


@dataclass(frozen=True)
class Message:
    """One message, to be rendered or as parsed.

    content: one item or several; each is tokenized on its own and nothing is put between them.
    name: the user's or developer's, or of a tool whose result this is.
    channel, recipient, content_type: header fields; None leaves them out. A content type that begins with
    "<|constrain|>" is rendered with that special token.

    The parser also says:
    terminator: what ended the message. implicit: the next header, without an end; eos: the end of the tokens.
    malformed: the tokens were not what the format asks for, and this is the parser's best reading.
    stray: text of its header that is no field of it, such as punctuation or a name said twice; not to be shown.
    token_ids: all ids since the previous message ended.
    call: the tool call that it is, if it is one.
    """

    role: Role
    content: Item | tuple[Item, ...] = ""
    name: str | None = None
    channel: str | None = None
    recipient: str | None = None
    content_type: str | None = None
    terminator: Terminator | None = None
    malformed: bool = False
    stray: str = ""
    token_ids: tuple[int, ...] = ()
    call: ToolCall | None = None

    @property
    def items(self) -> tuple[Item, ...]:
        return self.content if isinstance(self.content, tuple) else (self.content,)

    @property
    def text(self) -> str:
        """The text items of the content."""
        return "".join(item for item in self.items if isinstance(item, str))

    @property
    def kind(self) -> Kind:
        return kind_of(self.role, self.channel, self.recipient)


def kind_of(role: str, channel: str | None, recipient: str | None) -> Kind:
    """What a message means to the user: the recipient decides, then the channel; none is an answer."""
    if role != "assistant":
        return "other"
    if recipient is not None and recipient != "all" and recipient not in ROLES:
        return "call"
    if channel == "analysis":
        return "reasoning"
    return "preamble" if channel == "commentary" else "text"
