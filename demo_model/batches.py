"""Conversations as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNKS = 6
LENGTH_STEP = 8
"""Lengths of rectangles are multiples of this."""


@dataclass(frozen=True)
class Chunk:
    """Conversations of similar length, as a rectangle.

    rows, length: its shape; it lies in the batch's row of tokens behind the chunks before it.
    preamble: (rows,) which preamble each goes on from; None for the preambles themselves.
    bias: per kind of layer (sliding, full), (rows, length, preamble's + own length): 0 where a token is seen,
    else -inf.
    """

    rows: int
    length: int
    preamble: Tensor | None
    bias: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Batch:
    """The first chunk holds the preambles.

    tokens, positions: (n,) of all chunks. learned: (m,) places before the tokens that are learned.
    targets: (m,) those tokens. rows: (m,) which conversation each belongs to.
    """

    tokens: Tensor
    positions: Tensor
    chunks: list[Chunk]
    learned: Tensor
    targets: Tensor
    rows: Tensor


@dataclass(frozen=True)
class Conversation:
    """preamble: which of the batch's. tokens: of the body. learned: which of them the model writes."""

    preamble: int
    tokens: list[int]
    learned: list[bool]


def make_batch(preambles: Sequence[list[int]], conversations: Sequence[Conversation], window: int) -> Batch:
    """All conversations, each going on from its preamble."""
    order = sorted(range(len(conversations)), key=lambda i: len(conversations[i].tokens))
    size = -(-len(order) // CHUNKS)
    no_tokens: list[list[int]] = [[]] * len(preambles)
    tokens, positions, bias = _rectangle(preambles, no_tokens, window)
    all_tokens, all_positions = [tokens.flatten()], [positions.flatten()]
    chunks = [Chunk(len(preambles), tokens.shape[1], None, bias)]
    learned, targets, rows = [], [], []
    for members in (order[i : i + size] for i in range(0, len(order), size)):
        start = sum(map(len, all_tokens))
        picked = [conversations[index] for index in members]
        before = [preambles[conversation.preamble] for conversation in picked]
        longest = max(map(len, preambles))
        tokens, positions, bias = _rectangle([c.tokens for c in picked], before, window, longest)
        for i, (index, conversation) in enumerate(zip(members, picked)):
            places = [place for place, wanted in enumerate(conversation.learned) if wanted]
            learned += [start + i * tokens.shape[1] + place - 1 for place in places]
            targets += [conversation.tokens[place] for place in places]
            rows += [index] * len(places)
        all_tokens.append(tokens.flatten())
        all_positions.append(positions.flatten())
        chunks.append(Chunk(len(picked), tokens.shape[1], torch.tensor([c.preamble for c in picked]), bias))
    return Batch(torch.cat(all_tokens), torch.cat(all_positions), chunks, torch.tensor(learned),
                 torch.tensor(targets), torch.tensor(rows))


def _rectangle(
    lists: Sequence[list[int]], before: Sequence[list[int]], window: int, longest_before: int = 0
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """(tokens, positions, bias) of rows that go on from `before`, which lies in a rectangle of its own."""
    count, shared = len(lists), -(-longest_before // LENGTH_STEP) * LENGTH_STEP
    length = -(-max(map(len, lists)) // LENGTH_STEP) * LENGTH_STEP
    tokens = torch.zeros(count, length, dtype=torch.long)
    position = torch.full((count, shared + length), -1)
    for i, (own, preamble) in enumerate(zip(lists, before)):
        tokens[i, : len(own)] = torch.tensor(own)
        position[i, : len(preamble)] = torch.arange(len(preamble))
        position[i, shared : shared + len(own)] = torch.arange(len(own)) + len(preamble)
    distance = position[:, shared:, None] - position[:, None, :]
    seen = (distance >= 0) & (position >= 0)[:, None, :]
    sliding, full = (torch.where(mask, 0.0, float("-inf")) for mask in (seen & (distance < window), seen))
    return tokens, position[:, shared:].clamp_min(0), (sliding, full)
