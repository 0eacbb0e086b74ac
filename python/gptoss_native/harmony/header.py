"""The header of a message, read with patience: role, channel, recipient, content type, and what is neither.

A well-formed header is `ROLE`, ` to=RECIPIENT`, `<|channel|>CHANNEL`, ` to=RECIPIENT`, ` <|constrain|>TYPE`
or ` TYPE`, in this order, each but the role optional. Models also glue, double, forget and misspell these, or
write their text where a header belongs. What is no field of a header is text; only punctuation and what was said
twice is left out, and kept aside.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gptoss_native.harmony.controls import spell
from gptoss_native.harmony.header_fields import read_channel, read_fields, read_role, read_type
from gptoss_native.harmony.header_model import NAME_OR_ITS_BEGINNING, NOISE, Header
from gptoss_native.harmony.messages import CHANNELS, Role

Part = tuple[str, str]
"""A marker ("", "channel" or "constrain") and the text after it; bytes at the end of the last part that are not UTF-8
as surrogates."""

MAX_WORDS = 6
"""More is text: the longest header has fewer, "assistant commentary to=functions.f constrain json"."""
MAX_BYTES = 256
MAX_REMEMBERED_PARTS = 8
_MARKER = re.compile(r"<\|(channel|constrain)\|>")
_ONLY_NAMES = re.compile(rf"(?:\s|{NAME_OR_ITS_BEGINNING})*")


def parse_header(parts: tuple[Part, ...], *, role: Role | None, started: bool, closed: bool,
                 tools: frozenset[str] = frozenset()) -> Header:
    """The fields of a header. The same few come again and again, so what they mean is remembered.

    role: known beforehand, because `<|start|>` and the role were in the prompt; else None.
    started: a `<|start|>` came before it.
    closed: `<|message|>` came after it. If not, it was cut off or was never meant as a header, so only what
    cannot be anything else counts as a field: the role, what a marker introduces, ` to=...` and a type after it.
    tools: names that a word without `to=` may be.
    """
    read = _parse_header if len(parts) <= MAX_REMEMBERED_PARTS else _parse_header.__wrapped__
    return read(parts, role, started, closed, tools).copy()


@lru_cache(maxsize=256)
def _parse_header(parts: tuple[Part, ...], role: Role | None, started: bool, closed: bool,
                  tools: frozenset[str]) -> Header:
    header = Header(role or "assistant", closed=closed, tools=tools)
    if closed:
        parts, header.stray = _split_spelled_markers(parts)
    lead = parts[0][1] if parts and not parts[0][0] else ""
    lead = lead[read_role(header, lead, role, started, closed):]
    typed = any(marker == "constrain" for marker, _ in parts)
    header.prose = read_fields(header, lead, closed, before_channel=True, typed=typed)
    for marker, text in parts:
        if marker == "channel":
            header.rest += read_channel(header, text, closed, typed)
        elif marker == "constrain":
            header.rest += read_type(header, text, closed)
    header.malformed |= not closed or not (started or role) or header.has_text
    if closed:
        header.drop_noise()
    if not header.prose.strip() or closed and NOISE.fullmatch(header.prose):
        header.stray += header.prose
        header.prose = ""
    if not closed and len(parts) == 1 and not header.only_prose:  # text behind ` to=...`, not before a channel
        header.rest, header.prose = header.prose, ""
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
