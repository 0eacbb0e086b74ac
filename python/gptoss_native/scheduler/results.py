"""What a generation gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length"]
"""stop: a stop token was drawn, or a stop text became complete. length: max_tokens were generated, or the context is
full."""

TopLogprobs = tuple[tuple[int, float], ...]
"""(token id, log probability) of the most probable tokens, most probable first."""


@dataclass(frozen=True)
class StreamToken:
    """One generated token.

    text: what can be shown now. The pieces of all tokens add up to the whole text; a character whose bytes are
    spread over several tokens comes with the last of them, what might become a stop text when it is clear that it
    does not; a stop token or text adds none. None where the folder has no tokenizer.json.
    finish_reason: of the last token; None before.
    logprob, top_logprobs: from the logits as the model gave them; None and empty unless SamplingParams asked.
    index: of which of the n samples of the prompt this is the next token.
    forced: it was not drawn; something that steers the generation put it there, a budget for reasoning perhaps.
    """

    id: int
    text: str | None
    finish_reason: FinishReason | None = None
    logprob: float | None = None
    top_logprobs: TopLogprobs = ()
    index: int = 0
    forced: bool = False


@dataclass(frozen=True)
class Completion:
    """A finished generation.

    tokens: every token drawn; where a stop token ended it, the last one is that.
    text: their text without the stop token or text; None where the folder has no tokenizer.json.
    prompt_tokens: length of the prompt; cached_tokens of them were still in the KV cache and cost nothing.
    seed: the one that was used; it repeats this very completion.
    queue_seconds, prefill_seconds, decode_seconds: wall-clock time until the work began, from there to the first
    token, and for all the others.
    logprobs, top_logprobs: one entry for each token, 0 and none for a forced one; None unless SamplingParams asked.
    others: the other samples of the prompt, where n was more than 1.
    """

    tokens: tuple[int, ...]
    text: str | None
    finish_reason: FinishReason
    prompt_tokens: int
    cached_tokens: int
    seed: int
    queue_seconds: float
    prefill_seconds: float
    decode_seconds: float
    logprobs: tuple[float, ...] | None = None
    top_logprobs: tuple[TopLogprobs, ...] | None = None
    others: tuple[Completion, ...] = ()

    @property
    def completions(self) -> tuple[Completion, ...]:
        """All n samples of the prompt, this one first."""
        return (self, *self.others)
