"""Open the folder of a gpt-oss checkpoint: find its layout, check it against its config, map its tensors.

    checkpoint = open_checkpoint("path/to/gpt-oss-20b")
    checkpoint.layer(0)["q_proj_weight"]  # (num_attention_heads * head_dim, hidden_size), bfloat16 as uint16
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gptoss_native.checkpoint.check import check_layers, check_names, check_shapes, check_values
from gptoss_native.checkpoint.files import find_weights, map_tensors, side_file
from gptoss_native.checkpoint.safetensors_map import MappedFile
from gptoss_native.checkpoint.tensor_names import (
    ExpertFormat,
    Layout,
    detect,
    end_names,
    expected_tensors,
    layer_names,
)
from gptoss_native.config.config import Config
from gptoss_native.config.fields import token_ids
from gptoss_native.config.strict_json import read_object
from gptoss_native.errors import CheckpointError


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint. Its arrays are read-only views of the mapped files, and keep them mapped.

    Replacing a file (renaming another over it) leaves an open checkpoint as it was. Writing into a file
    changes the arrays, and shortening one ends the process when they are read: leave files in use alone.
    """

    path: Path
    """The folder of the weights: original/ where that was found inside the folder asked for."""
    config: Config
    layout: Layout
    expert_format: ExpertFormat
    files: tuple[Path, ...]
    """The safetensors files."""
    nbytes: int
    """Bytes of all tensors together."""
    tokenizer_path: Path | None
    """tokenizer.json, or None where there is none."""
    eos_token_ids: tuple[int, ...]
    """From generation_config.json, else from config.json; empty where neither says."""
    greedy: bool
    """Whether generation_config.json says that the model is not to be sampled from unless asked to."""
    _tensors: Mapping[str, MappedFile] = field(repr=False, compare=False)

    def layer(self, index: int) -> dict[str, npt.NDArray[Any]]:
        """The tensors of one layer; bfloat16 as uint16. H = hidden_size, I = intermediate_size,
        E = num_local_experts, N = num_attention_heads, Q = N * head_dim, K = num_key_value_heads * head_dim:

        - input_layernorm, post_attention_layernorm (H,)
        - q_proj_weight (Q, H), q_proj_bias (Q,)
        - k_proj_weight, v_proj_weight (K, H), k_proj_bias, v_proj_bias (K,)
        - o_proj_weight (H, Q), o_proj_bias (H,), sinks (N,)
        - router_weight (E, H), router_bias (E,), gate_up_proj_bias (E, 2I), down_proj_bias (E, H)
        - expert_format "mxfp4", all uint8: gate_up_proj_blocks (E, 2I, H/32, 16), gate_up_proj_scales
          (E, 2I, H/32), down_proj_blocks (E, H, I/32, 16), down_proj_scales (E, H, I/32)
        - expert_format "bf16", input before output: gate_up_proj (E, H, 2I), down_proj (E, I, H)

        Along 2I, gate and up alternate. CheckpointError where there is no such layer.
        """
        if not 0 <= index < self.config.num_hidden_layers:
            raise CheckpointError(f"{self.path}: layer {index} was asked for; there are layers 0 to "
                                  f"{self.config.num_hidden_layers - 1}.")
        arrays = self._arrays(layer_names(self.layout, self.expert_format, index))
        if self.layout == "original":
            self._split_qkv(arrays)
        return arrays

    def ends(self) -> dict[str, npt.NDArray[Any]]:
        """embed_tokens (vocab_size, H), norm (H,), lm_head (vocab_size, H); bfloat16 as uint16."""
        return self._arrays(end_names(self.layout))

    def _arrays(self, names: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
        return {our: self._tensors[name].array(name) for our, name in names.items()}

    def _split_qkv(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """original/ stacks the rows of q, k and v."""
        q = self.config.num_attention_heads * self.config.head_dim
        kv = self.config.num_key_value_heads * self.config.head_dim
        for kind in ("weight", "bias"):
            parts = np.split(arrays.pop(f"qkv_{kind}"), [q, q + kv])
            arrays.update({f"{name}_proj_{kind}": part for name, part in zip("qkv", parts, strict=True)})


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open a folder in Hugging Face's layout (experts in MXFP4 or bf16) or in OpenAI's (original/).

    Headers, index and config are checked against each other, and so are the values of scales, norms, sinks,
    biases and routers; the weights themselves are not read. CheckpointError names the file, field or tensor.
    """
    weights = find_weights(Path(path))
    config_path = weights.folder / "config.json"
    data = read_object(config_path)
    is_original = "num_experts" in data and "num_local_experts" not in data
    config = (Config.from_original if is_original else Config.from_hf)(data, str(config_path))

    tensors = map_tensors(weights)
    layout, experts = detect(set(tensors))
    check_layers(config, config_path, layout, set(tensors))
    expected = expected_tensors(config, layout, experts)
    check_names(expected, config_path, tensors)
    check_shapes(expected, config_path, tensors)
    check_values(expected, tensors)

    eos_token_ids, greedy = config.eos_token_id, False
    if generation_path := side_file(weights.folder, "generation_config.json"):
        generation = read_object(generation_path)
        found = token_ids(generation, "eos_token_id", config.vocab_size, str(generation_path))
        eos_token_ids = found or eos_token_ids
        greedy = generation.get("do_sample") is False
    entries = (file.entries[name] for name, file in tensors.items())
    return Checkpoint(
        path=weights.folder, config=config, layout=layout, expert_format=experts,
        files=tuple(weights.folder / name for name in weights.names),
        nbytes=sum(entry.end - entry.begin for entry in entries),
        tokenizer_path=side_file(weights.folder, "tokenizer.json"), eos_token_ids=eos_token_ids,
        greedy=greedy, _tensors=tensors)
