"""Generated messages as history: their own token ids where these are sound, else a well-formed rendering."""

from __future__ import annotations

from dataclasses import replace

from gptoss_native.harmony.controls import CONSTRAIN, control_ids
from gptoss_native.harmony.messages import CHANNELS, Kind, Message
from gptoss_native.harmony.render import RecipientPosition, render_message
from gptoss_native.harmony.tolerant import TolerantParser
from gptoss_native.harmony.toolbox import Toolbox
from gptoss_native.tokenizer import Tokenizer

_CHANNELS: dict[Kind, str] = {"reasoning": "analysis", "preamble": "commentary", "call": "commentary", "text": "final"}
_ENDS = ("end", "call", "return", "endoftext")


def generation_ids(tokenizer: Tokenizer) -> list[int]:
    """What a prompt ends in, `<|start|>assistant`."""
    return [tokenizer.special("<|start|>"), *tokenizer.encode("assistant")]


def history_ids(message: Message, tokenizer: Tokenizer, toolbox: Toolbox,
                recipient: RecipientPosition = "role") -> list[int]:
    """Token ids of a message that the parser read, for the prompts to come; none if nothing is to be kept of it.

    These are its own, with the header spelled as the model spelled it, but for the end: `<|return|>` and
    `<|endoftext|>` only end a generation, and what was cut off gets the end it lacks. A malformed message, or one
    that was changed since, is rendered anew. recipient: where a call then names its tool.
    """
    own = own_ids(message, tokenizer)
    if own is not None:
        return own
    sane = sane_message(message, toolbox)
    return [] if sane is None else render_message(sane, tokenizer, recipient=recipient)


def own_ids(message: Message, tokenizer: Tokenizer) -> list[int] | None:
    """The ids that the model produced, in a form that can stand in a prompt; None if there is no such form."""
    ids = list(message.token_ids)
    if message.malformed or not ids:
        return None
    controls = control_ids(tokenizer)
    starts = [i for i, token in enumerate(ids) if controls.get(token) == "start"]
    ids = ids[starts[-1] if starts else 0:]  # stop tokens may come before it
    if controls.get(ids[0]) != "start":
        ids = generation_ids(tokenizer) + ids
    ended = controls.get(ids[-1])
    if ended not in _ENDS:
        ids.append(tokenizer.special("<|call|>" if message.kind == "call" else "<|end|>"))
    elif not (ended == "end" or ended == "call" and message.kind == "call"):
        ids[-1] = tokenizer.special("<|call|>" if message.kind == "call" else "<|end|>")
    names = [controls[token] for token in ids if token in controls]
    once = names.count("start") == names.count("message") == sum(name in _ENDS for name in names) == 1
    return ids if once and _says_the_same(ids, message, tokenizer) else None


def _says_the_same(ids: list[int], message: Message, tokenizer: Tokenizer) -> bool:
    parser = TolerantParser(tokenizer, None, None)
    parser.feed(ids)
    if len(parser.messages) != 1:
        return False
    read = parser.messages[0]
    fields = ("role", "name", "channel", "recipient", "content_type", "text")
    return (not read.malformed and read.token_ids == tuple(ids)
            and all(getattr(read, field) == getattr(message, field) for field in fields))


def sane_message(message: Message, toolbox: Toolbox) -> Message | None:
    """A malformed message as it should have been; None if it says nothing, or in another role than the model's."""
    kind = message.kind
    if kind == "other" or kind != "call" and not message.text.strip():
        return None
    channel = message.channel if kind == "call" and message.channel in CHANNELS else _CHANNELS[kind]
    content_type, to = message.content_type, None
    if kind == "call":
        to = message.recipient
        if message.call is not None and message.call.known:
            to = toolbox.recipient(message.call.name)
        content_type = content_type if content_type not in (None, CONSTRAIN) else f"{CONSTRAIN}json"
    elif content_type == CONSTRAIN:
        content_type = None
    return replace(message, name=None, channel=channel, recipient=to, content_type=content_type, malformed=False,
                   token_ids=())
