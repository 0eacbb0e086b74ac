"""A prompt from messages and tools as callers have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gptoss_native.harmony.clients import Messages
from gptoss_native.harmony.conversation import Conversation
from gptoss_native.harmony.messages import Effort, ResponseFormat, SystemContent
from gptoss_native.harmony.render import DropAnalysis, RecipientPosition
from gptoss_native.harmony.toolbox import Toolbox
from gptoss_native.tokenizer import Tokenizer


def render(
    messages: Messages,
    tokenizer: Tokenizer,
    *,
    reasoning: Effort | None = None,
    system: SystemContent | None = None,
    tools: Toolbox | Iterable[Any] | None = None,
    response_format: ResponseFormat | Mapping[str, Any] | None = None,
    drop_analysis: DropAnalysis = "last_final",
    recipient: RecipientPosition = "role",
) -> list[int]:
    """Prompt for the assistant's next turn: a system message, tools, `messages`, and `<|start|>assistant`.

    messages: see `read_messages`; those that a Parser made keep their tokens, see `Conversation`. tools: see `toolbox`.
    The Harmony system message is not for instructions but for identity, dates, reasoning effort, built-in tools and
    channels, and is written from `system`, with `reasoning` (default: medium) in it. Where `messages` begins with a
    `Message` of role "system", that one is used instead.
    Functions are declared in the first developer message, where the messages begin with one, else in one of their
    own, and so is `response_format`, see `read_response_format`.
    drop_analysis, recipient: see `render_conversation`.

    Raises MessageError, naming the message and what was expected, and TokenizerError if the vocabulary lacks
    a special token of the format.
    """
    conversation = Conversation.from_messages(
        messages, tokenizer, reasoning=reasoning, system=system, tools=tools, response_format=response_format,
        drop_analysis=drop_analysis, recipient=recipient)
    return conversation.tokens_for_completion()


def instructions_end(prompt: Sequence[int], tokenizer: Tokenizer) -> int:
    """How many tokens of a rendered prompt are system and developer messages at its beginning, which other
    conversations may begin with too."""
    ids, start = list(prompt), tokenizer.special("<|start|>")  # text has no control tokens
    roles = [tokenizer.encode("system"), tokenizer.encode("developer")]
    end = 0
    while ids[end : end + 1] == [start] and any(ids[end + 1 : end + 1 + len(role)] == role for role in roles):
        try:
            end = ids.index(start, end + 1)
        except ValueError:
            return len(ids)
    return end
