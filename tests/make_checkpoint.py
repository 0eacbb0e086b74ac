"""Write synthetic gpt-oss checkpoints: any shape, seeded random weights, every layout that is met in the wild.

    python tests/make_checkpoint.py --out DIR                                    small, Hugging Face layout
    python tests/make_checkpoint.py --out DIR --layout original --set hidden_size=96
    python tests/make_checkpoint.py --out DIR --shape 20b --tokenizer o200k_base.tiktoken

A config is the dict of a Hugging Face config.json (`hf_config`); tensors are a dict from Hugging Face names to
arrays, bfloat16 as uint16. Weights are scaled so that logits are of order 2 and the SwiGLU clamps are reached.
The big shapes are streamed: constant memory, every row distinct, but drawn from a pool instead of a generator.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from checkpoint_layouts import Stream, Tensors, write_bf16, write_hf, write_original
from make_tokenizer import first_special
from number_formats import bf16_round, bf16_to_f32, mxfp4_dequantize, mxfp4_quantize

__all__ = [
    "PRESETS", "bf16_round", "bf16_to_f32", "hf_config", "make_tensors", "mxfp4_dequantize", "mxfp4_quantize",
    "original_config", "rope_parameters", "stream_tensors", "write_bf16", "write_hf", "write_original"]

Config = dict[str, Any]
PRESETS: dict[str, Config] = {
    "tiny": {},
    "20b": {"num_hidden_layers": 24, "num_local_experts": 32, "hidden_size": 2880, "intermediate_size": 2880,
            "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 201088, "sliding_window": 128},
    "120b": {"num_hidden_layers": 36, "num_local_experts": 128, "hidden_size": 2880, "intermediate_size": 2880,
             "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 201088, "sliding_window": 128},
}


def hf_config(**fields: Any) -> Config:
    """config.json with the released set of keys, small by default; any field can be given.

    `rope_scaling` is merged into the default one; `num_experts_per_tok` also sets its twin experts_per_token;
    `layer_types` alternates from sliding unless given.
    """
    layers, vocab = fields.get("num_hidden_layers", 4), fields.get("vocab_size", 512)
    top_k = fields.get("num_experts_per_tok", 4)
    first = first_special(vocab)
    rope = {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0,
            "original_max_position_embeddings": fields.get("initial_context_length", 4096),
            "rope_type": "yarn", "truncate": False}
    config: Config = {
        "architectures": ["GptOssForCausalLM"], "attention_bias": True, "attention_dropout": 0.0,
        "eos_token_id": vocab - 1 if first is None else first + 4, "experts_per_token": top_k, "head_dim": 64,
        "hidden_act": "silu", "hidden_size": 64, "initial_context_length": 4096, "initializer_range": 0.02,
        "intermediate_size": 96,
        "layer_types": ["full_attention" if i % 2 else "sliding_attention" for i in range(layers)],
        "max_position_embeddings": 131072, "model_type": "gpt_oss", "num_attention_heads": 8,
        "num_experts_per_tok": top_k, "num_hidden_layers": layers, "num_key_value_heads": 2, "num_local_experts": 8,
        "output_router_logits": False, "pad_token_id": max(vocab - 2, 0) if first is None else first + 1,
        "quantization_config": {"modules_to_not_convert": [
            "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
            "quant_method": "mxfp4"},
        "rms_norm_eps": 1e-05, "rope_scaling": rope, "rope_theta": 150000, "router_aux_loss_coef": 0.9,
        "sliding_window": 16, "swiglu_limit": 7.0, "tie_word_embeddings": False,
        "transformers_version": "4.55.0.dev0", "use_cache": True, "vocab_size": vocab,
    }
    return config | fields | {"rope_scaling": rope | fields.get("rope_scaling", {})}


def rope_parameters(config: Config) -> Config:
    """The same config as transformers 5 writes it: rope_parameters with rope_theta inside."""
    kept = {key: value for key, value in config.items() if key not in ("rope_scaling", "rope_theta")}
    return kept | {"rope_parameters": config["rope_scaling"] | {"rope_theta": config["rope_theta"]}}


def original_config(config: Config) -> Config:
    """The config.json of original/, which knows neither layer types nor token ids."""
    same = ("num_hidden_layers", "vocab_size", "hidden_size", "intermediate_size", "swiglu_limit", "head_dim",
            "num_attention_heads", "num_key_value_heads", "sliding_window", "initial_context_length", "rope_theta")
    rope = config["rope_scaling"]
    return {key: config[key] for key in same} | {
        "num_experts": config["num_local_experts"], "experts_per_token": config["num_experts_per_tok"],
        "rope_scaling_factor": rope["factor"], "rope_ntk_alpha": rope["beta_slow"], "rope_ntk_beta": rope["beta_fast"]}


@dataclass(frozen=True)
class Weights:
    """How one parameter is drawn: normal, or for experts in MXFP4 a pair of tensors _blocks and _scales."""

    shape: tuple[int, ...]
    std: float
    mean: float = 0.0
    mxfp4: bool = False


def _plan(config: Config, gain: float, stable_routing: bool) -> dict[str, Weights]:
    hidden, inter, experts = config["hidden_size"], config["intermediate_size"], config["num_local_experts"]
    q_rows = config["num_attention_heads"] * config["head_dim"]
    kv_rows = config["num_key_value_heads"] * config["head_dim"]
    inverse_root = 1 / math.sqrt(hidden)
    layer = {
        "input_layernorm.weight": Weights((hidden,), 0.2, mean=1),
        "self_attn.o_proj.bias": Weights((hidden,), 0.1),
        "self_attn.o_proj.weight": Weights((hidden, q_rows), 1 / math.sqrt(q_rows)),
        "self_attn.q_proj.bias": Weights((q_rows,), 0.3),
        "self_attn.k_proj.bias": Weights((kv_rows,), 0.3),
        "self_attn.v_proj.bias": Weights((kv_rows,), 0.3),
        "self_attn.q_proj.weight": Weights((q_rows, hidden), 1.3 * inverse_root),
        "self_attn.k_proj.weight": Weights((kv_rows, hidden), 1.3 * inverse_root),
        "self_attn.v_proj.weight": Weights((kv_rows, hidden), inverse_root),
        "self_attn.sinks": Weights((config["num_attention_heads"],), 1.5),
        "mlp.router.bias": Weights((experts,), 0.3),
        "mlp.router.weight": Weights((experts, hidden), (0.05 if stable_routing else 1) * inverse_root),
        "mlp.experts.gate_up_proj_bias": Weights((experts, 2 * inter), 0.3),
        "mlp.experts.gate_up_proj": Weights((experts, 2 * inter, hidden), gain * inverse_root, mxfp4=True),
        "mlp.experts.down_proj_bias": Weights((experts, hidden), 0.1),
        "mlp.experts.down_proj": Weights((experts, hidden, inter), 0.5 / math.sqrt(inter), mxfp4=True),
        "post_attention_layernorm.weight": Weights((hidden,), 0.2, mean=1),
    }
    plan = {f"model.layers.{i}.{name}": w for i in range(config["num_hidden_layers"]) for name, w in layer.items()}
    plan["model.embed_tokens.weight"] = Weights((config["vocab_size"], hidden), 1)
    plan["model.norm.weight"] = Weights((hidden,), 0.2, mean=1)
    plan["lm_head.weight"] = Weights((config["vocab_size"], hidden), 2 * inverse_root)
    return plan


def _uniform_scales(weights: Weights) -> tuple[int, int]:
    """Range of E8M0 bytes that gives uniform random codes (standard deviation 2.9) about the wanted size."""
    centre = round(math.log2(weights.std / 2.9)) + 127
    return centre - 2, centre + 2


def make_tensors(config: Config, seed: int = 0, *, random_nibbles: bool = False, gain: float = 2.0,
                 stable_routing: bool = False) -> dict[str, npt.NDArray[Any]]:
    """All tensors in memory. The same seed and name give the same tensor whatever the other shapes are.

    `random_nibbles`: uniform codes and scales instead of quantised normal weights. `gain`: size of gate_up;
    2 reaches the clamps. `stable_routing`: the router's bias decides, so that rounding does not flip experts.
    """
    tensors: dict[str, npt.NDArray[Any]] = {}
    for name, weights in _plan(config, gain, stable_routing).items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        groups = (*weights.shape[:-1], weights.shape[-1] // 32)
        if stable_routing and name.endswith("router.bias"):
            tensors[name] = bf16_round(0.5 * rng.permutation(weights.shape[0]))
            continue
        if not weights.mxfp4:
            tensors[name] = bf16_round(weights.mean + weights.std * rng.standard_normal(weights.shape))
            continue
        if random_nibbles:
            blocks = rng.integers(0, 256, (*groups, 16), dtype=np.uint8)
            scales = rng.integers(*_uniform_scales(weights), groups, dtype=np.uint8)
        else:
            normal = weights.std * rng.standard_normal((*groups, 32)) * np.exp2(rng.integers(-1, 2, (*groups, 1)))
            blocks, scales = mxfp4_quantize(normal.reshape(weights.shape))
        tensors |= {name + "_blocks": blocks, name + "_scales": scales}
    return tensors


POOL = 67_108_859
"""Bytes of a pool of uint8; a prime, so that fewer rows than that, walking round it, begin at different places.
A pool of bfloat16 has a quarter of the elements, still far more than there are rows."""


def stream_tensors(config: Config, seed: int = 0) -> dict[str, npt.NDArray[Any] | Stream]:
    """As make_tensors with random nibbles, but big tensors are windows that wander round a pool of random numbers."""
    rng = np.random.default_rng(seed)
    pools: dict[tuple[Any, ...], npt.NDArray[Any]] = {}
    used: dict[tuple[Any, ...], int] = {}

    def stream(shape: tuple[int, ...], dtype: type, low: float, high: float) -> Stream:
        key = (dtype, low, high, shape[-1])
        if key not in pools:
            pools[key] = (rng.integers(int(low), int(high), POOL, dtype=np.uint8) if dtype is np.uint8 else
                          bf16_round(high * rng.standard_normal(POOL // 4, dtype=np.float32)))
        start = used.get(key, 0)
        used[key] = start + math.prod(shape)
        return Stream(shape, pools[key], start)

    tensors: dict[str, npt.NDArray[Any] | Stream] = {}
    for name, weights in _plan(config, gain=2.0, stable_routing=False).items():
        groups = (*weights.shape[:-1], weights.shape[-1] // 32)
        if weights.mxfp4:
            tensors[name + "_blocks"] = stream((*groups, 16), np.uint8, 0, 256)
            tensors[name + "_scales"] = stream(groups, np.uint8, *_uniform_scales(weights))
        elif len(weights.shape) > 1 and not name.endswith("bias"):
            tensors[name] = stream(weights.shape, np.uint16, 0, weights.std)
        else:
            tensors[name] = bf16_round(weights.mean + weights.std * rng.standard_normal(weights.shape))
    return tensors


def _fields(settings: list[str]) -> Config:
    pairs = (setting.partition("=") for setting in settings)
    return {key: json.loads(value) for key, _, value in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layout", choices=["hf", "original", "bf16"], default="hf")
    parser.add_argument("--shape", choices=PRESETS, default="tiny")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=JSON", help="a field of config.json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", type=int, help="about this many files (default: by the released size of 4.8e9)")
    parser.add_argument("--random-nibbles", action="store_true")
    parser.add_argument("--stable-routing", action="store_true")
    parser.add_argument("--gain", type=float, default=2.0)
    parser.add_argument("--rope-parameters", action="store_true", help="write the RoPE fields as transformers 5 does")
    parser.add_argument("--tokenizer", type=Path, help="o200k_base.tiktoken, to write the released tokenizer.json")
    arguments = parser.parse_args()

    if arguments.layout == "bf16" and arguments.shape != "tiny":
        parser.error("the bf16 layout is made in memory: give a tiny shape and --set")
    config = hf_config(**PRESETS[arguments.shape] | _fields(arguments.set))
    tensors: Tensors = (
        make_tensors(config, arguments.seed, random_nibbles=arguments.random_nibbles, gain=arguments.gain,
                     stable_routing=arguments.stable_routing)
        if arguments.shape == "tiny" else stream_tensors(config, arguments.seed))
    written = rope_parameters(config) if arguments.rope_parameters else config
    if arguments.layout == "hf":
        write_hf(arguments.out, written, tensors, files=arguments.files, ranks_file=arguments.tokenizer)
    elif arguments.layout == "bf16":
        write_bf16(arguments.out, written, tensors, files=arguments.files, ranks_file=arguments.tokenizer)
    else:
        write_original(arguments.out, original_config(config), tensors, files=arguments.files)
    print(f"{arguments.out}: {len(tensors)} tensors, {sum(t.nbytes for t in tensors.values()):,} bytes")


if __name__ == "__main__":
    main()
