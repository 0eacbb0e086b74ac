"""The memory plan: exactly what is asked of the system, known before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gptoss_native as gptoss
from checkpoint_layouts import write_bf16, write_hf
from gptoss_native import _core
from gptoss_native.checkpoint.quantize import ExpertQuantizer
from gptoss_native.cli import main
from gptoss_native.engine import planning
from make_checkpoint import hf_config, make_tensors
from shapes import FULL, SLIDING
from small_models import write_small

OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"max_context": 1, "max_sequences": 1},
    {"max_context": 100, "max_sequences": 3, "kv_dtype": "f32"},
    {"max_context": 5000, "max_sequences": 2, "max_outputs": 1, "token_budget": 17, "threads": 1},
    {"max_context": 131072, "max_sequences": 9, "max_checkpoints": 0, "precision": "exact"},
    {"max_context": 700, "max_outputs": 300, "max_checkpoints": 5, "threads": 3},
    {"max_context": 700, "max_sequences": 4, "max_total_tokens": 1000},
    {"max_context": 70, "dense": "int8"},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("plan"))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("fields", [
    {}, {"num_hidden_layers": 3, "head_dim": 24}, {"layer_types": [FULL] * 2}, {"sliding_window": 128},
    {"layer_types": [SLIDING] * 2, "vocab_size": 700},
], ids=str)  # fmt: skip
def test_the_plan_is_what_the_allocator_is_asked_for(
    tmp_path: Path, fields: dict[str, Any], options: dict[str, Any]
) -> None:
    write_small(tmp_path, **fields)
    before = _core.allocated_bytes()
    planned = gptoss.plan(tmp_path, **options)
    assert _core.allocated_bytes() == before  # planning takes nothing
    with gptoss.load(tmp_path, **options) as engine:
        asked = _core.allocated_bytes() - before
        weights = engine.device.memory["weights"]
        assert (weights > 0) == (options.get("dense") == "int8")
        assert asked == planned.kv_full + planned.kv_window + planned.activations + planned.logits + weights
        classes = {name: getattr(planned, name) for name in ("kv_full", "kv_window", "activations", "logits")}
        assert engine.device.memory == classes | {"observed": 0, "weights": weights}
        engine.generate([1], gptoss.SamplingParams(max_tokens=2))
        engine.logits([1] * 50 if engine.max_context > 50 else [1])
        assert _core.allocated_bytes() - before == asked  # and nothing afterwards
    assert _core.allocated_bytes() == before
    assert planned.total == asked - weights + planned.weights_copied


def test_weights_are_mapped_but_for_vectors_and_quantised_experts(folder: Path, tmp_path: Path) -> None:
    planned, checkpoint = gptoss.plan(folder), gptoss.open_checkpoint(folder)
    vectors = sum(tensor.size for tensor in (*checkpoint.ends().values(), *checkpoint.layer(0).values(),
                                             *checkpoint.layer(1).values()) if tensor.ndim == 1)  # fmt: skip
    assert (planned.weights_mapped, planned.weights_copied) == (checkpoint.nbytes - 2 * vectors, 4 * vectors)
    config = hf_config(num_hidden_layers=2)
    write_bf16(tmp_path, config, make_tensors(config))
    dense = gptoss.plan(tmp_path)
    quantised = gptoss.plan(tmp_path, experts="mxfp4")
    quantizer, opened = ExpertQuantizer(1), gptoss.open_checkpoint(tmp_path)
    made, replaced = 0, 0
    for index in range(2):
        tensors = opened.layer(index)
        made += sum(array.nbytes for name, array in quantizer.layer(index, tensors).items() if name not in tensors)
        replaced += tensors["gate_up_proj"].nbytes + tensors["down_proj"].nbytes
    assert quantised.weights_copied == dense.weights_copied + made
    assert quantised.weights_mapped == dense.weights_mapped - replaced
    int8 = gptoss.plan(tmp_path, dense="int8")
    sources = sum(tensors[f"{name}_proj_weight"].nbytes for index in range(2) for tensors in [opened.layer(index)]
                  for name in "qkvo") + opened.ends()["lm_head"].nbytes
    assert int8.weights_mapped == dense.weights_mapped - sources
    assert 0 <= int8.weights_copied - dense.weights_copied - sources // 2 * 33 // 32 < 9 * 128  # whole cache lines


def test_what_does_not_fit_is_refused_before_loading_with_the_largest_context_that_would(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_loading(*_: object) -> None:
        raise AssertionError("weights were loaded")

    sharing = {"max_sequences": 16, "max_total_tokens": 131072}
    for options in ({}, {"max_sequences": 1}, {"kv_dtype": "f32", "max_checkpoints": 3}, sharing):
        monkeypatch.setattr(planning, "available_bytes", lambda: 10_000_000)
        planned = gptoss.plan(folder, max_context=131072, **options)  # type: ignore[arg-type]
        assert not planned.fits and planned.available == 10_000_000
        fitting = planned.largest_context
        assert 2000 < fitting < 131072
        with monkeypatch.context() as patch:
            patch.setattr("gptoss_native.engine.loading._load_weights", no_loading)
            with pytest.raises(gptoss.OutOfMemory, match=rf"needs .* of KV cache, .* 10\.0 MB .*max_context={fitting} "):
                gptoss.load(folder, max_context=131072, **options)  # type: ignore[arg-type]
        assert gptoss.plan(folder, max_context=fitting, **options).fits  # type: ignore[arg-type]
        assert not gptoss.plan(folder, max_context=fitting + 1, **options).fits  # type: ignore[arg-type]
        gptoss.load(folder, max_context=fitting, **options).close()  # type: ignore[arg-type]
    monkeypatch.setattr(planning, "available_bytes", lambda: 1000)
    assert gptoss.plan(folder).largest_context == 0
    with pytest.raises(gptoss.OutOfMemory, match="no context fits"):
        gptoss.load(folder)
    monkeypatch.setattr(planning, "available_bytes", lambda: None)
    unknown = gptoss.plan(folder)
    assert unknown.fits and unknown.available is None and unknown.largest_context == 131072


@pytest.mark.parametrize(("arguments", "error", "words"), [
    ({"max_sequences": 0}, ValueError, "max_sequences must be between 1"),
    ({"max_sequences": 2.0}, TypeError, "max_sequences must be an integer"),
    ({"max_outputs": 0}, ValueError, "max_outputs"),
    ({"token_budget": 3}, ValueError, "token_budget=3 is less than max_sequences=4"),
    ({"max_checkpoints": -1}, ValueError, "max_checkpoints must be between 0"),
    ({"max_total_tokens": 8191}, ValueError, "max_total_tokens=8191 is less than max_context=8192"),
    ({"max_total_tokens": "9000"}, TypeError, "max_total_tokens must be an integer"),
    ({"max_total_tokens": 2**63}, ValueError, "max_total_tokens must be between 1"),
    ({"max_context": 131073}, ValueError, "max_position_embeddings, 131072"),
    ({"precision": "bf16"}, ValueError, "precision"),
    ({"dense": "int4"}, ValueError, "dense must be 'bf16' or 'int8', not 'int4'"),
    ({"device": "tpu"}, gptoss.DeviceError, "'tpu'"),
])  # fmt: skip
def test_a_bad_argument_is_named_by_plan_and_by_load(
    folder: Path, arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    for call in (gptoss.plan, gptoss.load):
        with pytest.raises(error, match=words):
            call(folder, **arguments)  # type: ignore[operator]


def test_the_command_prints_a_table_or_json(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["plan", "--model", str(folder), "--max-context", "1000", "--max-sequences", "2", "--kv-dtype", "f32"]
    assert main(arguments) == 0
    table, err = capfd.readouterr()
    assert err == "" and "f32, 2 sequences of 1000 tokens" in table and "largest --max-context" in table
    assert main([*arguments, "--json"]) == 0
    data = json.loads(capfd.readouterr().out)
    planned = gptoss.plan(folder, max_context=1000, max_sequences=2, kv_dtype="f32")
    assert {key: value for key, value in data.items() if key not in ("available", "largest_context")} == {
        key: value for key, value in planned.as_dict().items() if key not in ("available", "largest_context")}
    assert main([*arguments, "--max-total-tokens", "1500"]) == 0
    assert "f32, 1500 tokens of all sequences" in capfd.readouterr().out
    monkeypatch.setattr(planning, "available_bytes", lambda: 1000)
    assert main(arguments) == 1
    assert "not enough" in capfd.readouterr().out
    monkeypatch.setattr(planning, "available_bytes", lambda: planned.total)
    assert main(arguments) == 0
    assert "read from the files again" in capfd.readouterr().out
    assert main(["plan", "--model", str(folder), "--max-sequences", "0"]) == 1


@pytest.mark.parametrize("preset", ["20b", "120b"])
def test_a_plan_of_the_released_shapes_by_hand(tmp_path: Path, preset: str) -> None:
    """24 (36) layers, half of them full: 8 heads of 64, keys and values in bf16, 2 KiB a token and layer."""
    from make_checkpoint import PRESETS

    fields = PRESETS[preset]
    config = hf_config(**fields, layer_types=[SLIDING, FULL] * (fields["num_hidden_layers"] // 2))
    small = hf_config(num_hidden_layers=2)
    write_hf(tmp_path, small, make_tensors(small), tokenizer=False)
    checkpoint = gptoss.open_checkpoint(tmp_path)
    token = 2 * 2 * 8 * 64 * fields["num_hidden_layers"] // 2
    for total, tokens in ((None, 4 * 8192), (10_000, 157 * 64), (50_000, 4 * 8192)):
        options = planning.checked_options(
            device="cpu", precision="fast", kv_dtype="bf16", max_context=8192, max_sequences=4, max_total_tokens=total,
            max_outputs=64, token_budget=512, max_checkpoints=32, threads=2, experts=None)
        memory = options.native(type(checkpoint.config).from_hf(config, "by hand")).device["memory"]
        assert memory["kv_full"] == tokens * token
        window_pages = 4 * (-(-(128 + 64 + 512) // 64) + 1) + 32 * (128 // 64 + 1)
        assert memory["kv_window"] == window_pages * 64 * token
        assert memory["logits"] == 64 * 201088 * 4
