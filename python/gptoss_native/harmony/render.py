"""Messages to tokens. Text is always encoded as ordinary text: only this module makes control tokens.

Where the format puts a `+`, the tokenizer is called anew: what BPE would merge across it, the model never saw
merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from gptoss_native.config.strict_json import shown
from gptoss_native.harmony.controls import CONSTRAIN, control_spelling_in, spell
from gptoss_native.harmony.messages import (
    ROLES,
    DeveloperContent,
    Item,
    Message,
    MessageError,
    SystemContent,
)
from gptoss_native.tokenizer import Tokenizer

DropAnalysis = Literal["last_final", "first_final", "none"]


def render_conversation(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """Token ids of the messages, one after the other.

    Raises MessageError if a header field contains a control token's spelling or a tool result has no name,
    and TokenizerError if the vocabulary lacks a special token that is needed.
    """
    return [token for message in messages for token in render_message(message, tokenizer)]


def render_message(message: Message, tokenizer: Tokenizer) -> list[int]:
    """Token ids of one message: `<|start|>` header `<|message|>` content, and `<|call|>` or `<|end|>`."""
    _check(message, tokenizer)
    encode, special = tokenizer.encode, tokenizer.special
    ids = [special("<|start|>")]
    if message.role == "tool":
        ids += encode(message.name or "")
    else:
        ids += encode(message.role)
        if message.name is not None:
            ids += encode(f":{message.name}")
    addressed = message.recipient is not None and message.recipient != "all"
    if addressed:
        ids += encode(f" to={message.recipient}")
    if message.channel is not None:
        ids += [special("<|channel|>"), *encode(message.channel)]
    if message.content_type is not None:
        if message.content_type.startswith(CONSTRAIN):
            ids += [*encode(" "), special(CONSTRAIN), *encode(message.content_type[len(CONSTRAIN):])]
        else:
            ids += encode(f" {message.content_type}")
    ids.append(special("<|message|>"))
    for item in message.items:
        ids += encode(content_text(item))
    ids.append(special(spell("call" if message.role == "assistant" and addressed else "end")))
    return ids


def content_text(item: Item) -> str:
    """The text that stands for a content item."""
    if isinstance(item, SystemContent):
        return system_text(item)
    return developer_text(item) if isinstance(item, DeveloperContent) else item


def system_text(content: SystemContent) -> str:
    """Identity and dates, reasoning effort, channels: those that are present, a blank line apart."""
    date = content.conversation_start_date
    facts = [
        content.model_identity,
        None if content.knowledge_cutoff is None else f"Knowledge cutoff: {content.knowledge_cutoff}",
        None if date is None else f"Current date: {date}",
    ]
    lines = [fact for fact in facts if fact is not None]
    sections = ["\n".join(lines)] if lines else []
    if content.reasoning_effort is not None:
        sections.append(f"Reasoning: {content.reasoning_effort}")
    if content.valid_channels:
        required = " Channel must be included for every message." if content.channel_required else ""
        sections.append(f"# Valid channels: {', '.join(content.valid_channels)}.{required}")
    return "\n\n".join(sections)


def developer_text(content: DeveloperContent) -> str:
    """The instructions, verbatim, under their heading."""
    return "" if content.instructions is None else f"# Instructions\n\n{content.instructions}"


def without_old_analysis(messages: Sequence[Message], policy: DropAnalysis) -> list[Message]:
    """The messages without reasoning that earlier answers have made obsolete.

    last_final: analysis before the last answer of the assistant goes; what follows it, in a tool loop, stays.
    first_final: analysis before the first final message goes, and only if the last assistant message is
    final; this is what the openai-harmony library does. none: everything stays.
    """
    before = 0
    if policy == "last_final":
        finals = [i for i, m in enumerate(messages) if m.role == "assistant" and m.channel == "final"]
        before = finals[-1] if finals else 0
    elif policy == "first_final":
        answers = [m for m in messages if m.role == "assistant"]
        if answers and answers[-1].channel == "final":
            before = next(i for i, m in enumerate(messages) if m.channel == "final")
    return [m for i, m in enumerate(messages) if i >= before or m.channel != "analysis"]


def _check(message: Message, tokenizer: Tokenizer) -> None:
    if message.role not in ROLES:
        raise MessageError(f"a message has role {shown(message.role)}, expected one of {', '.join(ROLES)}")
    for item in message.items:
        if not isinstance(item, (str, SystemContent, DeveloperContent)):
            raise MessageError(f"a message with role {message.role!r} has content of type "
                               f"{type(item).__name__}, expected text, SystemContent or DeveloperContent")
    content_type = message.content_type
    if content_type is not None and content_type.startswith(CONSTRAIN):
        content_type = content_type[len(CONSTRAIN):]
    fields = {"name": message.name, "channel": message.channel, "recipient": message.recipient,
              "content_type": content_type}
    for field, value in fields.items():
        spelling = control_spelling_in(value, tokenizer) if value is not None else None
        if spelling is not None:
            raise MessageError(f"the {field} of a message with role {message.role!r} contains {spelling}; "
                               "a header field must not spell a control token")
    if message.role == "tool" and not message.name:
        raise MessageError("a message with role 'tool' needs the name of the tool, as in 'functions.search'")
    for kind, role in ((SystemContent, "system"), (DeveloperContent, "developer")):
        if message.role != role and any(isinstance(item, kind) for item in message.items):
            raise MessageError(
                f"{kind.__name__} belongs in a message with role {role!r}, not {message.role!r}")
