"""Attention and unembedding weights in 8 bits: what they become, and that nothing but them changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import gptoss_native as gptoss
from conftest import Case, CaseMaker
from engines import INTEGER_ISAS, ISAS, all_logits, open_engine
from gptoss_native.cli import main
from make_checkpoint import bf16_round, bf16_to_f32
from shapes import DEFAULT, shape_named
from small_models import write_small

NAMES = re.compile(r"self_attn\.[qkvo]_proj\.weight$|^lm_head\.weight$")


def in_8_bits(weight: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """float64, from the words alone: of 32 weights along the last axis, the smallest power of two with which the
    largest is at most 127 steps; nearest, ties to even."""
    rows, k = weight.shape
    padded = np.zeros((rows, -(-k // 32) * 32))
    padded[:, :k] = bf16_to_f32(weight)
    groups = padded.reshape(rows, -1, 32)
    largest = np.abs(groups).max(-1, keepdims=True)
    step = np.exp2(np.ceil(np.log2(np.where(largest > 0, largest, 1) / 127)))
    result: npt.NDArray[np.float64] = (np.rint(groups / step) * step).reshape(rows, -1)[:, :k]
    return result


def rounded(tensors: dict[str, npt.NDArray[Any]]) -> None:
    names = [name for name in tensors if NAMES.search(name)]
    assert len(names) % 4 == 1
    for name in names:
        tensors[name][...] = bf16_round(in_8_bits(tensors[name]).astype(np.float32))


def relative_rms(got: npt.NDArray[Any], want: npt.NDArray[Any]) -> float:
    return float(np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2)))


@pytest.fixture(params=["default", "head_dim_24_three_kv_heads"])
def both(request: pytest.FixtureRequest, case_of: CaseMaker) -> tuple[Case, Case]:
    """A checkpoint, and the same with its weights so rounded, in bf16."""
    shape = shape_named(request.param)
    return case_of(shape), case_of(shape, edit=rounded)


@pytest.mark.parametrize(("precision", "kv_dtype"), [("exact", "f32"), ("fast", "bf16")])
@pytest.mark.parametrize("isa", ISAS)
def test_the_answer_is_that_of_a_bf16_checkpoint_with_the_rounded_weights(
    both: tuple[Case, Case], isa: str, precision: str, kv_dtype: str
) -> None:
    plain, same = both
    engine = open_engine(plain.folder, precision=precision, kv_dtype=kv_dtype, dense="int8", isa=isa)
    want = all_logits(open_engine(same.folder, precision=precision, kv_dtype=kv_dtype, isa=isa), plain.tokens)
    if precision == "fast" and isa in INTEGER_ISAS:  # other sums of, nearly, the same products
        got = all_logits(engine, plain.tokens)
        assert relative_rms(got, want) < 0.1
        want = got
    for sizes in ([512], [1], [7, 1, 30]):
        assert np.array_equal(all_logits(engine, plain.tokens, sizes), want), f"steps of {sizes} tokens"
    assert not np.array_equal(all_logits(open_engine(plain.folder, precision=precision, kv_dtype=kv_dtype, isa=isa),
                                         plain.tokens), want)


def test_any_number_of_threads_makes_the_same_weights_and_the_same_errors(case_of: CaseMaker) -> None:
    case = case_of(DEFAULT)
    one, *others = [open_engine(case.folder, dense="int8", threads=threads) for threads in (1, 2, 5)]
    for other in others:
        assert other.device["dense_errors"] == one.device["dense_errors"]
        assert np.array_equal(all_logits(other, case.tokens), all_logits(one, case.tokens))


def test_the_error_of_each_matrix_is_told(case_of: CaseMaker) -> None:
    case = case_of(DEFAULT)
    with gptoss.load(case.folder, device="cpu", dense="int8", max_context=64) as engine:
        device, metrics = engine.device, engine.metrics()
    assert (device.dense, metrics.dense) == ("int8", "int8")
    checkpoint = gptoss.open_checkpoint(case.folder)
    layers = range(checkpoint.config.num_hidden_layers)
    weights = {f"layer {index}, {name}": checkpoint.layer(index)[f"{name}_weight"] for index in layers
               for name in ("q_proj", "k_proj", "v_proj", "o_proj")} | {"lm_head": checkpoint.ends()["lm_head"]}
    assert device.dense_errors.keys() == weights.keys()
    for name, weight in weights.items():
        exact = bf16_to_f32(weight).astype(np.float64)
        error, size = in_8_bits(weight) - exact, np.sqrt(np.mean(exact**2))
        assert device.dense_errors[name] == pytest.approx(
            (np.sqrt(np.mean(error**2)) / size, np.abs(error).max() / size), rel=1e-6)
    worst = max(device.dense_errors, key=lambda name: device.dense_errors[name][0])
    assert 0.005 < device.dense_errors[worst][0] < 0.01
    assert "dense int8" in str(device) and f"({worst})" in str(device)
    with gptoss.load(case.folder, device="cpu", max_context=64) as engine:
        assert (engine.device.dense, dict(engine.device.dense_errors)) == ("bf16", {})


def _spoil(name: str) -> Callable[[dict[str, npt.NDArray[Any]]], None]:
    def edit(tensors: dict[str, npt.NDArray[Any]]) -> None:
        tensors[name][-1, -1] = 0x7f80
    return edit


@pytest.mark.parametrize(("tensor", "words"), [
    ("model.layers.1.self_attn.o_proj.weight", "layer 1, o_proj: expected finite weights"),
    ("lm_head.weight", "lm_head: expected finite weights"),
])
def test_a_weight_that_is_not_finite_is_refused_by_name(case_of: CaseMaker, tensor: str, words: str) -> None:
    case = case_of(DEFAULT, edit=_spoil(tensor))
    with pytest.raises(gptoss.CheckpointError, match=f"{words}.*dense='bf16'"):
        gptoss.load(case.folder, device="cpu", dense="int8", max_context=64)


def test_the_commands_know_the_form(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = str(write_small(tmp_path))
    assert main(["plan", "--model", folder, "--dense", "int8"]) == 0
    table = capfd.readouterr().out
    assert "dense int8" in table and "attention and unembedding in 8 bits" in table
    assert main(["info", "--model", folder]) == 0
    assert "--dense int8" in capfd.readouterr().out
    assert main(["generate", "--model", folder, "--dense", "int8", "--max-tokens", "2", "--temperature", "0", "a"]) == 0
