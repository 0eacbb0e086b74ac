"""Broken checkpoints: each is refused with a CheckpointError that says what is wrong and where, and soon."""

from __future__ import annotations

import os
import random
import re
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fuzz_checkpoint
from checkpoint_cases import CASES, CONFIG, FIRST, SCALES, SECOND, TENSORS, poke, rewrite_header
from checkpoint_damage import damage_folder
from gptoss_native.checkpoint.checkpoint import open_checkpoint
from gptoss_native.errors import CheckpointError
from make_checkpoint import original_config, write_bf16, write_hf, write_original


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "gpt-oss"
    write_hf(path, CONFIG, TENSORS, files=2)
    return path


def refused(folder: Path) -> str:
    """The message with which a folder is refused; it is one line and cost no memory."""
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(folder)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1500
    assert caught.value.__cause__ is None
    return message


@pytest.mark.parametrize("name", CASES)
def test_refused_by_name(folder: Path, name: str) -> None:
    damage, message = CASES[name]
    damage(folder)
    found = refused(folder)
    assert re.search(message, found), found


def test_undamaged(folder: Path) -> None:
    assert open_checkpoint(folder).nbytes == sum(tensor.nbytes for tensor in TENSORS.values())


@pytest.mark.parametrize("value", [0, 254])
def test_extreme_scales_are_legal(folder: Path, value: int) -> None:
    poke(SCALES, (0, 0, 0), value)(folder)
    assert open_checkpoint(folder).layer(1)["down_proj_scales"][0, 0, 0] == value


def test_generation_config_is_checked(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 24]}')
    assert "generation_config.json: eos_token_id should be an integer from 0 to 23, but is 24" in refused(folder)


@pytest.mark.parametrize(("path", "message"), [
    ("nowhere", "nowhere: no such folder"), ("gpt-oss/config.json", "config.json: a file; give the folder"),
    (".", "no .safetensors file"), ("a\0b", "cannot be listed"), ("x" * 300, "cannot be listed")],
    ids=["missing", "a file", "no weights", "NUL", "too long"])
def test_path_that_is_no_checkpoint(folder: Path, path: str, message: str) -> None:
    assert message in refused(folder.parent / path)


def test_root_of_the_hub_cache(tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    assert "under snapshots/" in refused(tmp_path)


def test_folder_that_may_not_be_read(folder: Path) -> None:
    (folder / FIRST).chmod(0)
    if os.access(folder / FIRST, os.R_OK):
        pytest.skip("this user may read everything")
    assert "cannot be opened (Permission denied)" in refused(folder)


def test_dangling_link(folder: Path) -> None:
    (folder / SECOND).unlink()
    (folder / SECOND).symlink_to(folder / "blob")
    assert f"{SECOND}: cannot be opened (No such file or directory)" in refused(folder)


def test_original_with_a_file_missing(folder: Path) -> None:
    shutil.rmtree(folder)
    write_original(folder / "original", original_config(CONFIG), TENSORS, files=3)
    (folder / "original" / "model--00002-of-00003.safetensors").unlink()
    assert "model--00002-of-00003.safetensors is missing" in refused(folder)


def test_original_with_a_tensor_in_two_files(folder: Path) -> None:
    shutil.rmtree(folder)
    write_original(folder, original_config(CONFIG), TENSORS, files=3)
    shutil.copy(folder / "model--00001-of-00003.safetensors", folder / "model--00003-of-00003.safetensors")
    assert "is expected once, but is in" in refused(folder)


def test_original_whose_fused_qkv_does_not_fit(folder: Path) -> None:
    shutil.rmtree(folder)
    write_original(folder, original_config(CONFIG) | {"num_key_value_heads": 4}, TENSORS)
    assert "block.0.attn.qkv.bias should have shape [192]" in refused(folder) or "qkv.weight" in refused(folder)


def test_bf16_experts_that_were_not_transposed(folder: Path) -> None:
    shutil.rmtree(folder)
    write_bf16(folder, CONFIG, TENSORS, files=1)
    rewrite_header(lambda header: [entry["shape"].insert(1, entry["shape"].pop()) for name, entry in header.items()
                                   if name.endswith("experts.gate_up_proj")] and None,
                   "model-00000-of-00000.safetensors")(folder)
    assert "experts.gate_up_proj should have shape [4, 32, 128]" in refused(folder)


def test_experts_of_two_formats(folder: Path) -> None:
    tensors = TENSORS | {"model.layers.0.mlp.experts.gate_up_proj": np.zeros((4, 32, 128), np.uint16)}
    shutil.rmtree(folder)
    write_hf(folder, CONFIG, tensors)
    assert "are missing" in refused(folder)


LAYOUTS: list[Callable[[Path], None]] = [
    lambda folder: write_hf(folder, CONFIG, TENSORS, files=2, tokenizer=False),
    lambda folder: write_hf(folder, CONFIG, TENSORS, files=1, tokenizer=False),
    lambda folder: write_bf16(folder, CONFIG, TENSORS, files=2, tokenizer=False),
    lambda folder: write_original(folder / "original", original_config(CONFIG), TENSORS, files=1),
    lambda folder: write_original(folder, original_config(CONFIG), TENSORS, files=2),
]


@pytest.mark.parametrize("block", range(10))
def test_random_damage(tmp_path: Path, block: int) -> None:
    """50 damaged checkpoints: each is refused, or loads and can be read to the end (a weight may have changed)."""
    refused_count = 0
    for seed in range(50 * block, 50 * (block + 1)):
        rng = random.Random(seed)
        folder = tmp_path / str(seed)
        LAYOUTS[seed % len(LAYOUTS)](folder)
        done = [damage_folder(rng, folder) for _ in range(rng.choice([1, 1, 1, 2]))]
        try:
            checkpoint = open_checkpoint(folder)
            arrays = [array for i in range(checkpoint.config.num_hidden_layers)
                      for array in checkpoint.layer(i).values()]
            assert all(int(array.max()) >= 0 for array in (*arrays, *checkpoint.ends().values()))
        except CheckpointError as error:
            str(error).encode()
            refused_count += 1
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {done}") from error
    assert refused_count > 20


@pytest.mark.parametrize("seed", range(5))
def test_random_headers_indexes_and_configs(seed: int) -> None:
    fuzz_checkpoint.run_random(count=1000, seed=seed)
