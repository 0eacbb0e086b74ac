"""One table of shapes for tests and benches: what a model may look like, and the sizes of the released ones.

A shape is the fields of config.json in which it differs from make_checkpoint.hf_config(), and a prompt length
that passes its window and a page of 64 tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SLIDING, FULL = "sliding_attention", "full_attention"


@dataclass(frozen=True)
class Shape:
    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    prompt: int = 150
    random_nibbles: bool = False
    """Uniform codes and scales instead of quantised normal weights: every code and a range of scales occur."""

    def __str__(self) -> str:
        return self.name


def _shape(name: str, *, prompt: int = 150, random_nibbles: bool = False, **fields: Any) -> Shape:
    return Shape(name, fields, prompt, random_nibbles)


DEFAULT = _shape("default")
"""4 layers, hidden 64, intermediate 96, 8 heads of 64 over 2 key-value heads, 4 of 8 experts, window 16."""

MODELS = (
    DEFAULT,
    _shape("released_window", num_hidden_layers=2, sliding_window=128, prompt=300),
    _shape("random_nibbles", num_hidden_layers=2, random_nibbles=True),
    _shape("one_layer", num_hidden_layers=1),
    _shape("odd_layers", num_hidden_layers=5),
    _shape("all_sliding", num_hidden_layers=3, layer_types=[SLIDING] * 3),
    _shape("all_full", num_hidden_layers=3, layer_types=[FULL] * 3),
    _shape("full_first", num_hidden_layers=2, layer_types=[FULL, SLIDING]),
    _shape("window_of_one", num_hidden_layers=2, sliding_window=1),
    _shape("window_beyond_prompt", num_hidden_layers=2, sliding_window=4096),
    _shape("head_dim_16", num_hidden_layers=2, head_dim=16, num_attention_heads=4, num_key_value_heads=1),
    _shape("head_dim_24_three_kv_heads", num_hidden_layers=2, head_dim=24, num_attention_heads=6,
           num_key_value_heads=3),
    _shape("head_dim_80", num_hidden_layers=2, head_dim=80, num_attention_heads=5, num_key_value_heads=5),
    _shape("head_dim_128", num_hidden_layers=2, head_dim=128, num_attention_heads=12, num_key_value_heads=4),
    _shape("many_heads", num_hidden_layers=2, num_attention_heads=64, num_key_value_heads=8, head_dim=32),
    _shape("top_one_of_seven", num_hidden_layers=2, num_local_experts=7, num_experts_per_tok=1),
    _shape("all_of_five_experts", num_hidden_layers=2, num_local_experts=5, num_experts_per_tok=5),
    _shape("one_expert", num_hidden_layers=2, num_local_experts=1, num_experts_per_tok=1),
    _shape("many_experts", num_hidden_layers=2, num_local_experts=130, num_experts_per_tok=8),
    _shape("narrow_odd_vocab", num_hidden_layers=2, hidden_size=32, intermediate_size=32, vocab_size=101),
    _shape("wide_intermediate", num_hidden_layers=2, hidden_size=96, intermediate_size=352, vocab_size=1031),
    _shape("several_splits", num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=32,
           sliding_window=128, prompt=2500),
)


def shape_named(name: str) -> Shape:
    [shape] = [shape for shape in MODELS if shape.name == name]
    return shape


RELEASED_LAYER: Mapping[str, Any] = {
    "hidden_size": 2880, "intermediate_size": 2880, "num_attention_heads": 64, "num_key_value_heads": 8,
    "head_dim": 64, "sliding_window": 128}
"""What a layer of gpt-oss-20b and of gpt-oss-120b has in common; they differ in the number of layers and experts."""

REAL_DIMENSIONS = _shape("real_dimensions", **RELEASED_LAYER, num_hidden_layers=2, num_local_experts=5,
                         num_experts_per_tok=4, vocab_size=1031, prompt=140, random_nibbles=True)

LONG = _shape("long_context", num_hidden_layers=2, hidden_size=32, intermediate_size=32, num_attention_heads=1,
              num_key_value_heads=1, num_local_experts=4, num_experts_per_tok=2, vocab_size=101, sliding_window=128,
              prompt=100_003)
"""The released rotary table (head_dim 64) up to position 100,002: one sliding and one full layer, one head."""

STAGE_TOKENS = (1, 2, 7, 64, 65, 150)
"""Tokens of one step at which every stage is tried: alone, around a page, and more than one tile."""
