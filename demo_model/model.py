"""gpt-oss in torch, for training only: many short conversations at once, each behind one of a few preambles.

Conversations of similar length lie together in a `Chunk`, padded to a rectangle; the matrix products take the
tokens of all chunks as one long row, only attention looks at them apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from demo_model.batches import Batch
from demo_model.mxfp4 import quantised
from demo_model.operations import norm, reordered, rotate, sink_softmax, swiglu, weighted_sum


@dataclass(frozen=True)
class Config:
    """Names and meaning as in a checkpoint's config.json."""

    hidden_size: int = 128
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 32
    num_local_experts: int = 8
    num_experts_per_tok: int = 2
    intermediate_size: int = 128
    vocab_size: int = 768
    sliding_window: int = 128
    rope_theta: float = 150000.0
    rope_factor: float = 32.0
    original_context: int = 4096
    beta_fast: float = 32.0
    beta_slow: float = 1.0


def rope_frequencies(config: Config) -> Tensor:
    """(head_dim / 2,) YaRN, not truncated."""
    half = config.head_dim // 2
    index = torch.arange(half, dtype=torch.float64)
    base = config.rope_theta ** (2 * index / config.head_dim)

    def turning(rotations: float) -> float:
        return half * math.log(config.original_context / (2 * math.pi * rotations)) / math.log(config.rope_theta)

    low, high = turning(config.beta_fast), turning(config.beta_slow)
    ramp = ((index - low) / (high - low)).clamp(0, 1)
    return (ramp / (config.rope_factor * base) + (1 - ramp) / base).float()


class Layer(nn.Module):
    def __init__(self, config: Config, index: int) -> None:
        super().__init__()
        self.config, self.full = config, index % 2
        hidden, inner, experts = config.hidden_size, config.intermediate_size, config.num_local_experts
        heads = config.num_attention_heads + 2 * config.num_key_value_heads
        depth = (2 * config.num_hidden_layers) ** -0.5
        self.attention_norm, self.expert_norm = _ones(hidden), _ones(hidden)
        self.qkv, self.qkv_bias = _normal(heads * config.head_dim, hidden), _zeros(heads * config.head_dim)
        self.out = _normal(hidden, config.num_attention_heads * config.head_dim, scale=depth)
        self.out_bias = _zeros(hidden)
        self.sinks = _zeros(config.num_attention_heads)
        self.router, self.router_bias = _normal(experts, hidden), _zeros(experts)
        self.gate_up, self.gate_up_bias = _normal(experts, 2 * inner, hidden), _zeros(experts, 2 * inner)
        self.down, self.down_bias = _normal(experts, hidden, inner, scale=depth), _zeros(experts, hidden)
        self.imbalance = torch.zeros(())

    def forward(self, x: Tensor, batch: Batch, biases: list[tuple[Tensor, Tensor]], cos: Tensor, sin: Tensor,
                rounded: bool) -> Tensor:
        x = x + self._attention(norm(x, _bf16(self.attention_norm, rounded)), batch, biases, cos, sin, rounded)
        return x + self._experts(norm(x, _bf16(self.expert_norm, rounded)), rounded)

    def _attention(self, x: Tensor, batch: Batch, biases: list[tuple[Tensor, Tensor]], cos: Tensor, sin: Tensor,
                   rounded: bool) -> Tensor:
        config = self.config
        heads, kv, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        qkv = functional.linear(x, _bf16(self.qkv, rounded), _bf16(self.qkv_bias, rounded))
        qk, v = qkv.view(-1, heads + 2 * kv, size).split([heads + kv, kv], 1)
        q, k = rotate(qk, cos, sin).split([heads, kv], 1)
        sinks = _bf16(self.sinks, rounded).view(kv, -1, 1, 1)
        sizes = [chunk.rows * chunk.length for chunk in batch.chunks]
        mixed, shared = [], None
        for chunk, bias, *parts in zip(batch.chunks, biases, q.split(sizes), k.split(sizes), v.split(sizes)):
            cq, ck, cv = (part.view(chunk.rows, chunk.length, -1, size).transpose(1, 2) for part in parts)
            if shared is None or chunk.preamble is None:
                shared = ck, cv
            else:
                ck, cv = (torch.cat([before.index_select(0, chunk.preamble), own], 2)
                          for before, own in zip(shared, (ck, cv)))
            cq = cq.reshape(chunk.rows, kv, -1, size)
            scores = torch.matmul(cq * size**-0.5, ck.transpose(2, 3))
            scores = scores.view(chunk.rows, kv, -1, chunk.length, ck.shape[2])
            weights = sink_softmax(scores, bias[self.full][:, None, None], sinks)
            seen = torch.matmul(weights.view(chunk.rows, kv, -1, ck.shape[2]), cv)
            seen = seen.view(chunk.rows, heads, chunk.length, size).transpose(1, 2)
            mixed.append(seen.reshape(-1, heads * size))
        return functional.linear(torch.cat(mixed), _bf16(self.out, rounded), _bf16(self.out_bias, rounded))

    def _experts(self, x: Tensor, rounded: bool) -> Tensor:
        count, per_token = self.config.num_local_experts, self.config.num_experts_per_tok
        logits = functional.linear(x, _bf16(self.router, rounded), _bf16(self.router_bias, rounded))
        top, chosen = logits.topk(per_token, -1)
        order = chosen.flatten().argsort(stable=True)
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=x.device)
        load = torch.bincount(chosen.flatten(), minlength=count)
        self.imbalance = count * (logits.softmax(-1).mean(0) * (load / load.sum())).sum()
        gate_up, down = (quantised(w) if rounded else w for w in (self.gate_up, self.down))
        gate_up_bias, down_bias = _bf16(self.gate_up_bias, rounded), _bf16(self.down_bias, rounded)
        copies = reordered(x[:, None].expand(-1, per_token, -1).reshape(len(order), -1), order, back)
        results = []
        for expert, rows in enumerate(copies.split(load.tolist())):
            inner = swiglu(functional.linear(rows, gate_up[expert]), gate_up_bias[expert])
            results.append(functional.linear(inner, down[expert], down_bias[expert]))
        result = reordered(torch.cat(results), back, order).view(len(x), per_token, -1)
        return weighted_sum(result, top.softmax(-1)[:, :, None])


class Model(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = _normal(config.vocab_size, config.hidden_size, scale=0.5 * config.hidden_size**0.5)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.num_hidden_layers))
        self.final_norm = _ones(config.hidden_size)
        self.unembedding = _normal(config.vocab_size, config.hidden_size, scale=0.5)
        self.frequencies: Tensor
        self.register_buffer("frequencies", rope_frequencies(config), persistent=False)
        self.concentration = 0.1 * math.log(config.rope_factor) + 1

    def forward(self, batch: Batch, rounded: bool) -> Tensor:
        """Logits (m, vocabulary) before the learned tokens. rounded: with weights as the checkpoint holds them."""
        angles = batch.positions[:, None].float() * self.frequencies
        cos, sin = ((f(angles) * self.concentration)[:, None] for f in (torch.cos, torch.sin))
        x = functional.embedding(batch.tokens, _bf16(self.embedding, rounded))
        biases = [chunk.bias(self.config.sliding_window) for chunk in batch.chunks]
        for layer in self.layers:
            x = layer(x, batch, biases, cos, sin, rounded)
        x = norm(x.index_select(0, batch.learned), _bf16(self.final_norm, rounded))
        return functional.linear(x, _bf16(self.unembedding, rounded))

    def imbalance(self) -> Tensor:
        """1 where all experts are used alike, more where they are not; mean of the layers, of the last batch."""
        return torch.stack([layer.imbalance for layer in self.layers]).mean()  # type: ignore[misc]


def _bf16(weight: Tensor, rounded: bool) -> Tensor:
    return weight + (weight.detach().bfloat16().float() - weight.detach()) if rounded else weight


def _ones(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(shape))


def _zeros(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))


def _normal(*shape: int, scale: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) * shape[-1] ** -0.5 * scale)
