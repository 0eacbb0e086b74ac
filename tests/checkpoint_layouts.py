"""The file layouts of gpt-oss checkpoints, as writers: safetensors files, shards, names, side files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from make_tokenizer import first_special, write_tokenizer
from number_formats import bf16_round, mxfp4_dequantize

RELEASED_SHARD_BYTES = 4_800_000_000
DTYPES = {np.dtype(np.uint16): "BF16", np.dtype(np.uint8): "U8"}
ORIGINAL_NAMES = {
    "input_layernorm.weight": "attn.norm.scale",
    "self_attn.o_proj.bias": "attn.out.bias",
    "self_attn.o_proj.weight": "attn.out.weight",
    "self_attn.sinks": "attn.sinks",
    "mlp.router.bias": "mlp.gate.bias",
    "mlp.router.weight": "mlp.gate.weight",
    "mlp.experts.gate_up_proj_bias": "mlp.mlp1_bias",
    "mlp.experts.gate_up_proj_blocks": "mlp.mlp1_weight.blocks",
    "mlp.experts.gate_up_proj_scales": "mlp.mlp1_weight.scales",
    "mlp.experts.down_proj_bias": "mlp.mlp2_bias",
    "mlp.experts.down_proj_blocks": "mlp.mlp2_weight.blocks",
    "mlp.experts.down_proj_scales": "mlp.mlp2_weight.scales",
    "post_attention_layernorm.weight": "mlp.norm.scale",
}
ORIGINAL_ENDS = {"model.embed_tokens.weight": "embedding.weight", "model.norm.weight": "norm.scale",
                 "lm_head.weight": "unembedding.weight"}


@dataclass(frozen=True)
class Stream:
    """A tensor that is never in memory: `shape` elements read round and round from a pool."""

    shape: tuple[int, ...]
    pool: npt.NDArray[Any]
    start: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.pool.dtype

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def chunks(self) -> Iterator[npt.NDArray[Any]]:
        position, left = self.start % len(self.pool), self.size
        while left:
            chunk = self.pool[position:position + left]
            yield chunk
            position, left = 0, left - len(chunk)


@dataclass(frozen=True)
class Joined:
    """Tensors stacked along their first axis (the fused qkv of original/)."""

    parts: tuple[npt.NDArray[Any] | Stream, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(part.shape[0] for part in self.parts), *self.parts[0].shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.parts[0].dtype

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)


Tensor = npt.NDArray[Any] | Stream | Joined
Tensors = Mapping[str, Tensor]


def header(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> tuple[bytes, list[str]]:
    """Length, JSON and padding that open a safetensors file, and the order of the data behind it.

    BF16 comes first, then U8, each sorted by name. The released files have no __metadata__, and in each the data
    begins at 8 modulo 16, which the padding here makes sure of.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    entries: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    offset = 0
    for name in order:
        tensor = tensors[name]
        end = offset + tensor.nbytes
        entries[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 16)
    return len(text).to_bytes(8, "little") + text, order


def write_safetensors(file: BinaryIO, tensors: Tensors, metadata: Mapping[str, str] | None = None) -> None:
    opening, order = header(tensors, metadata)
    file.write(opening)
    for name in order:
        _write(file, tensors[name])


def save(path: Path, tensors: Tensors) -> None:
    with path.open("wb") as file:
        write_safetensors(file, tensors)


def _write(file: BinaryIO, tensor: Tensor) -> None:
    if isinstance(tensor, np.ndarray):
        file.write(np.ascontiguousarray(tensor).data)
    elif isinstance(tensor, Joined):
        for part in tensor.parts:
            _write(file, part)
    else:
        for chunk in tensor.chunks():
            file.write(chunk.data)


def split(tensors: Tensors, files: int | None = None) -> list[dict[str, Tensor]]:
    """Greedy shards: names layer by layer in lexicographic order (0, 1, 10, 11, ..., 2), a new file when the next
    tensor would pass 4.8e9 bytes. `files` lowers that limit so that about so many files come out."""
    order = sorted(tensors, key=_released_order)
    limit = RELEASED_SHARD_BYTES if files is None else -(-sum(t.nbytes for t in tensors.values()) // files)
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name in order:
        if shards[-1] and filled + tensors[name].nbytes > limit and (files is None or len(shards) < files):
            shards.append({})
            filled = 0
        shards[-1][name] = tensors[name]
        filled += tensors[name].nbytes
    return shards


def _released_order(name: str) -> tuple[str, str]:
    """The converter walked over the sorted names of original/, and split qkv into q, k, v on the way."""
    if name in ORIGINAL_ENDS:
        return ORIGINAL_ENDS[name], ""
    if not name.startswith("model.layers."):
        return name, ""
    _, _, layer, suffix = name.split(".", 3)
    for i, part in enumerate("qkv"):
        if suffix.startswith(f"self_attn.{part}_proj."):
            return f"block.{layer}.attn.qkv.{suffix.rpartition('.')[2]}", str(i)
    return f"block.{layer}.{ORIGINAL_NAMES.get(suffix, suffix)}", ""


def write_hf(folder: Path, config: Mapping[str, Any], tensors: Tensors, *, files: int | None = None,
             ranks_file: Path | None = None, tokenizer: bool = True) -> None:
    """The Hugging Face layout as released: shards counted from 0, "of" the last number; index, configs."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = split(tensors, files)
    place: dict[str, str] = {}
    for i, shard in enumerate(shards):
        path = folder / f"model-{i:05d}-of-{len(shards) - 1:05d}.safetensors"
        save(path, shard)
        place |= dict.fromkeys(shard, path.name)
    _write_json(folder / "model.safetensors.index.json", {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
        "weight_map": dict(sorted(place.items()))})
    _write_json(folder / "config.json", config)
    first = first_special(config["vocab_size"])
    if first is not None:
        _write_json(folder / "generation_config.json", {
            "bos_token_id": first, "do_sample": True, "eos_token_id": [first + 4, first + 1, first + 14],
            "pad_token_id": first + 1, "transformers_version": "4.55.0.dev0"})
    if tokenizer:
        write_tokenizer(folder, config["vocab_size"], ranks_file)


def write_bf16(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Any], *, files: int | None = None,
               ranks_file: Path | None = None, tokenizer: bool = True) -> None:
    """As transformers saves a dequantised model: experts in bf16 and transposed, (E, in, out)."""
    dense: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith("_blocks"):
            stem = name.removesuffix("_blocks")
            weight = mxfp4_dequantize(tensor, tensors[stem + "_scales"])
            dense[stem] = bf16_round(np.swapaxes(weight, 1, 2))
        elif not name.endswith("_scales"):
            dense[name] = tensor
    kept = {key: value for key, value in config.items() if key != "quantization_config"}
    write_hf(folder, kept | {"dtype": "bfloat16"}, dense, files=files, ranks_file=ranks_file, tokenizer=tokenizer)


def write_original(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Any], *,
                   files: int | None = None) -> None:
    """OpenAI's own layout in `folder`: their names, fused qkv, dtypes.json. One file, or several whose names have
    a double dash."""
    folder.mkdir(parents=True, exist_ok=True)
    named = original_tensors(tensors)
    if files is None or files == 1:
        save(folder / "model.safetensors", named)
    else:
        names = sorted(named)
        count = min(files, len(names))
        for i in range(count):
            part = {name: named[name] for name in names[len(names) * i // count:len(names) * (i + 1) // count]}
            save(folder / f"model--{i + 1:05d}-of-{count:05d}.safetensors", part)
    kinds = {"blocks": "FP4", "scales": "UE8"}
    _write_json(folder / "dtypes.json", {name: kinds.get(name.rpartition(".")[2], "BF16") for name in named})
    _write_json(folder / "config.json", config)


def original_tensors(tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    """Hugging Face names -> OpenAI's names."""
    named: dict[str, Tensor] = {ORIGINAL_ENDS[name]: tensors[name] for name in ORIGINAL_ENDS}
    for name, tensor in tensors.items():
        if name in ORIGINAL_ENDS:
            continue
        _, _, layer, suffix = name.split(".", 3)
        if suffix in ORIGINAL_NAMES:
            named[f"block.{layer}.{ORIGINAL_NAMES[suffix]}"] = tensor
        elif suffix.startswith("self_attn.q_proj."):
            parts = tuple(tensors[name.replace("q_proj", f"{part}_proj")] for part in "qkv")
            named[f"block.{layer}.attn.qkv.{suffix.rpartition('.')[2]}"] = Joined(parts)
    return named


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n")
