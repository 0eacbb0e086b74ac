"""The kernels of cuda/mma, cuda/wgmma and hip/matrix as the matrix kernels of the GPU device: over the emulator, in whole engines.

Steps are as right as SIMT's, and as independent of the batch, the chunks and the schedule. What the kernels do not take
is SIMT's, and the device says what they take.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import tolerances
from conftest import CaseMaker
from emulated import register_emulated
from engines import all_logits, ids, logits_together
from gptoss_native import _core, ops
from gptoss_native.ops import reference as oracle
from gptoss_native.ops.device import Precision
from gptoss_native.selftest import cases
from make_checkpoint import hf_config, make_tensors, write_bf16
from number_formats import bf16_round, bf16_to_f32, mxfp8_round
from shapes import FULL, Shape
from test_device_plugin import FIELDS, generate, open_on

pytestmark = pytest.mark.slow

FIELDS_OF = {"num_hidden_layers": 2, "hidden_size": 128, "intermediate_size": 64, "head_dim": 64, "num_attention_heads": 4,
             "num_key_value_heads": 2, "num_local_experts": 16, "num_experts_per_tok": 2, "vocab_size": 208}
TAKEN = Shape("matrix", FIELDS_OF, 26, True)
SHAPES = [  # named for mma.sync; the kernels of hip/matrix take a k of 96 and of 32, too
    TAKEN,
    Shape("matrix_router_and_head_by_simt", FIELDS_OF | {"num_local_experts": 6, "vocab_size": 101}, 8),
    Shape("matrix_down_by_simt", FIELDS_OF | {"intermediate_size": 96}, 8),
    Shape("matrix_nothing", FIELDS_OF | {"hidden_size": 96, "intermediate_size": 32}, 8),
]
EXACT = {"max_context": 256, "max_tokens": 80, "max_outputs": 80, "threads": 2}


# The emulated device, what it is asked for, and what it says that it takes.
KERNELS = {
    "mma": ("emulated", "mma", "mma.sync for products whose k is a multiple of 64"),
    "mfma": ("emulated_wave64", "amd", "MFMA for products whose k is a multiple of 32"),
    "wmma": ("emulated_wave32", "amd", "WMMA for products whose k is a multiple of 32"),
}


@pytest.fixture(params=["mma", "mfma", pytest.param("wmma", marks=pytest.mark.skipif(
    "GPTOSS_EMULATED_WAVE32" not in os.environ, reason="wmma_product_test does; set GPTOSS_EMULATED_WAVE32 for more"))])
def kernels(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def device(kernels: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    name, asked, _ = KERNELS[kernels]
    monkeypatch.setenv("GPTOSS_EMULATED_MATRIX", asked)
    return register_emulated(tmp_path_factory, name)


@pytest.fixture(autouse=True)
def silent(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """A fault that nobody noticed in the numbers is still a fault."""
    yield
    assert "emulator:" not in capfd.readouterr().err


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_exact_logits_are_those_of_the_reference(case_of: CaseMaker, device: str, kernels: str, shape: Shape) -> None:
    case = case_of(shape)
    engine = open_on(device, case.folder, **EXACT)
    assert KERNELS[kernels][2] in engine.device["isa"]
    got = all_logits(engine, case.tokens)
    engine.close()
    assert np.abs(got - case.trace.logits).max() <= tolerances.LOGITS


def test_chunks_token_by_token_and_another_schedule_change_no_bit(
    case_of: CaseMaker, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also: a step alone is the same eagerly, captured, and replayed."""
    case = case_of(TAKEN)
    engine = open_on(device, case.folder, **EXACT)
    whole = all_logits(engine, case.tokens)
    assert np.array_equal(all_logits(engine, case.tokens, [20, 1, 5]), whole)
    assert np.array_equal(all_logits(engine, case.tokens[:8], [1]), whole[:8])
    engine.close()
    monkeypatch.setenv("GPTOSS_EMULATOR_SEED", "1")
    engine = open_on(device, case.folder, **EXACT)
    assert np.array_equal(all_logits(engine, case.tokens[:12], [9]), whole[:12])
    engine.close()


def test_two_sequences_in_one_step_are_two_alone(case_of: CaseMaker, device: str) -> None:
    case = case_of(TAKEN)
    engine = open_on(device, case.folder, **EXACT)
    prompts = [case.tokens[:7], case.tokens[14:21][::-1].copy()]
    alone = [all_logits(engine, prompt) for prompt in prompts]
    together = logits_together(engine, prompts, [5, 1])
    engine.close()
    for got, want in zip(together, alone, strict=True):
        assert np.array_equal(got, want)


STAGES = ["attn_qkv", "attn", "attn_out", "moe_route", "moe_up", "moe_down"]


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_fused_stages_change_no_bit(
    case_of: CaseMaker, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """Of decode steps, with a long enough context for attention in splits: all that a layer gives, and the logits."""
    monkeypatch.setenv("GPTOSS_EMULATED_MATRIX", "mma")
    device = register_emulated(tmp_path_factory)
    case = case_of(FUSED)
    fused = decode_steps(device, case.folder, case.tokens, precision, 1)
    monkeypatch.setenv("GPTOSS_EMULATED_WITHOUT_FUSION", "1")
    assert_same_bits(decode_steps(device, case.folder, case.tokens, precision, 1), fused)


FUSED = Shape("matrix_fused", FIELDS_OF | {"num_hidden_layers": 1, "layer_types": [FULL], "num_attention_heads": 2,
                                           "num_key_value_heads": 1}, 26, True)


def decode_steps(device: str, folder: Path, prompt: npt.NDArray[Any], precision: str, steps: int) -> dict[str, npt.NDArray[Any]]:
    """FIELDS of a step of two tokens behind keys enough to be split, and the logits of it and of steps of one token."""
    tokens = ids(np.resize(prompt, 259 + steps))
    engine = open_on(device, folder, max_context=512, max_tokens=262, max_outputs=8, max_observed=4, precision=precision, kv_dtype="bf16")
    session = engine.session()
    engine.step([_core.Work(session, tokens[:257])])
    output, fields = engine.observe([_core.Work(session, tokens[257:259], rows=ids([1]))], FIELDS)
    for step in range(259, 259 + steps):
        [next_one] = engine.step([_core.Work(session, tokens[step:step + 1], rows=ids([0]))])
        fields[f"logits behind {step}"] = next_one.logits
    engine.close()
    return fields | {"logits": output[0].logits}


def assert_same_bits(got: dict[str, npt.NDArray[Any]], want: dict[str, npt.NDArray[Any]]) -> None:
    assert got.keys() == want.keys()
    for name, values in want.items():
        assert np.array_equal(got[name], values), name


def layer_fields(device: str, folder: Path, layer: int, tokens: int, stages: list[str] = STAGES,
                 **settings: Any) -> dict[str, npt.NDArray[Any]]:
    """FIELDS after the stages of a layer, of the same residual on every device."""
    residual = np.random.default_rng(4).normal(0, 2, (tokens, 128)).astype(np.float32)
    engine = open_on(device, folder, **(EXACT | settings))
    fields = engine.run_stages(stages, layer, [_core.Work(engine.session(), ids(range(tokens)))], {"residual": residual}, FIELDS)
    engine.close()
    return fields


@pytest.mark.parametrize("layer", [0, 1], ids=["sliding", "full"])
@pytest.mark.parametrize("tokens", [1, 30])
def test_every_field_of_a_layer(case_of: CaseMaker, device: str, layer: int, tokens: int) -> None:
    cpu, other = (layer_fields(name, case_of(TAKEN).folder, layer, tokens) for name in ("cpu", device))
    assert np.array_equal(cpu.pop("router_choice"), other.pop("router_choice"))
    for field in cpu:
        assert tolerances.error(cpu[field], other[field].astype(np.float64))[1] <= 2e-5, field


@pytest.mark.parametrize("kv_dtype", ["f32", "bf16"])
def test_both_round_the_same_operands(case_of: CaseMaker, device: str, kv_dtype: str) -> None:
    """They are nearer to each other than to exact arithmetic."""
    folder = case_of(TAKEN).folder
    exact = layer_fields("cpu", folder, 1, 20)
    cpu, other = (layer_fields(name, folder, 1, 20, precision="fast", kv_dtype=kv_dtype) for name in ("cpu", device))
    for field in ("attn", "lse", "router_logits", "residual"):
        effect = tolerances.error(other[field], exact[field].astype(np.float64))[0]
        assert effect > 1e-5, field
        assert tolerances.error(cpu[field], other[field].astype(np.float64))[0] < 0.5 * effect, field


@pytest.mark.parametrize("layer", [0, 1], ids=["sliding", "full"])
def test_attention_of_a_prefill_beyond_a_page(case_of: CaseMaker, device: str, layer: int) -> None:
    """In fast with a bf16 cache: the kernel for more tokens than a decode has."""
    folder = case_of(TAKEN).folder
    residual = np.random.default_rng(4).normal(0, 2, (70, 128)).astype(np.float32)
    engines = [open_on("cpu", folder, **EXACT), open_on(device, folder, **EXACT | {"precision": "fast", "kv_dtype": "bf16"})]
    attn = []
    for engine in engines:
        session = engine.session()
        stages = ["attn_qkv", "attn"]
        attn.append(engine.run_stages(stages, layer, [_core.Work(session, ids(range(70)))], {"residual": residual}, ["attn", "lse"]))
        engine.close()
    exact, fast = attn
    tolerances.check(fast["attn"], exact["attn"].astype(np.float64), tolerances.FAST["attention"])
    assert np.abs(fast["lse"] - exact["lse"]).max() <= tolerances.FAST["lse"].largest


def test_generated_tokens_are_those_of_the_cpu(case_of: CaseMaker, device: str) -> None:
    case = case_of(TAKEN)
    cpu, other = (open_on(name, case.folder, **EXACT) for name in ("cpu", device))
    sampling = {"temperature": 0.7, "top_p": 0.9, "seed": 5}
    assert generate(cpu, case.tokens[:3], 7, **sampling) == generate(other, case.tokens[:3], 7, **sampling)
    other.close()


def test_experts_in_bf16_stay_with_simt(tmp_path: Path, device: str) -> None:
    config = hf_config(**(FIELDS_OF | {"num_hidden_layers": 1}))
    write_bf16(tmp_path, config, make_tensors(config, 7), tokenizer=False)
    cpu, other = (open_on(name, tmp_path, **EXACT) for name in ("cpu", device))
    tokens = np.arange(4)
    assert np.abs(all_logits(cpu, tokens) - all_logits(other, tokens)).max() <= tolerances.LOGITS
    other.close()


@pytest.mark.parametrize("precision", ["exact", "fast"])
@pytest.mark.parametrize("tokens", [1, 9, 40])
def test_a_product_alone(device: str, precision: str, tokens: int) -> None:
    rng = np.random.default_rng(tokens)
    x = rng.normal(0, 1, (tokens, 320)).astype(np.float32)
    weight, bias = (oracle.to_bf16(rng.normal(0, 1, shape).astype(np.float32)) for shape in ((80, 320), (80,)))
    limits = (tolerances.EXACT if precision == "exact" else tolerances.FAST)["product"]
    got = ops.linear(x, weight, bias, device=device, precision=precision)
    tolerances.check(np.asarray(got), oracle.linear(x, weight, bias), limits)
    blocks = rng.integers(0, 256, (80, 10, 16), dtype=np.uint8)
    scales = rng.integers(117, 125, (80, 10), dtype=np.uint8)
    got = ops.mxfp4_linear(x, blocks, scales, bias, device=device, precision=precision)
    tolerances.check(np.asarray(got), oracle.mxfp4_linear(x, blocks, scales, bias), limits)


@pytest.mark.parametrize(("queries", "keys", "heads"), [([1, 1], [600, 3], 8), ([1], [300], 4), ([3], [300], 4)])
def test_attention_alone_of_a_token_whose_keys_are_split(device: str, queries: list[int], keys: list[int], heads: int) -> None:
    """What the splits hand to each other has its place in an operation, too."""
    for error in cases.attention(queries, keys, heads, 2, 64, None, "fast").run(ops.Device(device)):
        assert error.used <= 1, error


# --- Block-scaled products of experts, cuda/mma/scaled.cuh


@pytest.fixture
def block_scaled(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GPTOSS_EMULATED_MATRIX", "mma")
    monkeypatch.setenv("GPTOSS_CUDA_BLOCK_SCALED", "1")
    return register_emulated(tmp_path_factory, "emulated")


@pytest.mark.parametrize("tokens", [1, 9, 40])
def test_a_block_scaled_product_alone(block_scaled: str, tokens: int) -> None:
    """MXFP4 as it is and activations in MXFP8: as right as float32 for these, and as far from the truth as these are."""
    rng = np.random.default_rng(tokens)
    x = rng.normal(0, 1, (tokens, 320)).astype(np.float32)
    x[0, :64] = 0
    x[-1, 64:96] *= 2.0**-125
    bias = oracle.to_bf16(rng.normal(0, 1, 80).astype(np.float32))
    blocks = rng.integers(0, 256, (80, 10, 16), dtype=np.uint8)
    scales = rng.integers(117, 125, (80, 10), dtype=np.uint8)
    device = ops.Device(block_scaled)
    got = np.asarray(ops.mxfp4_linear(x, blocks, scales, bias, device=device, precision="fast"))
    seen = mxfp8_round(bf16_to_f32(bf16_round(x))).astype(np.float32)
    tolerances.check(got, oracle.mxfp4_linear(seen, blocks, scales, bias), tolerances.EXACT["product"])
    want = oracle.mxfp4_linear(x, blocks, scales, bias)
    tolerances.check(got, want, tolerances.MXFP8)
    exact = np.asarray(ops.mxfp4_linear(x, blocks, scales, bias, device=device, precision="exact"))
    tolerances.check(exact, want, tolerances.EXACT["product"])


def test_what_is_not_a_number_is_none_in_mxfp8(block_scaled: str) -> None:
    """Infinite too: the nearest number of e4m3 would hide it. Other tokens do not see it."""
    x = np.ones((3, 64), np.float32)
    x[0, 5], x[2, 40] = np.nan, np.inf
    blocks, scales = np.full((16, 2, 16), 0x22, np.uint8), np.full((16, 2), 127, np.uint8)
    got = np.asarray(ops.mxfp4_linear(x, blocks, scales, device=ops.Device(block_scaled), precision="fast"))
    assert np.isnan(got[[0, 2]]).all() and (got[1] == 64).all()


def test_block_scaled_experts_in_an_engine(case_of: CaseMaker, block_scaled: str) -> None:
    """The device says so, only in `fast`; chunks and single tokens change no bit; graphs are replayed."""
    case = case_of(TAKEN)
    exact = open_on(block_scaled, case.folder, **EXACT)
    assert "experts in MXFP4 (not block-scaled: for that, precision=" in exact.device["isa"]
    exact.close()
    engine = open_on(block_scaled, case.folder, **EXACT | {"precision": "fast"})
    assert "by block-scaled mma.sync with activations in MXFP8, whose layout is not verified" in engine.device["isa"]
    whole = all_logits(engine, case.tokens)
    assert np.array_equal(all_logits(engine, case.tokens, [20, 1, 5]), whole)
    assert np.array_equal(all_logits(engine, case.tokens[:8], [1]), whole[:8])
    engine.close()


@pytest.mark.parametrize("tokens", [1, 30])
def test_block_scaled_experts_in_a_layer(case_of: CaseMaker, block_scaled: str, tokens: int) -> None:
    """What they add to the residual is off by what MXFP8 costs, and by no more; what comes before is as it was."""
    before, after = ([layer_fields(name, case_of(TAKEN).folder, 1, tokens, stages, precision="fast") for name in ("cpu", block_scaled)]
                     for stages in (STAGES[:4], STAGES))
    assert np.array_equal(before[0]["router_choice"], before[1]["router_choice"])
    want, got = (last["residual"].astype(np.float64) - first["residual"] for first, last in zip(before, after, strict=True))
    tolerances.check(before[1]["residual"], before[0]["residual"].astype(np.float64), tolerances.FAST["attention"])
    tolerances.check(got, want, tolerances.MXFP8_EXPERTS)
    assert tolerances.error(got, want)[0] > 5 * tolerances.EPSILON


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_the_self_test_knows_what_block_scaled_products_multiply(block_scaled: str, precision: Precision) -> None:
    device = ops.Device(block_scaled)
    for case in (cases.mxfp4_linear(3, 48, 128, precision), cases.mxfp4_linear(3, 33, 128, precision),
                 cases.moe_up(5, 2, 6, 64, 128, precision), cases.moe_down(5, 2, 6, 48, 192, precision)):
        assert all(error.used <= 1 for error in case.run(device)), case
# --- wgmma: products of more than 64 tokens, in `fast`

WIDE_FIELDS = FIELDS_OF | {"num_hidden_layers": 1}
WIDE = Shape("wgmma", WIDE_FIELDS | {"num_experts_per_tok": 8}, 130, True)
WIDE_SHAPES = [
    WIDE,
    Shape("wgmma_router_and_head_by_simt", WIDE_FIELDS | {"num_local_experts": 6, "num_experts_per_tok": 4, "vocab_size": 101}, 100),
    Shape("wgmma_experts_by_mma", WIDE_FIELDS, 90, True),  # who have 11 tokens each
]
FAST = {"precision": "fast", "max_tokens": 140, "max_outputs": 140, "max_context": 256, "threads": 2}


def open_emulated(factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, matrix: str, folder: Path, **settings: Any) -> Any:
    monkeypatch.setenv("GPTOSS_EMULATED_MATRIX", matrix)
    settings = FAST | settings
    engine = open_on(register_emulated(factory, "emulated"), folder, **settings)
    assert ("wgmma" in engine.device["isa"]) == (matrix == "wgmma" and settings["precision"] == "fast")
    return engine


@pytest.mark.parametrize("kv_dtype", ["f32", "bf16"])
@pytest.mark.parametrize("shape", WIDE_SHAPES, ids=str)
def test_products_by_wgmma_are_those_of_mma_sync(case_of: CaseMaker, tmp_path_factory: pytest.TempPathFactory,
                                                 monkeypatch: pytest.MonkeyPatch, shape: Shape, kv_dtype: str) -> None:
    """To the bit, also where a step has a product of each kind."""
    case = case_of(shape)
    logits = []
    for matrix in ("mma", "wgmma"):
        engine = open_emulated(tmp_path_factory, monkeypatch, matrix, case.folder, kv_dtype=kv_dtype)
        logits.append(all_logits(engine, case.tokens))
        engine.close()
    assert np.array_equal(*logits)


def test_a_prefill_by_wgmma_is_a_decode_to_the_bit(case_of: CaseMaker, tmp_path_factory: pytest.TempPathFactory,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in chunks."""
    case = case_of(WIDE)
    engine = open_emulated(tmp_path_factory, monkeypatch, "wgmma", case.folder, kv_dtype="f32")
    whole = all_logits(engine, case.tokens)
    assert np.array_equal(all_logits(engine, case.tokens, [100, 1, 29]), whole)
    assert np.array_equal(all_logits(engine, case.tokens[:12], [1]), whole[:12])
    engine.close()


def test_exact_stays_with_mma_sync(case_of: CaseMaker, tmp_path_factory: pytest.TempPathFactory,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(TAKEN)
    engine = open_emulated(tmp_path_factory, monkeypatch, "wgmma", case.folder, precision="exact")
    assert np.abs(all_logits(engine, case.tokens) - case.trace.logits).max() <= tolerances.LOGITS
    engine.close()


def test_an_operation_by_wgmma(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTOSS_EMULATED_MATRIX", "wgmma")
    device = register_emulated(tmp_path_factory, "emulated")
    rng = np.random.default_rng(3)
    x = rng.normal(0, 1, (150, 320)).astype(np.float32)
    weight, bias = (oracle.to_bf16(rng.normal(0, 1, shape).astype(np.float32)) for shape in ((144, 320), (144,)))
    limits = tolerances.FAST["product"]
    got = ops.linear(x, weight, bias, device=device, precision="fast")
    tolerances.check(np.asarray(got), oracle.linear(x, weight, bias), limits)
    blocks = rng.integers(0, 256, (144, 10, 16), dtype=np.uint8)
    scales = rng.integers(117, 125, (144, 10), dtype=np.uint8)
    got = ops.mxfp4_linear(x, blocks, scales, bias, device=device, precision="fast")
    tolerances.check(np.asarray(got), oracle.mxfp4_linear(x, blocks, scales, bias), limits)


def attention_alone(device: ops.Device, queries: list[int], keys: list[int], heads: int, kv_heads: int,
                    window: int | None) -> dict[str, npt.NDArray[Any]]:
    """attn and lse, as right as their roundings to bf16 allow."""
    rng = np.random.default_rng(4)
    q, sinks = rng.normal(0, 2, (sum(queries), heads, 64)).astype(np.float32), oracle.to_bf16(rng.normal(0, 1, heads).astype(np.float32))
    k, v = (rng.normal(0, 1, (sum(keys), kv_heads, 64)).astype(np.float32) for _ in range(2))
    lengths: dict[str, Any] = {"query_lengths": queries, "key_lengths": keys, "window": window}
    attn, lse = map(np.asarray, ops.attention(q, k, v, sinks, device=device, precision="fast", kv_dtype="bf16", **lengths))
    want, want_lse = oracle.attention(q, k, v, sinks, rounded=True, bf16_kv=True, **lengths)
    tolerances.check(attn, want, tolerances.SAME_ROUNDINGS["attention"])
    assert np.abs(lse - want_lse).max() <= tolerances.SAME_ROUNDINGS["lse"].largest
    return {"attn": attn, "lse": lse}


@pytest.mark.parametrize("window", [None, 100])
def test_attention_by_wgmma_is_that_of_mma_sync(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
                                                window: int | None) -> None:
    """To the bit, of sequences that share a tile; the emulated card has four multiprocessors, which this fills."""
    results = []
    for matrix in ("mma", "wgmma"):
        monkeypatch.setenv("GPTOSS_EMULATED_MATRIX", matrix)
        device = ops.Device(register_emulated(tmp_path_factory, "emulated"))
        results.append(attention_alone(device, [5, 40, 30], [70, 300, 30], 8, 1, window))
    assert_same_bits(*results)
