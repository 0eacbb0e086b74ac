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
    positions: (rows, preamble's + own length), -1 where there is no token.
    """

    rows: int
    length: int
    preamble: Tensor | None
    positions: Tensor

    def to(self, device: torch.device) -> Chunk:
        preamble = None if self.preamble is None else self.preamble.to(device)
        return Chunk(self.rows, self.length, preamble, self.positions.to(device))

    def bias(self, window: int) -> tuple[Tensor, Tensor]:
        """Per kind of layer (sliding, full), (rows, length, preamble's + own length): 0 where seen, else -inf."""
        distance = self.positions[:, -self.length :, None] - self.positions[:, None, :]
        seen = (distance >= 0) & (self.positions >= 0)[:, None, :]
        sliding, full = (torch.where(mask, 0.0, float("-inf")) for mask in (seen & (distance < window), seen))
        return sliding, full


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

    def to(self, device: torch.device) -> Batch:
        tensors = (self.tokens, self.positions, self.learned, self.targets, self.rows)
        tokens, positions, learned, targets, rows = (tensor.to(device) for tensor in tensors)
        return Batch(tokens, positions, [chunk.to(device) for chunk in self.chunks], learned, targets, rows)


@dataclass(frozen=True)
class Conversation:
    """preamble: which of the batch's. tokens: of the body. learned: which of them the model writes."""

    preamble: int
    tokens: list[int]
    learned: list[bool]


def make_batch(preambles: Sequence[list[int]], conversations: Sequence[Conversation]) -> Batch:
    """All conversations, each going on from its preamble."""
    order = sorted(range(len(conversations)), key=lambda i: len(conversations[i].tokens))
    size = -(-len(order) // CHUNKS)
    no_tokens: list[list[int]] = [[]] * len(preambles)
    tokens, positions = _rectangle(preambles, no_tokens)
    all_tokens, all_positions = [tokens.flatten()], [positions.clamp_min(0).flatten()]
    chunks = [Chunk(*tokens.shape, None, positions)]
    learned, targets, rows = [], [], []
    for members in (order[i : i + size] for i in range(0, len(order), size)):
        start = sum(map(len, all_tokens))
        picked = [conversations[index] for index in members]
        before = [preambles[conversation.preamble] for conversation in picked]
        longest = max(map(len, preambles))
        tokens, positions = _rectangle([c.tokens for c in picked], before, longest)
        for i, (index, conversation) in enumerate(zip(members, picked)):
            places = [place for place, wanted in enumerate(conversation.learned) if wanted]
            learned += [start + i * tokens.shape[1] + place - 1 for place in places]
            targets += [conversation.tokens[place] for place in places]
            rows += [index] * len(places)
        all_tokens.append(tokens.flatten())
        all_positions.append(positions[:, -tokens.shape[1] :].clamp_min(0).flatten())
        chunks.append(Chunk(*tokens.shape, torch.tensor([c.preamble for c in picked]), positions))
    return Batch(torch.cat(all_tokens), torch.cat(all_positions), chunks, torch.tensor(learned),
                 torch.tensor(targets), torch.tensor(rows))


def _rectangle(
    lists: Sequence[list[int]], before: Sequence[list[int]], longest_before: int = 0
) -> tuple[Tensor, Tensor]:
    """(tokens, positions) of rows that go on from `before`, which lies in a rectangle of its own."""
    count, shared = len(lists), -(-longest_before // LENGTH_STEP) * LENGTH_STEP
    length = -(-max(map(len, lists)) // LENGTH_STEP) * LENGTH_STEP
    tokens = torch.zeros(count, length, dtype=torch.long)
    positions = torch.full((count, shared + length), -1)
    for i, (own, preamble) in enumerate(zip(lists, before)):
        tokens[i, : len(own)] = torch.tensor(own)
        positions[i, : len(preamble)] = torch.arange(len(preamble))
        positions[i, shared : shared + len(own)] = torch.arange(len(own)) + len(preamble)
    return tokens, positions
