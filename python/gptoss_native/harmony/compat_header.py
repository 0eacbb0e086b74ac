"""The text of a header to its fields, exactly as the openai-harmony library reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gptoss_native.errors import GptOssError
from gptoss_native.harmony.controls import CONSTRAIN, spell
from gptoss_native.harmony.messages import ROLES, Role


class ParseError(GptOssError, ValueError):
    """Tokens that the openai-harmony library refuses. Only the policy "compat" raises it.

    The parser can go on: what follows the next `<|start|>` is read. events: what `Parser.feed` had made known before
    it came to the token. index: of that token in what was fed, or -1 at the end of the tokens.
    """

    index: int = -1
    events: tuple[object, ...] = ()


@dataclass(frozen=True)
class CompatHeader:
    role: Role
    name: str | None
    channel: str | None
    recipient: str | None
    content_type: str | None


CHANNEL = spell("channel")
BLANK = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Unicode's White_Space, for a character class: not what `str.isspace` takes for blank."""

_EDGES = re.compile(rf"\A[{BLANK}]+|[{BLANK}]+\Z")
_CHANNEL_VALUE = re.compile(rf"[^{BLANK}<]*")
_WORD = re.compile(r"[^ \t\n\x0c\r]+")


def parse_compat_header(text: str, preset: Role | None) -> tuple[CompatHeader, list[str]]:
    """The fields, and the words before them that belong to none. Raises ParseError.

    preset: the role, where `<|start|>` and the role were not among the tokens.
    """
    text, channel = _cut_channel(text)
    words = _WORD.findall(_trim(_trim(text).replace(CONSTRAIN, f" {CONSTRAIN}")))
    role, name = preset, None
    if role is None:
        role, name = _role(words)
    if words and words[0] == role:
        del words[0]
    return CompatHeader(role, name, channel, None, None), words


def read_recipient(words: list[str]) -> tuple[str | None, str | None]:
    """Recipient and content type, from the end of a header's words. Raises ParseError if words are left over."""
    recipient = content_type = None
    if words:
        last = words.pop()
        if last.startswith("to=") or not words:
            recipient = last.removeprefix("to=")
        else:
            recipient, content_type = words.pop().removeprefix("to="), last
    if words:
        raise ParseError(f"unexpected tokens remaining in message header: {words}")
    return recipient, content_type


def _cut_channel(text: str) -> tuple[str, str | None]:
    before, marker, after = text.partition(CHANNEL)
    if not marker:
        return text, None
    match = _CHANNEL_VALUE.match(after)
    assert match is not None
    if match.end() == 0:
        raise ParseError("channel marker present but no channel value found in header")
    return before + after[match.end():], match.group()


def _role(words: list[str]) -> tuple[Role, str | None]:
    """The first word is the role, or the name of a tool. Takes the latter out of `words`."""
    if not words:
        raise ParseError("message header did not contain a role")
    first = words[0]
    if first in ROLES:
        return first, first if first == "tool" else None
    if len(words) < 2 and not first.startswith("to="):
        raise ParseError(f"Unknown role: {first}")
    del words[0]
    return "tool", first


def _trim(text: str) -> str:
    return _EDGES.sub("", text)
