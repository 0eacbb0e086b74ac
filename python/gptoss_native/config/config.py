"""The shape and constants of a gpt-oss model, read from config.json and checked field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gptoss_native.config.fields import COUNT, SIZE, integer, number, token_ids, wrong
from gptoss_native.config.rope import RopeScaling, read_rope
from gptoss_native.errors import CheckpointError

__all__ = ["Config", "RopeScaling"]

_SLIDING, _FULL = "sliding_attention", "full_attention"


@dataclass(frozen=True)
class Config:
    """Fields and names of Hugging Face's config.json."""

    num_hidden_layers: int
    num_local_experts: int
    num_experts_per_tok: int
    hidden_size: int
    intermediate_size: int
    head_dim: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    layer_types: tuple[str, ...]
    """For each layer "sliding_attention" or "full_attention"."""
    sliding_window: int
    """Keys that a query of a sliding layer sees, its own included."""
    max_position_embeddings: int
    initial_context_length: int
    rope_theta: float
    rope_scaling: RopeScaling
    rms_norm_eps: float
    swiglu_limit: float
    swiglu_alpha: float
    eos_token_id: tuple[int, ...]
    pad_token_id: int | None

    @classmethod
    def from_hf(cls, data: Mapping[str, Any], source: str) -> Config:
        """From a parsed Hugging Face config.json, with `rope_scaling` or, as transformers 5 writes it,
        `rope_parameters`. CheckpointError names `source` and the field."""
        _check_kind(data, source)
        layers = integer(data, "num_hidden_layers", source, high=COUNT)
        vocab = integer(data, "vocab_size", source)
        theta, rope = read_rope(data, source)
        pad = data.get("pad_token_id")
        config = cls(
            num_hidden_layers=layers,
            num_local_experts=integer(data, "num_local_experts", source, high=COUNT),
            num_experts_per_tok=integer(data, _top_k_key(data, source), source, high=COUNT),
            hidden_size=integer(data, "hidden_size", source),
            intermediate_size=integer(data, "intermediate_size", source),
            head_dim=integer(data, "head_dim", source),
            num_attention_heads=integer(data, "num_attention_heads", source, high=COUNT),
            num_key_value_heads=integer(data, "num_key_value_heads", source, high=COUNT),
            vocab_size=vocab,
            layer_types=_layer_types(data, layers, source),
            sliding_window=integer(data, "sliding_window", source),
            max_position_embeddings=integer(data, "max_position_embeddings", source),
            initial_context_length=integer(data, "initial_context_length", source,
                                           default=rope.original_max_position_embeddings),
            rope_theta=theta,
            rope_scaling=rope,
            rms_norm_eps=number(data, "rms_norm_eps", source, above=0),
            # The released configs have the limit but not alpha; transformers' own defaults are these two.
            swiglu_limit=number(data, "swiglu_limit", source, above=0, default=7.0),
            swiglu_alpha=number(data, "swiglu_alpha", source, above=0, default=1.702),
            eos_token_id=token_ids(data, "eos_token_id", vocab, source),
            pad_token_id=None if pad is None else integer({"pad_token_id": pad}, "pad_token_id", source,
                                                          low=0, high=vocab - 1),
        )
        _check_together(config, source)
        return config

    @classmethod
    def from_original(cls, data: Mapping[str, Any], source: str) -> Config:
        """From the config.json of OpenAI's own layout (original/), where the norm's epsilon, SwiGLU's alpha,
        the kinds of layers and the longest context are constants of the program. Token ids are known only for
        the released vocabulary. CheckpointError names `source` and the field."""
        layers = integer(data, "num_hidden_layers", source, high=COUNT)
        vocab = integer(data, "vocab_size", source)
        context = integer(data, "initial_context_length", source)
        factor = number(data, "rope_scaling_factor", source, at_least=1)
        released = vocab == 201088  # o200k_harmony: <|return|>, <|endoftext|>, <|call|>
        config = cls(
            num_hidden_layers=layers,
            num_local_experts=integer(data, "num_experts", source, high=COUNT),
            num_experts_per_tok=integer(data, "experts_per_token", source, high=COUNT),
            hidden_size=integer(data, "hidden_size", source),
            intermediate_size=integer(data, "intermediate_size", source),
            head_dim=integer(data, "head_dim", source),
            num_attention_heads=integer(data, "num_attention_heads", source, high=COUNT),
            num_key_value_heads=integer(data, "num_key_value_heads", source, high=COUNT),
            vocab_size=vocab,
            layer_types=_alternating(layers),
            sliding_window=integer(data, "sliding_window", source),
            max_position_embeddings=int(min(context * factor, SIZE)),
            initial_context_length=context,
            rope_theta=number(data, "rope_theta", source, above=1),
            rope_scaling=RopeScaling(
                rope_type="yarn", factor=factor,
                beta_fast=number(data, "rope_ntk_beta", source, above=0),
                beta_slow=number(data, "rope_ntk_alpha", source, above=0),
                original_max_position_embeddings=context, truncate=False),
            rms_norm_eps=1e-5,
            swiglu_limit=number(data, "swiglu_limit", source, above=0),
            swiglu_alpha=1.702,
            eos_token_id=(200002, 199999, 200012) if released else (),
            pad_token_id=199999 if released else None,
        )
        _check_together(config, source)
        return config

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain dicts, lists, strings and numbers."""
        fields = asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}


def _check_kind(data: Mapping[str, Any], source: str) -> None:
    """Refuse other architectures and variants. Whether the experts are MXFP4 is seen in the tensors."""
    for key, expected in (("model_type", "gpt_oss"), ("hidden_act", "silu"), ("attention_bias", True),
                          ("tie_word_embeddings", False)):
        if key in data and data[key] != expected:
            raise wrong(source, key, f"{expected!r}, as in every gpt-oss model", data[key])
    quantization = data.get("quantization_config")
    if quantization is not None:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        if method != "mxfp4":
            raise wrong(source, "quantization_config.quant_method", "'mxfp4', or the entry absent", method)


def _top_k_key(data: Mapping[str, Any], source: str) -> str:
    """The released configs give the number twice."""
    name, twin = "num_experts_per_tok", "experts_per_token"
    if name in data and twin in data and data[name] != data[twin]:
        raise wrong(source, twin, f"the same as {name}", data[twin])
    return twin if twin in data and name not in data else name


def _layer_types(data: Mapping[str, Any], layers: int, source: str) -> tuple[str, ...]:
    types = data.get("layer_types")
    if types is None:
        return _alternating(layers)
    if not isinstance(types, list) or any(kind not in (_SLIDING, _FULL) for kind in types):
        raise wrong(source, "layer_types", f"a list of {_SLIDING!r} and {_FULL!r}", types)
    if len(types) != layers:
        raise CheckpointError(f"{source}: layer_types should have num_hidden_layers = {layers} entries, "
                              f"but has {len(types)}.")
    return tuple(types)


def _alternating(layers: int) -> tuple[str, ...]:
    """The even layers slide."""
    return tuple(_FULL if i % 2 else _SLIDING for i in range(layers))


def _check_together(config: Config, source: str) -> None:
    if not 16 <= config.head_dim <= 128 or config.head_dim % 2:
        raise wrong(source, "head_dim", "an even number from 16 to 128", config.head_dim)
    for key in ("hidden_size", "intermediate_size"):
        if getattr(config, key) % 32:
            raise wrong(source, key, "a multiple of 32, the size of an MXFP4 group", getattr(config, key))
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    if heads % kv_heads:
        raise wrong(source, "num_attention_heads", f"a multiple of num_key_value_heads = {kv_heads}", heads)
    top_k, experts = config.num_experts_per_tok, config.num_local_experts
    if top_k > experts:
        raise wrong(source, "num_experts_per_tok", f"at most num_local_experts = {experts}", top_k)
    rope = config.rope_scaling
    if rope.beta_fast <= rope.beta_slow:
        raise wrong(source, "RoPE's beta_fast", f"above beta_slow = {rope.beta_slow:g}", rope.beta_fast)
