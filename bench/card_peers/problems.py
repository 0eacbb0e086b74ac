"""What is raced: a layer's experts, and attention of a decode step. A problem has operands, turns, and its oracle.

Operands are torch tensors of the device. Activations are numbers of bf16, so that no peer rounds them and all see
the same. Turns read other memory each (other experts, other keys and values), together more than the caches hold;
results are compared with float64, by the device itself, at a few turns and rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch

from gptoss_native.bench import kernel_costs as costs
from gptoss_native.bench.costs import BF16, Cost
from gptoss_native.ops.tolerances import EPSILON, Tolerance

Tensor = torch.Tensor

WRONG = Tolerance(
    6 * EPSILON,
    100 * EPSILON,
    "bf16 wherever a peer may keep something: what a product gives, which swiglu hands on twice as large, its own "
    "result, the output of each expert, and their sum: sqrt(4 + 1 + 1 + 1) EPSILON = 2.6 EPSILON; attention has the "
    "softmax weights and its result, 1.4. Activations in 8 bits cost 2^-4 / sqrt(6) = 16 EPSILON; a mistake, all. The "
    "largest value may be ten times the RMS, and half a unit of bf16 of it is 2^-8 of that, 25 EPSILON",
)
"""A peer that is further off is not timed: it does something else."""
CHECKED_ROWS = 32
"""Tokens of a turn that are compared, at most: some of all."""


@dataclass(frozen=True)
class Shape:
    """Of a layer: gpt-oss-20b's and 120b's."""

    hidden: int = 2880
    inner: int = 2880
    chosen: int = 4
    heads: int = 64
    kv_heads: int = 8
    head_dim: int = 64
    window: int = 128
    limit: float = 7.0
    alpha: float = 1.702


def error(got: Tensor, want: Tensor) -> tuple[float, float]:
    """RMS and largest error, relative to the RMS of `want`; a NaN is infinitely wrong."""
    assert got.shape == want.shape, f"expected the shape {tuple(want.shape)}, found {tuple(got.shape)}"
    difference = (got.double() - want).abs().nan_to_num(nan=math.inf)
    scale = want.square().mean().sqrt()
    return float(difference.square().mean().sqrt() / scale), float(difference.max() / scale)


def bf16_values(generator: torch.Generator, *shape: int, scale: float = 1.0) -> Tensor:
    return (torch.randn(shape, generator=generator, device=generator.device) * scale).bfloat16()


# ---- experts

E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]


def dequantized(blocks: Tensor, scales: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """(..., k) of blocks (..., k / 32, 16), scales (..., k / 32) from 1 to 254, exactly."""
    values = torch.tensor(E2M1 + [-v for v in E2M1], dtype=dtype, device=blocks.device)
    codes = torch.stack([blocks & 15, blocks >> 4], dim=-1).flatten(-2)
    power = (scales.int() << 23).view(torch.float32).to(dtype)  # the exponent of a float32 is that of E8M0
    return (values[codes.int()] * power[..., None]).flatten(-2)


@dataclass(frozen=True)
class Experts:
    """Of a layer, as a checkpoint has them: blocks (experts, rows, k / 32, 16), scales (experts, rows, k /
    32), bias (experts, rows) in bf16; gate and up interleaved."""

    shape: Shape
    up: tuple[Tensor, Tensor, Tensor]
    down: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def random(cls, shape: Shape, count: int, generator: torch.Generator) -> Experts:
        def weights(rows: int, k: int, lowest: int) -> tuple[Tensor, Tensor, Tensor]:
            at = generator.device
            blocks = torch.randint(
                256, (count, rows, k // 32, 16), generator=generator, device=at, dtype=torch.uint8
            )
            scales = torch.randint(
                lowest, lowest + 5, (count, rows, k // 32), generator=generator, device=at, dtype=torch.uint8
            )
            return blocks, scales, bf16_values(generator, count, rows)

        # Codes have an RMS of 2.9, five scales in a row one of 8.3 times the lowest: gates have a deviation of some 3,
        # and a few are clamped.
        lowest = 127 - round(math.log2(2.9 * 8.3 * math.sqrt(shape.hidden) / 3))
        return cls(
            shape, weights(2 * shape.inner, shape.hidden, lowest), weights(shape.hidden, shape.inner, lowest)
        )

    @property
    def count(self) -> int:
        return len(self.up[0])

    def expert_bytes(self) -> int:
        return costs.expert_bytes(2 * self.shape.inner, self.shape.hidden) + costs.expert_bytes(
            self.shape.hidden, self.shape.inner
        )


@dataclass(frozen=True)
class ExpertProblem:
    """x (tokens, hidden) bf16; each turn has its own choice int32 and weight float32 (tokens, chosen), and
    the logits (tokens, experts) bf16 that they follow from: without ties, and exact."""

    experts: Experts
    x: Tensor
    logits: list[Tensor]
    group: str = "experts"

    @classmethod
    def random(
        cls, experts: Experts, tokens: int, turn_bytes: int, most_turns: int, generator: torch.Generator
    ) -> ExpertProblem:
        count, chosen, at = experts.count, experts.shape.chosen, generator.device
        hit = min(tokens * chosen, count)
        turns = max(2, min(most_turns, -(-turn_bytes // (hit * experts.expert_bytes()))))
        logits = []
        for turn in range(turns):
            if tokens == 1:  # round all experts
                order = torch.arange(count, device=at).roll(-chosen * turn)[None]
            else:
                order = torch.rand(tokens, count, generator=generator, device=at).argsort(dim=-1)
            step = torch.tensor([0.25, 0.5, 1.0], device=at)[torch.arange(tokens, device=at) % 3]
            falling = -step[:, None] * torch.arange(count, device=at)
            logits.append(torch.empty(tokens, count, device=at).scatter_(1, order, falling).bfloat16())
        return cls(experts, bf16_values(generator, tokens, experts.shape.hidden), logits)

    @property
    def tokens(self) -> int:
        return len(self.x)

    @property
    def sizes(self) -> dict[str, int]:
        return {"tokens": self.tokens, "experts": self.experts.count}

    @cached_property
    def routes(self) -> list[tuple[Tensor, Tensor]]:
        found = [logits.float().topk(self.experts.shape.chosen) for logits in self.logits]
        return [(top.indices.int(), top.values.softmax(dim=-1)) for top in found]

    @cached_property
    def facts(self) -> dict[str, float]:
        return {"experts_hit": sum(len(choice.unique()) for choice, _ in self.routes) / len(self.routes)}

    @property
    def cost(self) -> Cost:
        """Weights that were chosen; activations in and out, in bf16."""
        s = self.experts.shape
        return Cost(
            round(self.facts["experts_hit"] * self.experts.expert_bytes()) + 2 * BF16 * self.tokens * s.hidden,
            2 * self.tokens * s.chosen * 3 * s.inner * s.hidden,
        )

    @cached_property
    def checked(self) -> Tensor:
        """The tokens whose results are compared."""
        count = min(self.tokens, CHECKED_ROWS)
        return torch.linspace(0, self.tokens - 1, count, device=self.x.device).round().long()

    def rows(self, result: Tensor) -> Tensor:
        return result[self.checked]

    def want(self, turn: int) -> Tensor:
        """In float64, an expert at a time."""
        s, (choice, weight) = self.experts.shape, (part[self.checked] for part in self.routes[turn])
        x = self.x[self.checked].double()
        total = torch.zeros_like(x)
        for e in choice.unique().tolist():
            token, rank = (choice == e).nonzero(as_tuple=True)
            blocks, scales, bias = (part[e] for part in self.experts.up)
            u = x[token] @ dequantized(blocks, scales).T + bias.double()
            gate, up = u[:, 0::2].clamp(max=s.limit), u[:, 1::2].clamp(-s.limit, s.limit)
            h = gate * torch.sigmoid(s.alpha * gate) * (up + 1)
            blocks, scales, bias = (part[e] for part in self.experts.down)
            y = h @ dequantized(blocks, scales).T + bias.double()
            total.index_add_(0, token, weight[token, rank].double()[:, None] * y)
        return total


# ---- attention


@dataclass(frozen=True)
class AttentionProblem:
    """One token of each of `batch` sequences over its keys: q (batch, heads, head_dim), for each turn k and v
    (batch, keys, kv_heads, head_dim), sinks (heads), all in bf16; the same values in every turn."""

    shape: Shape
    window: int | None
    q: Tensor
    kv: list[tuple[Tensor, Tensor]]
    sinks: Tensor
    group: str = field(default="attention, decode")

    @classmethod
    def random(
        cls,
        shape: Shape,
        batch: int,
        keys: int,
        window: int | None,
        turn_bytes: int,
        most_turns: int,
        generator: torch.Generator,
    ) -> AttentionProblem:
        held = 2 * BF16 * batch * keys * shape.kv_heads * shape.head_dim
        turns = max(
            2,
            min(
                most_turns,
                -(-turn_bytes // costs.kv_bytes(batch, keys, shape.kv_heads, shape.head_dim, window, "bf16")),
                (4 << 30) // held,
            ),
        )
        q = bf16_values(generator, batch, shape.heads, shape.head_dim, scale=2)
        k, v = (bf16_values(generator, batch, keys, shape.kv_heads, shape.head_dim) for _ in range(2))
        kv = [(k, v), *((k.clone(), v.clone()) for _ in range(turns - 1))]
        return cls(shape, window, q, kv, bf16_values(generator, shape.heads, scale=2))

    @property
    def batch(self) -> int:
        return len(self.q)

    @property
    def keys(self) -> int:
        return self.kv[0][0].shape[1]

    @property
    def sizes(self) -> dict[str, int]:
        return {"sequences": self.batch, "context": self.keys} | (
            {"window": self.window} if self.window else {}
        )

    @property
    def facts(self) -> dict[str, float]:
        return {}

    @property
    def cost(self) -> Cost:
        """Keys and values that are seen; queries and results, in bf16."""
        s, seen = self.shape, min(self.keys, self.window or self.keys) * self.batch
        return Cost(
            2 * BF16 * seen * s.kv_heads * s.head_dim + 2 * BF16 * self.batch * s.heads * s.head_dim,
            4 * s.heads * s.head_dim * seen,
        )

    def visible(self, turn: int) -> tuple[Tensor, Tensor]:
        k, v = self.kv[turn]
        return (k, v) if self.window is None else (k[:, -self.window :], v[:, -self.window :])

    def rows(self, result: Tensor) -> Tensor:
        return result

    def want(self, turn: int) -> Tensor:
        """In float64, a sequence at a time."""
        s, (k, v) = self.shape, self.visible(turn)
        results = []
        for b in range(self.batch):
            q = self.q[b].double().view(s.kv_heads, -1, s.head_dim)
            scores = torch.einsum("hgd,khd->hgk", q, k[b].double()) / math.sqrt(s.head_dim)
            sink = self.sinks.double().view(s.kv_heads, -1, 1)
            weight = torch.cat([scores, sink], dim=-1).softmax(dim=-1)[..., :-1]
            results.append(torch.einsum("hgk,khd->hgd", weight, v[b].double()).reshape(s.heads, s.head_dim))
        return torch.stack(results)


Problem = ExpertProblem | AttentionProblem


@dataclass(frozen=True)
class Sizes:
    """turn_bytes: what all turns of a round read together, at least: several times the L2 of an H200."""

    tokens: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 512, 2048, 8192)
    experts: tuple[int, ...] = (32, 128)
    contexts: tuple[int, ...] = (128, 1024, 8192, 32768, 131072)
    batches: tuple[int, ...] = (8, 32)
    turn_bytes: int = 256 << 20
    most_turns: int = 256


def problems(shape: Shape, sizes: Sizes, device: str) -> Iterator[Problem]:
    """The experts of the 20b, attention, the experts of the 120b. Each is made when it is asked for."""
    generator = torch.Generator(device).manual_seed(0)
    for number, count in enumerate(sizes.experts):
        experts = Experts.random(shape, count, generator)
        for tokens in sizes.tokens:
            yield ExpertProblem.random(experts, tokens, sizes.turn_bytes, sizes.most_turns, generator)
        del experts
        if number == 0:
            yield from attention_problems(shape, sizes, generator)


def attention_problems(shape: Shape, sizes: Sizes, generator: torch.Generator) -> Iterator[Problem]:
    def problem(batch: int, keys: int, window: int | None) -> Problem:
        return AttentionProblem.random(
            shape, batch, keys, window, sizes.turn_bytes, sizes.most_turns, generator
        )

    for keys in sizes.contexts:
        yield problem(1, keys, None)
    middle = sizes.contexts[len(sizes.contexts) // 2]
    yield problem(1, middle, shape.window)
    for batch in sizes.batches:
        yield problem(batch, sizes.contexts[min(1, len(sizes.contexts) - 1)], None)
