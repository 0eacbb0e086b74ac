"""Writes a trained model as a checkpoint in the released form: MXFP4 experts, all else bfloat16.

    python -m demo_model.export TRAINED_DIR python/gptoss_native/demo
    python -m demo_model.export TRAINED_DIR OUT --experts bf16       # the same model without MXFP4, to compare
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from demo_model.model import Config
from demo_model.mxfp4 import packed
from demo_model.operations import LIMIT
from demo_model.vocabulary import special_tokens

Tensors = dict[str, Tensor]


def tensors(state: Tensors, config: Config, experts: str) -> Tensors:
    """The released names. experts: "mxfp4" or "bf16"."""
    result = {"model.embed_tokens.weight": _bf16(state["embedding"]), "model.norm.weight": _bf16(state["final_norm"]),
              "lm_head.weight": _bf16(state["unembedding"])}
    for index in range(config.num_hidden_layers):
        own = {name.split(".", 2)[2]: tensor for name, tensor in state.items() if name.startswith(f"layers.{index}.")}
        layer = _attention(own, config) | _experts(own, experts)
        result |= {f"model.layers.{index}.{name}": tensor for name, tensor in layer.items()}
    return result


def _attention(own: Tensors, config: Config) -> Tensors:
    size = config.head_dim
    rows = [config.num_attention_heads * size, *[config.num_key_value_heads * size] * 2]
    result = {"input_layernorm.weight": own["attention_norm"], "post_attention_layernorm.weight": own["expert_norm"],
              "self_attn.o_proj.weight": own["out"], "self_attn.o_proj.bias": own["out_bias"],
              "self_attn.sinks": own["sinks"],
              "mlp.router.weight": own["router"], "mlp.router.bias": own["router_bias"]}
    for name, weight, bias in zip("qkv", own["qkv"].split(rows), own["qkv_bias"].split(rows)):
        result |= {f"self_attn.{name}_proj.weight": weight, f"self_attn.{name}_proj.bias": bias}
    return {name: _bf16(tensor) for name, tensor in result.items()}


def _experts(own: Tensors, experts: str) -> Tensors:
    gate_up = _interleaved(own["gate_up"])
    result = {"gate_up_proj_bias": _bf16(_interleaved(own["gate_up_bias"])), "down_proj_bias": _bf16(own["down_bias"])}
    for name, weight in (("gate_up_proj", gate_up), ("down_proj", own["down"])):
        if experts == "mxfp4":
            result[f"{name}_blocks"], result[f"{name}_scales"] = packed(weight)
        else:
            result[name] = _bf16(weight.transpose(1, 2))
    return {f"mlp.experts.{name}": tensor for name, tensor in result.items()}


def _interleaved(rows: Tensor) -> Tensor:
    """(experts, gates then ups, ...) as gate, up, gate, up, ..."""
    return torch.stack(rows.chunk(2, 1), 2).flatten(1, 2)


def _bf16(tensor: Tensor) -> Tensor:
    return tensor.to(torch.bfloat16).contiguous().clone()


def config_json(config: Config, experts: str) -> dict[str, Any]:
    """The released set of keys."""
    ids = {name: index for index, name in special_tokens().items()}
    quantization = {"modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
                                               "model.embed_tokens", "lm_head"], "quant_method": "mxfp4"}
    return {
        "architectures": ["GptOssForCausalLM"], "attention_bias": True, "attention_dropout": 0.0,
        "eos_token_id": ids["<|return|>"], "experts_per_token": config.num_experts_per_tok,
        "head_dim": config.head_dim, "hidden_act": "silu", "hidden_size": config.hidden_size,
        "initial_context_length": config.original_context, "initializer_range": 0.02,
        "intermediate_size": config.intermediate_size,
        "layer_types": ["full_attention" if i % 2 else "sliding_attention" for i in range(config.num_hidden_layers)],
        "max_position_embeddings": int(config.original_context * config.rope_factor), "model_type": "gpt_oss",
        "num_attention_heads": config.num_attention_heads, "num_experts_per_tok": config.num_experts_per_tok,
        "num_hidden_layers": config.num_hidden_layers, "num_key_value_heads": config.num_key_value_heads,
        "num_local_experts": config.num_local_experts, "output_router_logits": False,
        "pad_token_id": ids["<|endoftext|>"],
        **({"quantization_config": quantization} if experts == "mxfp4" else {}),
        "rms_norm_eps": 1e-05,
        "rope_scaling": {"beta_fast": config.beta_fast, "beta_slow": config.beta_slow, "factor": config.rope_factor,
                         "original_max_position_embeddings": config.original_context, "rope_type": "yarn",
                         "truncate": False},
        "rope_theta": int(config.rope_theta), "router_aux_loss_coef": 0.9, "sliding_window": config.sliding_window,
        "swiglu_limit": LIMIT, "tie_word_embeddings": False, "use_cache": True, "vocab_size": config.vocab_size}


def generation_config() -> dict[str, Any]:
    ids = {name: index for index, name in special_tokens().items()}
    return {"bos_token_id": ids["<|startoftext|>"], "do_sample": False,
            "eos_token_id": [ids["<|return|>"], ids["<|endoftext|>"], ids["<|call|>"]],
            "pad_token_id": ids["<|endoftext|>"]}


def write(folder: Path, contents: Tensors, config: Config, experts: str) -> None:
    """All but the tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(contents, folder / "model.safetensors")
    for name, content in (("config.json", config_json(config, experts)),
                          ("generation_config.json", generation_config())):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trained", type=Path, help="folder with training.pt and tokenizer.json")
    parser.add_argument("out", type=Path)
    parser.add_argument("--experts", choices=("mxfp4", "bf16"), default="mxfp4")
    options = parser.parse_args()
    saved = torch.load(options.trained / "training.pt", map_location="cpu")
    config = Config(**saved["config"])
    write(options.out, tensors(saved["model"], config, options.experts), config, options.experts)
    shutil.copyfile(options.trained / "tokenizer.json", options.out / "tokenizer.json")
    names = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json")
    sizes = {name: (options.out / name).stat().st_size for name in names}
    print(f"step {saved['step']}: " + ", ".join(f"{name} {size:,}" for name, size in sizes.items()) +
          f", together {sum(sizes.values()):,} bytes")


if __name__ == "__main__":
    main()
