"""The header of a message, read with patience: role, channel, recipient, content type, and what is neither.

A well-formed header is `ROLE`, ` to=RECIPIENT`, `<|channel|>CHANNEL`, ` to=RECIPIENT`, ` <|constrain|>TYPE`
or ` TYPE`, in this order, each but the role optional. Models also glue, double, forget and misspell these, or
write their text where a header belongs. What is no field of a header is text; only punctuation and what was said
twice is left out, and kept aside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from gptoss_native.harmony.controls import CONSTRAIN, spell
from gptoss_native.harmony.messages import CHANNELS, ROLES, Role

Part = tuple[str, str]
"""A marker ("", "channel" or "constrain") and the text after it, bytes that are not UTF-8 as surrogates."""

MAX_WORDS = 6
"""More is text: the longest header has fewer, "assistant commentary to=functions.f constrain json"."""
MAX_BYTES = 256
MAX_REMEMBERED_PARTS = 8

_NAMES = "|".join(CHANNELS)
_PUNCTUATION = r"[\s!-/:;=?-@\[-`{-~\u2010-\u2015]"  # ASCII and dashes, but < begins a spelled marker
_MARKER = re.compile(r"<\|(channel|constrain)\|>")
_WORD = re.compile(r"\S+")
_ROLE = re.compile(rf"({'|'.join(ROLES)})(\1*)(?::([^\s<]+))?(?={_NAMES}|to=|\s|$)")
_TO = re.compile(r"to=([^\s<{]*)")
_CHANNEL = re.compile(rf"{_PUNCTUATION}*({_NAMES})", re.IGNORECASE)
_CHANNEL_WORD = re.compile(r"(\s*)([^\s<]*)")
_TYPE_WORD = re.compile(r"(\s*)(?!to=)([^\s<{\[\"]*)")
_TYPE = re.compile(r"[A-Za-z][\w/+.-]*")
_TYPES = ("json", "code", "text")
_TOOL = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+)+|python|browser")
_NAME = re.compile(r"[A-Za-z_][\w.-]*")
_NAME_OR_ITS_BEGINNING = f"{_NAMES}|comment"  # which is a token of its own
_NOISE = re.compile(rf"(?:{_PUNCTUATION}|{_NAME_OR_ITS_BEGINNING})*")
_ONLY_NAMES = re.compile(rf"(?:\s|{_NAME_OR_ITS_BEGINNING})*")
_NOISE_BEFORE_MESSAGE = re.compile(rf"(?:{_PUNCTUATION}|[0-9]|{_NAME_OR_ITS_BEGINNING})*")
_GLUED = re.compile(r"(?!to=)[a-z0-9_-]+")


@dataclass
class Header:
    """Fields of a header.

    prose: text before the channel that belongs to no header: a message of its own, without a channel.
    rest: text after the channel that belongs to no header: the beginning of the content.
    closed: `<|message|>` came after it.
    malformed: it was not well formed.
    stray: what was left out.
    """

    role: Role = "assistant"
    name: str | None = None
    channel: str | None = None
    recipient: str | None = None
    content_type: str | None = None
    prose: str = ""
    rest: str = ""
    closed: bool = False
    malformed: bool = False
    stray: str = ""

    @property
    def blank(self) -> bool:
        """Nothing was said but perhaps a role."""
        return not (self.channel or self.recipient or self.content_type or self.has_text)

    @property
    def has_text(self) -> bool:
        return bool(self.prose.strip() or self.rest.strip())

    @property
    def only_prose(self) -> bool:
        """It was no header at all."""
        fields = self.channel or self.recipient or self.content_type
        return bool(self.prose) and not (fields or self.rest or self.closed)

    def drop_noise(self) -> None:
        """Forgets stray punctuation and channel names, as in `<|channel|>commentary?commentary?`."""
        if self.rest and (_NOISE_BEFORE_MESSAGE if self.closed else _NOISE).fullmatch(self.rest):
            self.malformed |= not self.rest.isspace()
            self.stray += self.rest
            self.rest = ""


def parse_header(parts: tuple[Part, ...], *, role: Role | None, started: bool, closed: bool) -> Header:
    """The fields of a header. The same few come again and again, so what they mean is remembered.

    role: known beforehand, because `<|start|>` and the role were in the prompt; else None.
    started: a `<|start|>` came before it.
    closed: `<|message|>` came after it. If not, it was cut off or was never meant as a header, so only what
    cannot be anything else counts as a field: the role, what a marker introduces, ` to=...` and a type after it.
    """
    read = _parse_header if len(parts) <= MAX_REMEMBERED_PARTS else _parse_header.__wrapped__
    return replace(read(parts, role, started, closed))


@lru_cache(maxsize=256)
def _parse_header(parts: tuple[Part, ...], role: Role | None, started: bool, closed: bool) -> Header:
    header = Header(role or "assistant", closed=closed)
    if closed:
        parts, header.stray = _split_spelled_markers(parts)
    lead = parts[0][1] if parts and not parts[0][0] else ""
    lead = lead[_read_role(header, lead, role, started, closed):]
    typed = any(marker == "constrain" for marker, _ in parts)
    header.prose = _read_fields(header, lead, closed, before_channel=True, typed=typed)
    for marker, text in parts:
        if marker == "channel":
            header.rest += _read_channel(header, text, closed, typed)
        elif marker == "constrain":
            header.rest += _read_type(header, text, closed)
    header.malformed |= not closed or not (started or role) or header.has_text
    if closed:
        header.drop_noise()
    if not header.prose.strip() or closed and _NOISE.fullmatch(header.prose):
        header.stray += header.prose
        header.prose = ""
    if header.role == "tool" and header.name is None:
        header.name = "tool"
    return header


def could_be_channel(text: str) -> bool:
    """Whether `text`, after a channel marker inside a message, may become the header of a known channel."""
    text = text.lstrip()
    return any(channel.startswith(text) or text.startswith(channel) for channel in CHANNELS)


def only_names(text: str) -> bool:
    """Whether `text` has nothing but names of channels."""
    return _ONLY_NAMES.fullmatch(text) is not None


def _split_spelled_markers(parts: tuple[Part, ...]) -> tuple[tuple[Part, ...], str]:
    """Markers written out in ordinary tokens count too: no name may end in `<|channel|>commentary`. Also returns
    their spellings."""
    split: list[Part] = []
    spelled = ""
    for marker, text in parts:
        first, *others = _MARKER.split(text)
        split += [(marker, first), *zip(others[::2], others[1::2], strict=True)]
        spelled += "".join(map(spell, others[::2]))
    return tuple(split), spelled


def _read_role(header: Header, text: str, known: Role | None, started: bool, closed: bool) -> int:
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


def _read_fields(
    header: Header, text: str, closed: bool, *, before_channel: bool = False, typed: bool = False
) -> str:
    """Takes fields from the beginning of `text` and returns what is left.

    Words without `to=` or a marker count as fields only if all of a closed section reads as fields. typed: a
    marker follows.
    """
    if closed:
        trial = replace(header)
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
        _TOOL.fullmatch(word) or _NAME.fullmatch(word) and (following[0] in _TYPES if following else typed)
    ):
        header.malformed = True
        header.recipient = word
    else:
        return False
    return True


def _read_channel(header: Header, text: str, closed: bool, typed: bool) -> str:
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
        return _read_fields(header, glued + text[match.end():], closed, typed=typed)
    trial = replace(header, channel=header.channel or word or None)
    trial.stray += f" {word}" if header.channel is not None else ""
    rest = _read_fields(trial, text[match.end():], closed, typed=typed)
    if word and (rest.strip() or not closed and not _NOISE.fullmatch(word)):
        return text  # no channel that anyone knows: words of a sentence
    header.__dict__.update(trial.__dict__)
    return rest


def _read_type(header: Header, text: str, closed: bool) -> str:
    """Sets the content type from the text after its marker, and returns the text that is no field."""
    match = _TYPE_WORD.match(text)
    marked = header.content_type is not None and header.content_type.startswith(CONSTRAIN)
    if match is None or marked or not (closed or match[2] in _TYPES):
        header.content_type = header.content_type or CONSTRAIN
        header.malformed = True
        return _read_fields(header, text, closed)
    header.stray += f" {header.content_type}" if header.content_type is not None else ""
    header.content_type = CONSTRAIN + match[2]
    header.malformed |= bool(match[1])
    return _read_fields(header, text[match.end():], closed)
