"""Messages are checked before they are rendered: fields of the right type, none that spells a control token."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gptoss_native.config.strict_json import shown
from gptoss_native.harmony.controls import CONSTRAIN, control_spelling_in
from gptoss_native.harmony.messages import (
    EFFORTS,
    ROLES,
    DeveloperContent,
    Message,
    MessageError,
    ResponseFormat,
    SystemContent,
)
from gptoss_native.harmony.tools import Tool, ToolNamespace
from gptoss_native.tokenizer import Tokenizer

_RECIPIENT = re.compile(r"\sto=")


def check_message(message: Message, tokenizer: Tokenizer, compat: bool = False) -> None:
    """Raises MessageError, naming the field and what was expected, if `message` cannot be rendered.

    compat: a header field may spell a control token, which stays text, or a recipient.
    """
    if message.role not in ROLES:
        raise MessageError(f"a message has role {shown(message.role)}, expected one of {', '.join(ROLES)}")
    where = f"a message with role {message.role!r}"
    for item in message.items:
        if not isinstance(item, (str, SystemContent, DeveloperContent)):
            raise MessageError(f"{where} has content of type {type(item).__name__}, expected text, SystemContent or "
                               "DeveloperContent")
        _check_texts(item, where)
    content_type = message.content_type
    if isinstance(content_type, str) and content_type.startswith(CONSTRAIN):
        content_type = content_type[len(CONSTRAIN):]
    fields = {"name": message.name, "channel": message.channel, "recipient": message.recipient,
              "content_type": content_type}
    for field, value in fields.items():
        if value is not None and not isinstance(value, str):
            raise MessageError(f"the {field} of {where} is {shown(value)}, expected text or None")
        spelling = control_spelling_in(value, tokenizer) if value is not None and not compat else None
        if spelling is not None:
            raise MessageError(f"the {field} of {where} contains {spelling}; a header field must not spell a control "
                               "token")
        if value is not None and not compat and _RECIPIENT.search(value):
            raise MessageError(f"the {field} of {where} is {shown(value)}; a header field must not name a recipient, "
                               "as to= does behind a blank")
    if message.role == "tool" and not message.name:
        raise MessageError("a message with role 'tool' needs the name of the tool, as in 'functions.search'")
    for kind, role in ((SystemContent, "system"), (DeveloperContent, "developer")):
        if message.role != role and any(isinstance(item, kind) for item in message.items):
            raise MessageError(f"{kind.__name__} belongs in a message with role {role!r}, not {message.role!r}")


def _check_texts(item: str | SystemContent | DeveloperContent, where: str) -> None:
    for field, value, optional in _texts(item):
        if not isinstance(value, str) and not (optional and value is None):
            raise MessageError(f"the {field} of {where} is {shown(value)}, expected text"
                               f"{' or None' if optional else ''}")


def _texts(item: str | SystemContent | DeveloperContent) -> Iterator[tuple[str, Any, bool]]:
    """Field, value and whether it may be None, of everything that has to be text."""
    if isinstance(item, SystemContent):
        if item.reasoning_effort is not None and item.reasoning_effort not in EFFORTS:
            raise MessageError(f"expected reasoning to be one of {', '.join(EFFORTS)}, found "
                               f"{shown(item.reasoning_effort)}")
        for field in ("model_identity", "knowledge_cutoff", "conversation_start_date"):
            yield field, getattr(item, field), True
        for channel in _several(item.valid_channels, "valid_channels"):
            yield "valid_channels", channel, False
    if isinstance(item, DeveloperContent):
        yield "instructions", item.instructions, True
        for response_format in _several(item.response_formats, "response_formats"):
            if not isinstance(response_format, ResponseFormat):
                raise MessageError(f"response_formats hold {shown(response_format)}, expected ResponseFormat")
            yield "response format's name", response_format.name, False
            yield "response format's description", response_format.description, True
    if not isinstance(item, str):
        for namespace in _several(item.tools, "tools"):
            if not isinstance(namespace, ToolNamespace):
                raise MessageError(f"tools hold {shown(namespace)}, expected ToolNamespace: functions(...), browser() "
                                   "or python()")
            yield from _namespace_texts(namespace)


def _namespace_texts(namespace: ToolNamespace) -> Iterator[tuple[str, Any, bool]]:
    yield "tool namespace's name", namespace.name, False
    yield "tool namespace's key", namespace.key, True
    yield "tool namespace's description", namespace.description, True
    for tool in _several(namespace.tools, f"the tools of {namespace.name}"):
        if not isinstance(tool, Tool):
            raise MessageError(f"the tools of {namespace.name} hold {shown(tool)}, expected Tool")
        yield "tool's name", tool.name, False
        yield "tool's description", tool.description, True


def _several(values: Any, what: str) -> Any:
    if not isinstance(values, (tuple, list)):
        raise MessageError(f"expected a tuple for {what}, found {shown(values)}")
    return values
