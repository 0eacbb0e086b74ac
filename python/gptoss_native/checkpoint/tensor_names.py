"""Which tensors a gpt-oss checkpoint holds, by its config: names in each layout, types and shapes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from gptoss_native.config.config import Config

Layout = Literal["hf", "original"]
ExpertFormat = Literal["mxfp4", "bf16"]

_NUMBER = re.compile("[0-9]{1,9}")
_PREFIX = {"hf": "model.layers.{}.", "original": "block.{}."}
_ENDS = {
    "hf": {
        "embed_tokens": "model.embed_tokens.weight", "norm": "model.norm.weight", "lm_head": "lm_head.weight"},
    "original": {
        "embed_tokens": "embedding.weight", "norm": "norm.scale", "lm_head": "unembedding.weight"},
}
_LAYER = {
    "hf": {
        "input_layernorm": "input_layernorm.weight",
        "q_proj_weight": "self_attn.q_proj.weight", "q_proj_bias": "self_attn.q_proj.bias",
        "k_proj_weight": "self_attn.k_proj.weight", "k_proj_bias": "self_attn.k_proj.bias",
        "v_proj_weight": "self_attn.v_proj.weight", "v_proj_bias": "self_attn.v_proj.bias",
        "o_proj_weight": "self_attn.o_proj.weight", "o_proj_bias": "self_attn.o_proj.bias",
        "sinks": "self_attn.sinks",
        "post_attention_layernorm": "post_attention_layernorm.weight",
        "router_weight": "mlp.router.weight", "router_bias": "mlp.router.bias",
        "gate_up_proj_bias": "mlp.experts.gate_up_proj_bias", "down_proj_bias": "mlp.experts.down_proj_bias",
    },
    "original": {
        "input_layernorm": "attn.norm.scale",
        "qkv_weight": "attn.qkv.weight", "qkv_bias": "attn.qkv.bias",
        "o_proj_weight": "attn.out.weight", "o_proj_bias": "attn.out.bias",
        "sinks": "attn.sinks",
        "post_attention_layernorm": "mlp.norm.scale",
        "router_weight": "mlp.gate.weight", "router_bias": "mlp.gate.bias",
        "gate_up_proj_bias": "mlp.mlp1_bias", "down_proj_bias": "mlp.mlp2_bias",
    },
}
_EXPERTS = {
    ("hf", "mxfp4"): {
        "gate_up_proj_blocks": "mlp.experts.gate_up_proj_blocks",
        "gate_up_proj_scales": "mlp.experts.gate_up_proj_scales",
        "down_proj_blocks": "mlp.experts.down_proj_blocks",
        "down_proj_scales": "mlp.experts.down_proj_scales"},
    ("hf", "bf16"): {"gate_up_proj": "mlp.experts.gate_up_proj", "down_proj": "mlp.experts.down_proj"},
    ("original", "mxfp4"): {
        "gate_up_proj_blocks": "mlp.mlp1_weight.blocks", "gate_up_proj_scales": "mlp.mlp1_weight.scales",
        "down_proj_blocks": "mlp.mlp2_weight.blocks", "down_proj_scales": "mlp.mlp2_weight.scales"},
}
_TOO_LARGE_TO_SCAN = (
    "q_proj_weight", "k_proj_weight", "v_proj_weight", "qkv_weight", "o_proj_weight", "gate_up_proj_blocks",
    "down_proj_blocks", "gate_up_proj", "down_proj", "embed_tokens", "lm_head")


@dataclass(frozen=True)
class Expected:
    """A tensor as the config has it."""

    dtype: str
    shape: tuple[int, ...]
    labels: tuple[str, ...]
    """For each axis, the fields of the config that make its size."""
    scan: bool
    """It is small, or holds scales: its values are looked at when the checkpoint is opened."""


def layer_names(layout: Layout, experts: ExpertFormat, index: int) -> dict[str, str]:
    """Our name -> name in the file, for the tensors of one layer."""
    prefix = _PREFIX[layout].format(index)
    suffixes = _LAYER[layout] | _EXPERTS[layout, experts]
    return {name: prefix + suffix for name, suffix in suffixes.items()}


def end_names(layout: Layout) -> dict[str, str]:
    """Our name -> name in the file, for the embedding, the final norm and the unembedding."""
    return _ENDS[layout]


def detect(names: set[str]) -> tuple[Layout, ExpertFormat]:
    """Layout and expert format that the names speak of; Hugging Face's MXFP4 where they say nothing."""
    if _ENDS["original"]["embed_tokens"] in names or any(name.startswith("block.") for name in names):
        return "original", "mxfp4"
    return "hf", "bf16" if any(name.endswith(".mlp.experts.gate_up_proj") for name in names) else "mxfp4"


def layer_count(layout: Layout, names: set[str]) -> int:
    """One more than the highest layer number among the names."""
    before = _PREFIX[layout].partition("{}")[0]
    numbers = (name[len(before):].partition(".")[0] for name in names if name.startswith(before))
    return 1 + max((int(number) for number in numbers if _NUMBER.fullmatch(number)), default=-1)


def expected_tensors(config: Config, layout: Layout, experts: ExpertFormat) -> dict[str, Expected]:
    """Name in the file -> what the config says about the tensor, for the whole model."""
    shapes = _shapes(config)
    names = {name: our for our, name in end_names(layout).items()}
    for index in range(config.num_hidden_layers):
        names |= {name: our for our, name in layer_names(layout, experts, index).items()}
    return {name: _expected(our, shapes[our]) for name, our in names.items()}


def _expected(our: str, axes: tuple[tuple[str, int], ...]) -> Expected:
    dtype = "U8" if our.endswith(("_blocks", "_scales")) else "BF16"
    labels, shape = zip(*axes, strict=True)
    return Expected(dtype, shape, labels, scan=our not in _TOO_LARGE_TO_SCAN)


def _shapes(config: Config) -> dict[str, tuple[tuple[str, int], ...]]:
    hidden = ("hidden_size", config.hidden_size)
    inter = ("intermediate_size", config.intermediate_size)
    inter2 = ("2 * intermediate_size", 2 * config.intermediate_size)
    hidden_groups = ("hidden_size / 32", config.hidden_size // 32)
    inter_groups = ("intermediate_size / 32", config.intermediate_size // 32)
    group_bytes = ("16 bytes of an MXFP4 group", 16)
    experts = ("num_local_experts", config.num_local_experts)
    vocab = ("vocab_size", config.vocab_size)
    heads = ("num_attention_heads", config.num_attention_heads)
    q = ("num_attention_heads * head_dim", config.num_attention_heads * config.head_dim)
    kv = ("num_key_value_heads * head_dim", config.num_key_value_heads * config.head_dim)
    qkv = ("(num_attention_heads + 2 * num_key_value_heads) * head_dim", q[1] + 2 * kv[1])
    return {
        "embed_tokens": (vocab, hidden), "norm": (hidden,), "lm_head": (vocab, hidden),
        "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,),
        "q_proj_weight": (q, hidden), "q_proj_bias": (q,),
        "k_proj_weight": (kv, hidden), "k_proj_bias": (kv,),
        "v_proj_weight": (kv, hidden), "v_proj_bias": (kv,),
        "qkv_weight": (qkv, hidden), "qkv_bias": (qkv,),
        "o_proj_weight": (hidden, q), "o_proj_bias": (hidden,),
        "sinks": (heads,),
        "router_weight": (experts, hidden), "router_bias": (experts,),
        "gate_up_proj_bias": (experts, inter2), "down_proj_bias": (experts, hidden),
        "gate_up_proj_blocks": (experts, inter2, hidden_groups, group_bytes),
        "gate_up_proj_scales": (experts, inter2, hidden_groups),
        "down_proj_blocks": (experts, hidden, inter_groups, group_bytes),
        "down_proj_scales": (experts, hidden, inter_groups),
        "gate_up_proj": (experts, hidden, inter2), "down_proj": (experts, inter, hidden),
    }
