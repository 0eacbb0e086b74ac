"""What a stage must read and compute at least: the bytes and the FLOPs that its time is compared with.

Bytes are weights, biases and the KV cache, each once; activations are not counted. A multiply-add is two FLOPs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gptoss_native.config.config import Config

LAYER_STAGES = ("attn_qkv", "attn", "attn_out", "moe_route", "moe_up", "moe_down")

BF16 = 2
KV_BYTES = {"bf16": 2, "f32": 4}
DENSE_BYTES = {"bf16": 2.0, "int8": 33 / 32, "q8_0": 34 / 32}
"""Bytes of one weight of attention and unembedding: 8-bit ones have a scale for 32 of them, of 8 bits, or of 16 in the
files of llama.cpp."""
EXPERT_BYTES = {"mxfp4": 17 / 32, "bf16": 2.0}
"""Bytes of one expert weight: 4-bit codes and an 8-bit scale for 32 of them."""


@dataclass(frozen=True)
class Cost:
    bytes: int = 0
    flops: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.bytes + other.bytes, self.flops + other.flops)


@dataclass(frozen=True)
class Model:
    """A checkpoint's shape, and the formats in which its weights and its cache lie in memory."""

    config: Config
    expert_format: str = "mxfp4"
    kv_dtype: str = "bf16"
    dense: str = "bf16"

    def stage(self, stage: str, tokens: int, *, layer: int = 0, context: int = 0, experts: float = 0,
              rows: int = 1) -> Cost:
        """One stage over `tokens` tokens that follow `context` cached ones.

        layer: which one; only attn depends on it. experts: distinct ones that the tokens chose (moe_up, moe_down).
        rows: of logits (unembed, sample).
        """
        c = self.config
        q, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
        hidden, inter = c.hidden_size, c.intermediate_size
        pairs = tokens * c.num_experts_per_tok
        if stage == "embed":
            return Cost(BF16 * hidden * tokens)
        if stage == "attn_qkv":
            return Cost(BF16 * hidden) + self._dense(hidden, q + 2 * kv, tokens)
        if stage == "attn":
            return Cost(BF16 * c.num_attention_heads) + self._attention(layer, tokens, context)
        if stage == "attn_out":
            return self._dense(q, hidden, tokens)
        if stage == "moe_route":
            return Cost(BF16 * hidden) + _product(hidden, c.num_local_experts, tokens, BF16)
        if stage == "moe_up":
            return self._experts(hidden, 2 * inter, experts, pairs)
        if stage == "moe_down":
            return self._experts(inter, hidden, experts, pairs)
        if stage == "unembed":
            weights = round(DENSE_BYTES[self.dense] * hidden * c.vocab_size)
            return Cost(BF16 * hidden + weights, 2 * hidden * c.vocab_size * rows)
        if stage == "sample":
            return Cost(4 * c.vocab_size * rows)
        raise ValueError(f"no stage is named {stage!r}")

    def step(self, tokens: int, *, context: int = 0, rows: int = 1) -> Cost:
        """A whole step of one sequence, whose last tokens are the rows of logits: what the last layer makes of the others
        but keys and values is not needed. Of the experts, as many are hit as uniform routing hits on average."""
        last = self.config.num_hidden_layers - 1
        layers = (self.stage(stage, tokens, layer=layer, context=context, experts=self.expected_experts(tokens))
                  for layer in range(last) for stage in LAYER_STAGES)
        narrow = (self.stage(stage, rows, layer=last, context=context + tokens - rows, experts=self.expected_experts(rows))
                  for stage in LAYER_STAGES)
        kv = 2 * self.config.num_key_value_heads * self.config.head_dim
        others = Cost(flops=2 * self.config.hidden_size * kv * (tokens - rows))
        return total([self.stage("embed", tokens), *layers, *narrow, others, self.stage("unembed", tokens, rows=rows)])

    def batch(self, sequences: int, *, context: int, experts: float) -> Cost:
        """A step that decodes one token of each of `sequences`, each behind `context` tokens of its own. experts: how
        many distinct ones the tokens choose, the mean over the layers."""
        costs = [self.stage("embed", sequences), self.stage("unembed", sequences, rows=sequences)]
        for layer in range(self.config.num_hidden_layers):
            costs += [self.stage(stage, sequences, experts=experts) for stage in LAYER_STAGES if stage != "attn"]
            costs += [self.stage("attn", 1, layer=layer, context=context)] * sequences
        return total(costs)

    def expected_experts(self, tokens: int) -> float:
        """E (1 - (1 - k/E)^tokens): distinct experts of one layer under uniform routing."""
        experts, chosen = self.config.num_local_experts, self.config.num_experts_per_tok
        return experts * (1 - (1 - chosen / experts) ** tokens)

    def _dense(self, k: int, rows: int, tokens: int) -> Cost:
        return _product(k, rows, tokens, DENSE_BYTES[self.dense])

    def _experts(self, k: int, rows: int, experts: float, pairs: int) -> Cost:
        one = k * rows * EXPERT_BYTES[self.expert_format] + BF16 * rows
        return Cost(round(experts * one), 2 * k * rows * pairs)

    def _attention(self, layer: int, tokens: int, context: int) -> Cost:
        c = self.config
        end, reach = context + tokens, context + tokens
        if c.layer_types[layer] == "sliding_attention":
            reach = c.sliding_window
        keys_read = min(end, tokens + reach - 1)
        visible = sum(min(position + 1, reach) for position in range(context, end))
        per_key = 2 * c.num_key_value_heads * c.head_dim * KV_BYTES[self.kv_dtype]
        return Cost(keys_read * per_key, 4 * c.num_attention_heads * c.head_dim * visible)


def total(costs: Iterable[Cost]) -> Cost:
    return sum(costs, Cost())


def _product(k: int, rows: int, tokens: int, weight_bytes: float) -> Cost:
    """y = W x + b with W (rows, k), and b in bf16."""
    return Cost(round(weight_bytes * k * rows) + BF16 * rows, 2 * k * rows * tokens)
