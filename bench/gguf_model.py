"""A gpt-oss checkpoint as a GGUF file, so that llama.cpp computes with the same weights.

    PYTHONPATH=python python -m bench.gguf_model DIR model.gguf --dense q8_0

Needs the package gguf. Experts keep their MXFP4 values: only the order of the nibbles changes, and gate and up are
separated. Attention and unembedding stay bf16 or become Q8_0; norms, sinks, biases and the router become float32,
which is how llama.cpp's own conversion stores them. There is no vocabulary: the file works with token ids.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from gptoss_native import Checkpoint, Config, open_checkpoint

DENSE = {"bf16": gguf.GGMLQuantizationType.BF16, "q8_0": gguf.GGMLQuantizationType.Q8_0}
ARCHITECTURE = gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.GPT_OSS]
CHUNK_ROWS = 8192
"""Rows of a matrix that are quantised at a time."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tensor:
    """shape: numpy's, of values. data: its bytes, made when they are written, so that no more than one is in memory."""

    name: str
    shape: tuple[int, ...]
    kind: gguf.GGMLQuantizationType
    data: Callable[[], Array]

    @property
    def nbytes(self) -> int:
        block, size = gguf.GGML_QUANT_SIZES[self.kind]
        return int(np.prod(self.shape, dtype=np.int64)) // block * size


def write_gguf(folder: Path, path: Path, dense: str = "bf16") -> None:
    """dense: "bf16" as stored, or "q8_0". ValueError for a checkpoint with bf16 experts."""
    checkpoint = open_checkpoint(folder)
    if checkpoint.expert_format != "mxfp4":
        raise ValueError(f"{folder}: expected MXFP4 experts, which both sides can read alike; found "
                         f"{checkpoint.expert_format}")
    tensors = list(model_tensors(checkpoint, DENSE[dense]))
    unfinished = path.with_suffix(".part")
    writer = gguf.GGUFWriter(unfinished, ARCHITECTURE)
    add_facts(writer, checkpoint.config)
    for tensor in tensors:
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, raw_dtype=tensor.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        writer.write_tensor_data(tensor.data())
    writer.close()
    unfinished.rename(path)


def add_facts(writer: gguf.GGUFWriter, c: Config) -> None:
    """ValueError for what llama.cpp does not read from the file."""
    alternating = tuple("full_attention" if i % 2 else "sliding_attention" for i in range(c.num_hidden_layers))
    if c.layer_types != alternating:
        raise ValueError("expected layers that alternate, a sliding one first: a GGUF of gpt-oss cannot say otherwise")
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_expert_feed_forward_length(c.intermediate_size)
    writer.add_expert_count(c.num_local_experts)
    writer.add_expert_used_count(c.num_experts_per_tok)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_key_length(c.head_dim)
    writer.add_value_length(c.head_dim)
    writer.add_sliding_window(c.sliding_window)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_rope_dimension_count(c.head_dim)
    writer.add_rope_freq_base(c.rope_theta)
    if c.rope_scaling.rope_type == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(c.rope_scaling.factor)
        writer.add_rope_scaling_orig_ctx_len(c.rope_scaling.original_max_position_embeddings)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(c.vocab_size)


def model_tensors(checkpoint: Checkpoint, dense: gguf.GGMLQuantizationType) -> Iterator[Tensor]:
    ends = checkpoint.ends()
    yield _dense("token_embd.weight", ends["embed_tokens"], dense)
    yield _float("output_norm.weight", ends["norm"])
    yield _dense("output.weight", ends["lm_head"], dense)
    for index in range(checkpoint.config.num_hidden_layers):
        layer, prefix = checkpoint.layer(index), f"blk.{index}."
        for theirs, ours in (("attn_q", "q_proj"), ("attn_k", "k_proj"), ("attn_v", "v_proj"),
                             ("attn_output", "o_proj")):
            yield _dense(f"{prefix}{theirs}.weight", layer[f"{ours}_weight"], dense)
            yield _float(f"{prefix}{theirs}.bias", layer[f"{ours}_bias"])
        for theirs, ours in (("attn_norm.weight", "input_layernorm"), ("attn_sinks.weight", "sinks"),
                             ("post_attention_norm.weight", "post_attention_layernorm"),
                             ("ffn_gate_inp.weight", "router_weight"), ("ffn_gate_inp.bias", "router_bias"),
                             ("ffn_down_exps.bias", "down_proj_bias")):
            yield _float(prefix + theirs, layer[ours])
        yield _experts(f"{prefix}ffn_down_exps.weight", layer["down_proj_blocks"], layer["down_proj_scales"])
        for part, first in (("gate", 0), ("up", 1)):  # rows alternate in the checkpoint
            yield _experts(f"{prefix}ffn_{part}_exps.weight", layer["gate_up_proj_blocks"][:, first::2],
                           layer["gate_up_proj_scales"][:, first::2])
            yield _float(f"{prefix}ffn_{part}_exps.bias", layer["gate_up_proj_bias"][:, first::2])


def ggml_mxfp4(blocks: Array, scales: Array) -> Array:
    """(..., K/32, 16) and (..., K/32) as stored -> (..., K/32 * 17) as ggml has them.

    A block is its scale and 16 bytes. Byte j holds the elements 2j and 2j + 1 of 32 in the checkpoint, and j and
    j + 16 in ggml; the first of them in its low nibble.
    """
    codes = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*blocks.shape[:-1], 32)
    packed = codes[..., :16] | (codes[..., 16:] << 4)
    return np.concatenate([scales[..., None], packed], axis=-1).reshape(*blocks.shape[:-2], -1)


def _experts(name: str, blocks: Array, scales: Array) -> Tensor:
    shape = (*blocks.shape[:-2], blocks.shape[-2] * 32)

    def data() -> Array:
        return np.stack([ggml_mxfp4(*expert) for expert in zip(blocks, scales, strict=True)])

    return Tensor(name, shape, gguf.GGMLQuantizationType.MXFP4, data)


def _dense(name: str, bits: Array, kind: gguf.GGMLQuantizationType) -> Tensor:
    def data() -> Array:
        if kind == gguf.GGMLQuantizationType.BF16:
            return np.ascontiguousarray(bits)
        rows = range(0, len(bits), CHUNK_ROWS)
        return np.concatenate([gguf.quants.quantize(_widen(bits[row:row + CHUNK_ROWS]), kind) for row in rows])

    return Tensor(name, bits.shape, kind, data)


def _float(name: str, bits: Array) -> Tensor:
    return Tensor(name, bits.shape, gguf.GGMLQuantizationType.F32, lambda: _widen(bits))


def _widen(bits: Array) -> npt.NDArray[np.float32]:
    return (np.ascontiguousarray(bits).astype(np.uint32) << 16).view(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--dense", choices=DENSE, default="bf16")
    arguments = parser.parse_args()
    write_gguf(arguments.folder, arguments.file, arguments.dense)


if __name__ == "__main__":
    main()
