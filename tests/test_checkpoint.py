"""Every layout of a checkpoint opens, gives the same tensors without copying them, and says what it is."""

from __future__ import annotations

import gc
import json
import os
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import make_checkpoint
from checkpoint_layouts import header, original_tensors, save, split
from gptoss_native.checkpoint.checkpoint import Checkpoint, open_checkpoint
from gptoss_native.config.config import Config
from gptoss_native.errors import CheckpointError
from make_checkpoint import (
    PRESETS,
    bf16_to_f32,
    hf_config,
    make_tensors,
    mxfp4_dequantize,
    original_config,
    rope_parameters,
    stream_tensors,
    write_bf16,
    write_hf,
    write_original,
)

Arrays = dict[str, npt.NDArray[Any]]

CONFIG = hf_config(num_hidden_layers=3, hidden_size=64, intermediate_size=96, num_local_experts=4,
                   num_attention_heads=4, num_key_value_heads=2, head_dim=16, vocab_size=300)
TENSORS = make_tensors(CONFIG, seed=5)


def named(tensors: Arrays, index: int) -> Arrays:
    """The tensors of one layer under the loader's names, taken from the writer's."""
    before = f"model.layers.{index}."
    layer = {name.removeprefix(before): tensor for name, tensor in tensors.items() if name.startswith(before)}
    return {_our_name(name): tensor for name, tensor in layer.items()}


def _our_name(name: str) -> str:
    parent, _, rest = name.rpartition("self_attn.")
    rest = rest.removeprefix("mlp.experts.").removeprefix("mlp.")
    if rest.endswith("layernorm.weight"):
        return rest.removesuffix(".weight")
    return rest.replace(".", "_")


def check_same(checkpoint: Checkpoint, tensors: Arrays) -> None:
    for index in range(checkpoint.config.num_hidden_layers):
        found, want = checkpoint.layer(index), named(tensors, index)
        assert set(found) == set(want)
        for name in want:
            assert found[name].dtype == want[name].dtype, name
            np.testing.assert_array_equal(found[name], want[name], err_msg=name)
    ends = checkpoint.ends()
    for our, name in (("embed_tokens", "model.embed_tokens.weight"), ("norm", "model.norm.weight"),
                      ("lm_head", "lm_head.weight")):
        np.testing.assert_array_equal(ends[our], tensors[name])


@pytest.mark.parametrize("files", [1, 2, 7])
def test_hugging_face_layout(tmp_path: Path, files: int) -> None:
    write_hf(tmp_path, CONFIG, TENSORS, files=files)
    checkpoint = open_checkpoint(tmp_path)
    assert (checkpoint.layout, checkpoint.expert_format, checkpoint.path) == ("hf", "mxfp4", tmp_path)
    assert checkpoint.config == Config.from_hf(CONFIG, "")
    assert [path.name for path in checkpoint.files] == [
        f"model-{i:05d}-of-{files - 1:05d}.safetensors" for i in range(files)]
    assert checkpoint.nbytes == sum(tensor.nbytes for tensor in TENSORS.values())
    check_same(checkpoint, TENSORS)


@pytest.mark.parametrize("files", [1, 4])
@pytest.mark.parametrize("inside", ["", "original"], ids=["the folder itself", "found in its parent"])
def test_original_layout(tmp_path: Path, files: int, inside: str) -> None:
    write_original(tmp_path / inside, original_config(CONFIG), TENSORS, files=files)
    checkpoint = open_checkpoint(tmp_path)
    assert (checkpoint.layout, checkpoint.expert_format, checkpoint.path) == ("original", "mxfp4", tmp_path / inside)
    assert len(checkpoint.files) == files
    assert checkpoint.config.layer_types == ("sliding_attention", "full_attention", "sliding_attention")
    check_same(checkpoint, TENSORS)


def test_bf16_experts_are_transposed(tmp_path: Path) -> None:
    write_bf16(tmp_path, CONFIG, TENSORS, files=2)
    checkpoint = open_checkpoint(str(tmp_path))
    assert (checkpoint.layout, checkpoint.expert_format) == ("hf", "bf16")
    for index in range(3):
        found, want = checkpoint.layer(index), named(TENSORS, index)
        assert found["gate_up_proj"].shape == (4, 64, 192)
        assert found["down_proj"].shape == (4, 96, 64)
        for stem in ("gate_up_proj", "down_proj"):
            dense = mxfp4_dequantize(want.pop(f"{stem}_blocks"), want.pop(f"{stem}_scales"))
            np.testing.assert_array_equal(bf16_to_f32(found.pop(stem)), np.swapaxes(dense, 1, 2))
        assert set(found) == set(want)
        for name in want:
            np.testing.assert_array_equal(found[name], want[name])


sizes = st.fixed_dictionaries({
    "num_hidden_layers": st.integers(1, 12),
    "num_local_experts": st.integers(1, 5),
    "hidden_size": st.sampled_from([32, 64, 96]),
    "intermediate_size": st.sampled_from([32, 64, 96]),
    "head_dim": st.sampled_from([16, 18, 32, 64, 80, 128]),
    "num_key_value_heads": st.integers(1, 3),
    "vocab_size": st.integers(1, 40),
    "sliding_window": st.integers(1, 200),
    "swiglu_limit": st.floats(0.5, 20),
})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=sizes, group=st.integers(1, 3), files=st.integers(1, 5), nibbles=st.booleans(), data=st.data())
def test_any_shape_in_any_layout(tmp_path: Path, fields: dict[str, Any], group: int, files: int, nibbles: bool,
                                 data: st.DataObject) -> None:
    fields["num_attention_heads"] = fields["num_key_value_heads"] * group
    fields["num_experts_per_tok"] = data.draw(st.integers(1, fields["num_local_experts"]))
    config = hf_config(**fields)
    tensors = make_tensors(config, random_nibbles=nibbles)
    folder = tmp_path / "checkpoint"
    shutil.rmtree(folder, ignore_errors=True)
    if data.draw(st.booleans(), label="original"):
        write_original(folder, original_config(config), tensors, files=files)
    else:
        write_hf(folder, rope_parameters(config), tensors, files=files)
    checkpoint = open_checkpoint(folder)
    assert {key: getattr(checkpoint.config, key) for key in fields} == fields
    check_same(checkpoint, tensors)


def test_one_file_without_an_index(tmp_path: Path) -> None:
    write_hf(tmp_path, CONFIG, TENSORS, files=1)
    (tmp_path / "model.safetensors.index.json").unlink()
    check_same(open_checkpoint(tmp_path), TENSORS)
    (tmp_path / "model-00000-of-00000.safetensors").rename(tmp_path / "model.safetensors")
    check_same(open_checkpoint(tmp_path), TENSORS)


def test_index_decides_which_files_belong(tmp_path: Path) -> None:
    write_hf(tmp_path, CONFIG, TENSORS, files=2)
    save(tmp_path / "adapter_model.safetensors", {"lora": np.zeros(4, np.uint16)})
    check_same(open_checkpoint(tmp_path), TENSORS)


def test_layer_numbers_are_not_sorted_as_numbers(tmp_path: Path) -> None:
    config = hf_config(num_hidden_layers=12, hidden_size=32, intermediate_size=32, num_local_experts=4, vocab_size=9)
    tensors = make_tensors(config)
    write_hf(tmp_path, config, tensors, files=4)
    first = {name.split(".")[2] for name in split(tensors, 4)[0]}
    assert {"0", "1", "10"} <= first and "2" not in first
    check_same(open_checkpoint(tmp_path), tensors)


def test_folder_of_links_as_in_the_hub_cache(tmp_path: Path) -> None:
    write_hf(tmp_path / "blobs", CONFIG, TENSORS, files=2)
    snapshot = tmp_path / "snapshots" / "1234"
    snapshot.mkdir(parents=True)
    for path in (tmp_path / "blobs").iterdir():
        (snapshot / path.name).symlink_to(os.path.relpath(path, snapshot))
    check_same(open_checkpoint(snapshot), TENSORS)


def test_arrays_are_read_only_views_at_8_modulo_16(tmp_path: Path) -> None:
    write_hf(tmp_path, CONFIG, TENSORS, files=2)
    checkpoint = open_checkpoint(tmp_path)
    maps = list({id(file): file.data for file in checkpoint._tensors.values()}.values())
    for array in (*checkpoint.layer(0).values(), *checkpoint.ends().values()):
        assert not array.flags.writeable
        assert array.flags.c_contiguous
        assert any(np.shares_memory(array, data) for data in maps)
    assert checkpoint.ends()["lm_head"].ctypes.data % 16 == 8
    with pytest.raises(ValueError, match="WRITEABLE|read-only"):
        checkpoint.ends()["norm"].flags.writeable = True


def test_split_qkv_is_a_view_too(tmp_path: Path) -> None:
    write_original(tmp_path, original_config(CONFIG), TENSORS)
    checkpoint = open_checkpoint(tmp_path)
    data = checkpoint._tensors["norm.scale"].data
    layer = checkpoint.layer(1)
    for name in ("q_proj_weight", "k_proj_weight", "v_proj_bias"):
        assert np.shares_memory(layer[name], data)
        assert not layer[name].flags.writeable


def test_bf16_at_an_odd_address_is_copied(tmp_path: Path) -> None:
    write_hf(tmp_path, CONFIG, TENSORS, files=1)
    path = tmp_path / "model-00000-of-00000.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    path.write_bytes((length + 1).to_bytes(8, "little") + data[8:8 + length] + b" " + data[8 + length:])
    checkpoint = open_checkpoint(tmp_path)
    check_same(checkpoint, TENSORS)
    assert checkpoint.ends()["norm"].flags.aligned
    assert not checkpoint.ends()["norm"].flags.writeable


def test_arrays_outlive_checkpoint_and_files(tmp_path: Path) -> None:
    write_hf(tmp_path, CONFIG, TENSORS, files=2)
    layer = open_checkpoint(tmp_path).layer(2)
    gc.collect()
    other = tmp_path / "other"
    write_hf(other, CONFIG, make_tensors(CONFIG, seed=6), files=2)
    for path in other.glob("*.safetensors"):
        path.replace(tmp_path / path.name)
    for name, want in named(TENSORS, 2).items():
        np.testing.assert_array_equal(layer[name], want)


@pytest.fixture
def small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_checkpoint, "POOL", 10_007)


def test_opening_allocates_no_tensor(tmp_path: Path, small_pool: None) -> None:
    """Two layers with the released dimensions; the file is a hole, so that the disk is not needed."""
    config = hf_config(**PRESETS["20b"] | {"num_hidden_layers": 2})
    tensors = stream_tensors(config)
    opening, _ = header(tensors)
    path = tmp_path / "model.safetensors"
    path.write_bytes(opening)
    os.truncate(path, len(opening) + sum(tensor.nbytes for tensor in tensors.values()))
    (tmp_path / "config.json").write_text(json.dumps(config))
    tracemalloc.start()
    checkpoint = open_checkpoint(tmp_path)
    layer = checkpoint.layer(1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert checkpoint.nbytes > 3e9
    assert layer["gate_up_proj_blocks"].shape == (32, 5760, 90, 16)
    assert peak < 3_000_000


def test_tokenizer_and_stop_ids(tmp_path: Path) -> None:
    write_hf(tmp_path, CONFIG, TENSORS)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.tokenizer_path == tmp_path / "tokenizer.json"
    assert checkpoint.eos_token_ids == (280, 277, 290)  # <|return|>, <|endoftext|>, <|call|>
    (tmp_path / "generation_config.json").unlink()
    (tmp_path / "tokenizer.json").unlink()
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.tokenizer_path is None
    assert checkpoint.eos_token_ids == checkpoint.config.eos_token_id == (280,)


def test_original_uses_the_tokenizer_of_the_folder_above(tmp_path: Path) -> None:
    write_hf(tmp_path, CONFIG, TENSORS)
    write_original(tmp_path / "original", original_config(CONFIG), TENSORS)
    checkpoint = open_checkpoint(tmp_path / "original")
    assert checkpoint.layout == "original"
    assert checkpoint.tokenizer_path == tmp_path / "tokenizer.json"
    assert checkpoint.eos_token_ids == (280, 277, 290)
    assert open_checkpoint(tmp_path).layout == "hf"


def test_layer_that_does_not_exist(tmp_path: Path) -> None:
    write_hf(tmp_path, CONFIG, TENSORS)
    checkpoint = open_checkpoint(tmp_path)
    for index in (-1, 3):
        with pytest.raises(CheckpointError, match=f"layer {index} was asked for; there are layers 0 to 2"):
            checkpoint.layer(index)


def test_repr_is_short(tmp_path: Path) -> None:
    write_hf(tmp_path, CONFIG, TENSORS)
    assert len(repr(open_checkpoint(tmp_path))) < 2000


@pytest.mark.parametrize("layout", ["hf", "original"])
def test_safetensors_reads_what_the_writer_writes(tmp_path: Path, layout: str) -> None:
    if layout == "hf":
        write_hf(tmp_path, CONFIG, TENSORS, files=2)
        want = dict(TENSORS)
    else:
        write_original(tmp_path, original_config(CONFIG), TENSORS, files=2)
        named_tensors: Any = original_tensors(TENSORS)
        want = {name: tensor if isinstance(tensor, np.ndarray) else np.concatenate(tensor.parts)
                for name, tensor in named_tensors.items()}
    for path in tmp_path.glob("*.safetensors"):
        for name, found in safetensors.deserialize(path.read_bytes()):  # type: ignore[no-untyped-call]
            expected = want.pop(name)
            assert tuple(found["shape"]) == expected.shape
            assert found["dtype"] == {"uint16": "BF16", "uint8": "U8"}[str(expected.dtype)]
            assert bytes(found["data"]) == expected.tobytes()
    assert not want


def test_released_file_sizes_and_shard_borders(small_pool: None) -> None:
    tensors = stream_tensors(hf_config(**PRESETS["20b"]))
    shards = split(tensors)
    assert [len(header(shard)[0]) + sum(tensor.nbytes for tensor in shard.values()) for shard in shards] == [
        4_792_272_488, 4_798_702_184, 4_170_342_232]
    assert "model.layers.18.self_attn.v_proj.bias" in shards[0]
    assert "model.layers.18.self_attn.q_proj.weight" in shards[1]
    assert "model.layers.6.mlp.experts.gate_up_proj_bias" in shards[1]
    assert "model.layers.6.mlp.experts.gate_up_proj_blocks" in shards[2]
    original = original_tensors(tensors)
    assert len(original) == 363
    assert len(header(original)[0]) + sum(tensor.nbytes for tensor in original.values()) == 13_761_300_984


def test_streamed_rows_are_all_different(small_pool: None) -> None:
    config = hf_config(num_hidden_layers=2, num_local_experts=4, hidden_size=320, intermediate_size=320)
    rows: dict[int, list[npt.NDArray[Any]]] = {}
    for name, tensor in stream_tensors(config).items():
        if not isinstance(tensor, np.ndarray) and not name.endswith("_scales"):
            length = tensor.shape[1] if len(tensor.shape) == 2 else tensor.shape[2] * 16
            flat = np.concatenate(list(tensor.chunks()))
            rows.setdefault(length, []).append(flat.reshape(-1, length))
    for same_length in rows.values():
        together = np.concatenate(same_length)
        assert len(np.unique(together, axis=0)) == len(together)
