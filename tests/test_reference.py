"""The reference itself: published constants, facts that can be checked by hand, and an independent oracle."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import reference
from conftest import CaseMaker
from make_checkpoint import hf_config
from reference import Arithmetic, Cache, Model, attend, forward, rms_norm, route, swiglu
from reference_rope import rope_table
from shapes import DEFAULT, MODELS, Shape

RELEASED_INV_FREQ = """
3f800000 3f306535 3ef316a2 3ea77faa 3e66d3fa 3e1f0cfd 3ddb2f9f 3d970764
3d502194 3d01ddd5 3c9e646f 3c3dec94 3bdea840 3b7cfe14 3b093803 3a89f778
39ef543c 390799b9 3820adc6 37dd6dfc 37989328 375242fa 3710e12c 36c7a82b
3689928c 363d9647 3602a245 35b40668 35781728 352af200 34eb93eb 34a252d3"""


def test_the_rotary_table_of_the_released_models_bit_for_bit() -> None:
    inv_freq, concentration = rope_table(hf_config())
    assert [f"{bits:08x}" for bits in inv_freq.view(np.uint32)] == RELEASED_INV_FREQ.split()
    assert concentration == pytest.approx(1.3465735902799727, abs=1e-15)


@pytest.mark.parametrize("head_dim", [16, 24, 80, 96, 128])
def test_the_rotary_table_is_near_the_formula(head_dim: int) -> None:
    """The float32 exponent 2j / head_dim is off by up to 2^-25, which ln(theta) = 12 multiplies."""
    config = hf_config(head_dim=head_dim)
    pairs = np.arange(head_dim // 2)
    base = 150000.0 ** (2 * pairs / head_dim)
    low, high = (head_dim / 2 * math.log(4096 / (2 * math.pi * r)) / math.log(150000) for r in (32, 1))
    ramp = np.clip((pairs - low) / (high - low), 0, 1)
    want = ramp / (32 * base) + (1 - ramp) / base
    assert np.abs(rope_table(config)[0] / want - 1).max() < 8 * 2**-23


def test_rms_norm_by_hand() -> None:
    got = rms_norm(np.array([[3.0, 4.0]]), np.array([1.0, 2.0]), eps=0.5)
    assert np.allclose(got, [[3 / math.sqrt(13), 8 / math.sqrt(13)]])


def uniform_attention(count: int, window: int | None, sink: float) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Scores are all zero, values are the key's own number."""
    q, k = np.zeros((count, 1, 2)), np.zeros((count, 1, 2))
    v = np.repeat(np.arange(count, dtype=float), 2).reshape(count, 1, 2)
    return attend(q, k, v, np.arange(count), np.array([sink]), window)


def test_a_window_of_128_holds_128_keys_with_the_query_s_own() -> None:
    attn, lse = uniform_attention(300, 128, sink=-np.inf)
    for position in (0, 126, 127, 128, 129, 299):
        first = max(0, position - 127)
        assert np.isclose(attn[position, 0, 0], (first + position) / 2)
        assert np.isclose(math.exp(lse[position, 0]), min(128, position + 1))


def test_a_sink_is_one_more_key_without_a_value() -> None:
    attn, lse = uniform_attention(4, None, sink=0.0)
    assert np.allclose(attn[:, 0, 0], [0, 1 / 3, 3 / 4, 6 / 5])
    assert np.allclose(np.exp(lse[:, 0]), [2, 3, 4, 5])


def test_heads_of_one_group_read_the_same_keys() -> None:
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((5, 6, 4)), rng.standard_normal((5, 2, 4)), rng.standard_normal((5, 2, 4))
    together, _ = attend(q, k, v, np.arange(5), np.zeros(6), None)
    for head in range(6):
        pick = slice(head // 3, head // 3 + 1)
        alone, _ = attend(q[:, head:head + 1], k[:, pick], v[:, pick], np.arange(5), np.zeros(1), None)
        assert np.allclose(together[:, head], alone[:, 0])


def test_swiglu_clamps_the_gate_above_only_and_adds_one_to_up() -> None:
    u = np.array([[9.0, 9.0, -9.0, -9.0, 1.0, 0.0]])
    want = [7 / (1 + math.exp(-1.702 * 7)) * 8, -9 / (1 + math.exp(1.702 * 9)) * -6, 1 / (1 + math.exp(-1.702))]
    assert np.allclose(swiglu(u, hf_config()), [want], rtol=1e-14)


def test_the_router_takes_the_lowest_ids_on_ties_and_softmax_over_the_chosen_only() -> None:
    names = ("model.layers.0.mlp.router.weight", "model.layers.0.mlp.router.bias")
    one = np.uint16(0x3F80)
    tensors = {names[0]: np.zeros((4, 2), np.uint16), names[1]: np.array([0, one, one, one], np.uint16)}
    logits, choice, weight = route(Model(hf_config(num_experts_per_tok=2), tensors), 0, np.zeros((1, 2)))
    assert logits.tolist() == [[0, 1, 1, 1]] and choice.tolist() == [[1, 2]] and weight.tolist() == [[0.5, 0.5]]


def test_rounding_to_bf16_goes_to_the_even_neighbour() -> None:
    values = np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 3 * 2**-9])
    assert reference.to_bf16(values).tolist() == [1, 1, 1 + 2**-6, 1 + 2**-7, -1 - 2**-7]


@pytest.mark.parametrize("shape", [s for s in MODELS if s.name in ("default", "released_window", "window_of_one")], ids=str)
def test_a_prompt_in_pieces_or_by_rows_equals_the_whole(case_of: CaseMaker, shape: Shape,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(shape)
    whole = case.trace.logits
    cache, pieces = Cache(), []
    for start, stop in ((0, 1), (1, 64), (64, len(case.tokens))):
        pieces.append(forward(case.model, case.tokens[start:stop], cache=cache).logits)
    assert np.allclose(np.concatenate(pieces), whole, atol=1e-11)
    rows = [0, 17, 64, 140]
    assert np.allclose(forward(case.model, case.tokens, rows=rows).logits, whole[rows], atol=1e-11)
    monkeypatch.setattr(reference, "SCORE_BYTES", 8 * 1000)
    assert np.allclose(forward(case.model, case.tokens).logits, whole, atol=1e-11)


@pytest.mark.parametrize("change", [
    {"rope_scaling": {"truncate": True}}, {"rope_scaling": {"factor": 1.0}}, {"sliding_window": 15}, {"sliding_window": 17},
    {"rms_norm_eps": 1e-6}, {"swiglu_alpha": 1.0}, {"swiglu_limit": 7.5}, {"rope_theta": 10_000},
    {"layer_types": ["full_attention", "sliding_attention"] * 2}], ids=str)
def test_the_default_shape_would_show_this_mistake(case_of: CaseMaker, change: dict[str, Any]) -> None:
    """A wrong constant must move some logit by more than the gate lets pass."""
    case = case_of(DEFAULT)
    config = hf_config(**{**DEFAULT.fields, **change})
    wrong = forward(Model(config, case.model.tensors), case.tokens).logits
    assert np.abs(wrong - case.trace.logits).max() > 1e-4


def test_rounded_arithmetic_stays_near_the_exact_one(case_of: CaseMaker) -> None:
    case = case_of(DEFAULT)
    x = case.trace.residual[1]
    same, _ = reference.attention(case.model, 1, x, arithmetic=Arithmetic())
    rounded, _ = reference.attention(case.model, 1, x, arithmetic=reference.FAST)
    assert np.allclose(same, case.trace.attn[1], atol=1e-12)
    assert 1e-3 < np.abs(rounded - same).max() < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("options", [
    "--seed 3 --head-dim 96 --topk 1", "--seed 4 --window 128 --seq 300 --layers 2 --random-nibbles",
    "--seed 6 --layers 3 --pos-offset 99900 --head-dim 128", "--seed 9 --pos-offset 4090 --head-dim 16 --heads 6 --kv-heads 3"])
def test_an_independent_oracle_agrees(shared: Path, tmp_path: Path, options: str) -> None:
    pytest.importorskip("torch", reason="the oracle tool writes its checkpoints with torch")
    pytest.importorskip("safetensors")
    tool = shared / "tools" / "make_oracle_checkpoint.py"
    subprocess.run([sys.executable, str(tool), "--out", str(tmp_path), "--no-transformers", *options.split()], check=True)
    oracle = np.load(tmp_path / "oracle.npz")
    words = options.split()
    offset = int(words[words.index("--pos-offset") + 1]) if "--pos-offset" in words else 0
    trace = forward(read_model(tmp_path), oracle["tokens"], first_position=offset)
    assert np.array_equal(np.stack(trace.router_choice), oracle["router_idx_f64"])
    for mine, theirs in ((trace.logits, "logits_f64"), (np.stack(trace.residual), "hidden_f64"),
                         (np.stack(trace.router_weight), "router_w_f64")):
        assert np.abs(mine - oracle[theirs]).max() < 1e-11
    assert np.abs(np.stack(trace.attn).reshape(oracle["attn_f64"].shape) - oracle["attn_f64"]).max() < 1e-11


def read_model(folder: Path) -> Model:
    """A Hugging Face folder, read without the package under test."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    tensors: dict[str, npt.NDArray[Any]] = {}
    for name in set(index.values()):
        raw = np.fromfile(folder / name, dtype=np.uint8)
        start = 8 + int(raw[:8].view(np.uint64)[0])
        for key, entry in json.loads(raw[8:start].tobytes()).items():
            if key != "__metadata__":
                first, last = entry["data_offsets"]
                data = raw[start + first:start + last].copy()
                tensors[key] = (data.view(np.uint16) if entry["dtype"] == "BF16" else data).reshape(entry["shape"])
    return Model(json.loads((folder / "config.json").read_text()), tensors)
