"""Messages to tokens. Text is always encoded as ordinary text: only this package's renderer makes control tokens.

Where the format puts a `+`, the tokenizer is called anew: what BPE would merge across it, the model never saw
merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from gptoss_native.config.strict_json import shown
from gptoss_native.harmony.checks import check_message
from gptoss_native.harmony.content import content_text
from gptoss_native.harmony.controls import CONSTRAIN, spell
from gptoss_native.harmony.messages import ROLES, DeveloperContent, Message, MessageError, Role
from gptoss_native.harmony.tools import FUNCTIONS, ToolNamespace
from gptoss_native.tokenizer import Tokenizer

DropAnalysis = Literal["last_final", "first_final", "none"]
RecipientPosition = Literal["role", "channel"]


def render_conversation(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    drop_analysis: DropAnalysis = "last_final",
    recipient: RecipientPosition = "role",
    compat: bool = False,
) -> list[int]:
    """Token ids of the messages, one after the other, without old reasoning.

    drop_analysis: which, see `without_old_analysis`. recipient: where an assistant's call names the tool, after the
    role as the openai-harmony library does, or after the channel as models mostly do. compat: as that library also
    where it is wrong: a message to "all" ends as a call does, header fields may spell control tokens (as text), and
    see `type_text`; use it with "first_final".

    Raises MessageError if a header field contains a control token's spelling or a tool result has no name, and
    TokenizerError if the vocabulary lacks a special token that is needed.
    """
    check_position(recipient)
    told = has_functions(messages)
    return [
        token
        for message in without_old_analysis(messages, drop_analysis)
        for token in render_message(message, tokenizer, has_functions=told, recipient=recipient, compat=compat)
    ]


def render_conversation_for_completion(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    next_role: Role = "assistant",
    *,
    drop_analysis: DropAnalysis = "last_final",
    recipient: RecipientPosition = "role",
    compat: bool = False,
) -> list[int]:
    """`render_conversation`, and the beginning of the next message: `<|start|>` and its role."""
    if next_role not in ROLES:
        raise MessageError(f"expected the next role to be one of {', '.join(ROLES)}, found {shown(next_role)}")
    ids = render_conversation(
        messages, tokenizer, drop_analysis=drop_analysis, recipient=recipient, compat=compat)
    return [*ids, tokenizer.special("<|start|>"), *tokenizer.encode(next_role)]


def render_conversation_for_training(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    drop_analysis: DropAnalysis = "none",
    recipient: RecipientPosition = "role",
    compat: bool = False,
) -> list[int]:
    """`render_conversation`, with all reasoning, and `<|return|>` at the end of a last final answer."""
    ids = render_conversation(
        messages, tokenizer, drop_analysis=drop_analysis, recipient=recipient, compat=compat)
    last = messages[-1] if messages else None
    answers = last is not None and last.role == "assistant" and last.channel == "final"
    if answers and (compat or ids[-1] == tokenizer.special("<|end|>")):  # a call on that channel stays a call
        ids[-1] = tokenizer.special("<|return|>")
    return ids


def render_message(
    message: Message,
    tokenizer: Tokenizer,
    *,
    has_functions: bool = False,
    recipient: RecipientPosition = "role",
    compat: bool = False,
) -> list[int]:
    """Token ids of one message: `<|start|>` header `<|message|>` content, and `<|call|>` or `<|end|>`.

    has_functions: the conversation declares functions, which a system message says the channel of.
    """
    check_message(message, tokenizer, compat)
    encode, special = tokenizer.encode, tokenizer.special
    ids = [special("<|start|>")]
    if message.role == "tool":
        ids += encode(message.name or "")
    else:
        ids += encode(message.role)
        if message.name is not None:
            ids += encode(f":{message.name}")
    addressed = message.recipient is not None and message.recipient != "all"
    to = encode(f" to={message.recipient}") if addressed else []
    after_channel = recipient == "channel" and message.role == "assistant" and message.channel is not None
    if not after_channel:
        ids += to
    if message.channel is not None:
        ids += [special("<|channel|>"), *encode(message.channel)]
    if after_channel:
        ids += to
    if message.content_type is not None:
        ids += content_type_ids(message.content_type, tokenizer)
    ids.append(special("<|message|>"))
    for item in message.items:
        ids += encode(content_text(item, has_functions=has_functions, compat=compat))
    call = message.role == "assistant" and (addressed or compat and message.recipient is not None)
    ids.append(special(spell("call" if call else "end")))
    return ids


def content_type_ids(content_type: str, tokenizer: Tokenizer) -> list[int]:
    """The content type's place in a header; the marker `<|constrain|>` at its beginning is the special token."""
    if content_type.startswith(CONSTRAIN):
        rest = tokenizer.encode(content_type[len(CONSTRAIN):])
        return [*tokenizer.encode(" "), tokenizer.special(CONSTRAIN), *rest]
    return tokenizer.encode(f" {content_type}")


def check_position(recipient: RecipientPosition) -> None:
    if recipient not in ("role", "channel"):
        raise MessageError(f"expected recipient to be role or channel, found {shown(recipient)}")


def has_functions(messages: Sequence[Message]) -> bool:
    """Whether any developer content declares functions. What is no tool at all is left to `check_message`."""
    return any(
        isinstance(namespace, ToolNamespace) and namespace.tools
        and (namespace.name if namespace.key is None else namespace.key) == FUNCTIONS
        for message in messages
        for item in message.items
        if isinstance(item, DeveloperContent) and isinstance(item.tools, (tuple, list))
        for namespace in item.tools
    )


def without_old_analysis(messages: Sequence[Message], policy: DropAnalysis) -> list[Message]:
    """The messages without reasoning that earlier answers have made obsolete, see `kept_by`."""
    return [message for message, kept in zip(messages, kept_by(messages, policy)) if kept]


def kept_by(messages: Sequence[Message], policy: DropAnalysis) -> list[bool]:
    """Which messages stay in the prompt.

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
    elif policy != "none":
        raise MessageError("expected drop_analysis to be one of last_final, first_final, none, found "
                           f"{shown(policy)}")
    return [i >= before or m.channel != "analysis" for i, m in enumerate(messages)]
