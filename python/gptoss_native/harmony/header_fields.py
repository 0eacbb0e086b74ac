"""The fields of a header, read one by one from the words and markers that a model wrote."""

from __future__ import annotations

import re

from gptoss_native.harmony.controls import CONSTRAIN
from gptoss_native.harmony.header_model import NAMES, NOISE, PUNCTUATION, Header
from gptoss_native.harmony.messages import CHANNELS, ROLES, Role

_ROLE = re.compile(rf"({'|'.join(ROLES)})(\1*)(?::([^\s<]+))?(?={NAMES}|to=|\s|$)")
_TO = re.compile(r"to=([^\s<{]*)")
_CHANNEL = re.compile(rf"{PUNCTUATION}*({NAMES})", re.IGNORECASE)
_CHANNEL_WORD = re.compile(r"(\s*)([^\s<]*)")
_TYPE_WORD = re.compile(r"(\s*)(?!to=)([^\s<{\[\"]*)")
_TYPE = re.compile(r"[A-Za-z][\w/+.-]*")
_TYPES = ("json", "code", "text")
_TOOL = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+)+|python|browser")
_NAME = re.compile(r"[A-Za-z_][\w.-]*")
_GLUED = re.compile(r"(?!to=)[a-z0-9_-]+")
_WORD = re.compile(r"\S+")


def read_role(header: Header, text: str, known: Role | None, started: bool, closed: bool) -> int:
    """Sets role and name, returns where they end. A role may be said again; a missing one is assistant."""
    allowed = (known,) if known else ROLES if started or closed else ("assistant",)
    end, found = 0, known is not None
    while True:
        start = len(text) - len(text[end:].lstrip())
        match = _ROLE.match(text, start)
        if match is None or match[1] not in allowed or (match[3] and not closed):
            break
        header.stray += match.group() if found else match[2]
        header.role, header.name = match[1], header.name or match[3]
        header.malformed |= found or bool(match[2])
        allowed, end, found = (header.role,), match.end(), True
        header.malformed |= end < len(text) and not text[end].isspace()
    words = text.split()
    if not found and started and closed and "to=assistant" in words[1:] and _NAME.fullmatch(words[0]):
        header.role, header.name = "tool", words[0]
        return text.index(words[0]) + len(words[0])
    header.malformed |= not found
    return end


def read_fields(
    header: Header, text: str, closed: bool, *, before_channel: bool = False, typed: bool = False
) -> str:
    """Takes fields from the beginning of `text` and returns what is left.

    Words without `to=` or a marker count as fields only if all of a closed section reads as fields. typed: a
    marker follows.
    """
    if closed:
        trial = header.copy()
        if not _scan_fields(trial, text, True, before_channel, typed).strip():
            header.__dict__.update(trial.__dict__)
            return ""
    return _scan_fields(header, text, False, before_channel, typed)


def _scan_fields(header: Header, text: str, bare: bool, before_channel: bool, typed: bool) -> str:
    end = 0
    while True:
        start = len(text) - len(text[end:].lstrip())
        to = _TO.match(text, start)
        word = to or _WORD.match(text, start)
        if word is None:
            return text[end:]
        if to:
            _read_recipient(header, to)
        elif not _take_word(header, word.group(), text[word.end():].split(), bare, before_channel, typed):
            return text[end:]
        end = word.end()


def _read_recipient(header: Header, to: re.Match[str]) -> None:
    """The first `to=` counts, but a tool before the assistant: no call is dropped."""
    if header.recipient in ROLES and to[1] and to[1] not in ROLES:
        header.malformed = True
        header.stray += f" to={header.recipient}"
        header.recipient = to[1]
    elif header.recipient is not None or not to[1]:
        header.malformed = True
        header.stray += f" {to.group()}"
    else:
        header.recipient = to[1]


def _take_word(
    header: Header, word: str, following: list[str], bare: bool, before_channel: bool, typed: bool
) -> bool:
    """A word without `to=` or marker: channel, content type or recipient by what it is and where."""
    last = not following
    addressed = header.recipient is not None
    if before_channel and bare and word in CHANNELS:
        header.malformed = True
        if header.channel is not None:
            header.stray += f" {word}"
        header.channel = header.channel or word
    elif header.content_type is None and (
        word in _TYPES and (bare or addressed)
        or bare and last and (addressed or header.channel == "final") and _TYPE.fullmatch(word)
    ):
        header.content_type = word
    elif bare and not addressed and header.channel != "final" and (
        _TOOL.fullmatch(word) or word in header.tools
        or _NAME.fullmatch(word) and (following[0] in _TYPES if following else typed)
    ):
        header.malformed = True
        header.recipient = word
    else:
        return False
    return True


def read_channel(header: Header, text: str, closed: bool, typed: bool) -> str:
    """Sets the channel from the text after its marker, and returns the text that is no field."""
    match = _CHANNEL_WORD.match(text)
    assert match is not None  # both groups may be empty
    space, word = match.groups()
    known = _CHANNEL.match(word)
    header.malformed |= bool(space) or word not in CHANNELS or header.channel is not None
    if known:
        header.stray += f" {header.channel} " if header.channel is not None else ""
        header.stray += word[: known.start(1)]
        header.channel = known[1].lower()
        glued = word[known.end():]
        if closed and glued not in _TYPES and _GLUED.fullmatch(glued):  # as in "finally"
            header.stray += glued
            glued = ""
        return read_fields(header, glued + text[match.end():], closed, typed=typed)
    trial = header.copy()
    trial.channel = header.channel or word or None
    trial.stray += f" {word}" if header.channel is not None else ""
    rest = read_fields(trial, text[match.end():], closed, typed=typed)
    if word and (rest.strip() or not closed and not NOISE.fullmatch(word)):
        return text  # no channel that anyone knows: words of a sentence
    header.__dict__.update(trial.__dict__)
    return rest


def read_type(header: Header, text: str, closed: bool) -> str:
    """Sets the content type from the text after its marker, and returns the text that is no field."""
    match = _TYPE_WORD.match(text)
    marked = header.content_type is not None and header.content_type.startswith(CONSTRAIN)
    if match is None or marked or not (closed or match[2] in _TYPES):
        header.content_type = header.content_type or CONSTRAIN
        header.malformed = True
        return read_fields(header, text, closed)
    header.stray += f" {header.content_type}" if header.content_type is not None else ""
    header.content_type = CONSTRAIN + match[2]
    header.malformed |= bool(match[1])
    return read_fields(header, text[match.end():], closed)
