"""gptoss_native.ops: each kernel alone against its float64 oracle, on every instruction set, over the emulator, and on a
card where there is one; and what crosses over DLPack. The oracles themselves are compared with the suite's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import number_formats
import reference
import reference_rope
import sampling_twin
import tolerances
from emulated import register_emulated
from engines import DEVICE, ISAS, skip_unless_present, skip_unless_usable
from gptoss_native import DeviceError, ops
from gptoss_native.ops import reference as oracle
from tolerances import EPSILON, Tolerance

Rng = np.random.Generator
PRECISIONS = ("exact", "fast")
ROUNDED = Tolerance(0.5 * EPSILON, 12 * EPSILON, "the oracle rounds the same operands; a few (1 in 1,000) fall to the other "
                    "side because of float32 noise, by a unit of 2^-7 at most")


class Lab:
    """A device under test, and how large its cases may be."""

    def __init__(self, device: str | ops.Device, small: bool) -> None:
        self.device, self.small = device, small

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(ops, name)
        return lambda *args, **kwargs: function(*args, device=self.device, **kwargs)


CPUS = ISAS if DEVICE == "cpu" else []


@pytest.fixture(scope="module", params=[*CPUS, pytest.param("emulated", marks=pytest.mark.slow),
                                        pytest.param("cuda", marks=pytest.mark.gpu)])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    if request.param == "emulated":
        return Lab(register_emulated(tmp_path_factory), small=True)
    if request.param == "cuda":
        skip_unless_present("cuda")
        return Lab("cuda", small=False)
    skip_unless_usable(request.param)
    return Lab(ops.Device("cpu", threads=2, isa=request.param), small=False)


@pytest.fixture
def emulated(tmp_path_factory: pytest.TempPathFactory) -> str:
    return register_emulated(tmp_path_factory)


@pytest.fixture(autouse=True)
def silent(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """A fault that nobody noticed in the numbers is still a fault."""
    yield
    assert "emulator:" not in capfd.readouterr().err


def normal(rng: Rng, *shape: int, scale: float = 1.0) -> npt.NDArray[np.float32]:
    return rng.normal(0, scale, shape).astype(np.float32)


def bf16(rng: Rng, *shape: int, scale: float = 1.0) -> npt.NDArray[np.uint16]:
    return oracle.to_bf16(normal(rng, *shape, scale=scale))


def experts(rng: Rng, *shape: int, k: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Every code, and a range of scales."""
    blocks = rng.integers(0, 256, (*shape, k // 32, 16), dtype=np.uint8)
    return blocks, rng.integers(117, 125, (*shape, k // 32), dtype=np.uint8)


def compare(got: Any, want: npt.NDArray[Any], precision: str, exact: Tolerance) -> None:
    assert isinstance(got, np.ndarray), "numpy in, numpy out"
    tolerances.check(got, want, exact if precision == "exact" else ROUNDED)


PRODUCT = tolerances.EXACT["product"]
SHAPES = [(1, 64, 64), (2, 1, 32), (3, 65, 96), (7, 128, 160), (50, 96, 64)]
LARGE = [(1, 1031, 2880), (65, 320, 2880)]


def sizes(lab: Lab) -> list[tuple[int, int, int]]:
    return SHAPES if lab.small else SHAPES + LARGE


@pytest.mark.parametrize("precision", PRECISIONS)
def test_linear(lab: Lab, precision: str) -> None:
    rng = np.random.default_rng(1)
    for tokens, rows, k in [*sizes(lab), (3, 5, 34)]:
        x, weight, bias = normal(rng, tokens, k), bf16(rng, rows, k), bf16(rng, rows)
        for b in (bias, None):
            got = lab.linear(x, weight, b, precision=precision)
            compare(got, oracle.linear(x, weight, b, rounded=precision == "fast"), precision, PRODUCT)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_mxfp4_linear(lab: Lab, precision: str) -> None:
    rng = np.random.default_rng(2)
    for tokens, rows, k in sizes(lab):
        x, (blocks, scales), bias = normal(rng, tokens, k), experts(rng, rows, k=k), bf16(rng, rows)
        for b in (bias, None):
            got = lab.mxfp4_linear(x, blocks, scales, b, precision=precision)
            compare(got, oracle.mxfp4_linear(x, blocks, scales, b, rounded=precision == "fast"), precision, PRODUCT)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("tokens", [1, 3, 9])
def test_what_is_not_a_number_stays_with_its_token(lab: Lab, precision: str, tokens: int) -> None:
    """Nor does it get lost where the weights are 0."""
    blocks, scales = np.full((9, 2, 16), 0x22, np.uint8), np.full((9, 2), 127, np.uint8)
    blocks[0] = 0
    for bad in (np.nan, np.inf, -np.inf):
        x = np.ones((tokens, 64), np.float32)
        x[-1, 40] = bad
        got = np.asarray(lab.mxfp4_linear(x, blocks, scales, precision=precision))
        assert np.isnan(got[-1, 0]) and not np.isfinite(got[-1]).any()
        assert (got[:-1, 0] == 0).all() and (got[:-1, 1:] == 64).all()


def test_every_code_under_every_scale(lab: Lab) -> None:
    """One weight at a time, through the product itself: 16 codes times the scales whose products are float32."""
    codes = np.arange(32, dtype=np.uint8) % 16
    scales = np.arange(253, dtype=np.uint8)[:, None]
    blocks = np.broadcast_to(codes[0::2] | codes[1::2] << 4, (253, 1, 16)).copy()
    want = oracle.dequantize_mxfp4(blocks, scales)
    got = lab.mxfp4_linear(np.eye(32, dtype=np.float32), blocks, scales, precision="exact")
    detail = ops.device.device_of(lab.device).lab().detail
    # AMX takes subnormals for 0 on its tiles, Apple's GPUs everywhere.
    flushed, apple = np.where(np.abs(want) < 2.0**-126, 0, want), detail.startswith("Apple")
    assert np.array_equal(got.T, flushed if detail == "amx" or apple else want)
    assert np.array_equal(lab.dequantize_mxfp4(blocks, scales), flushed if apple else want)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_mxfp4_grouped(lab: Lab, precision: str) -> None:
    rng = np.random.default_rng(3)
    for pairs, count, rows, k in [(1, 3, 5, 32), (23, 7, 40, 64), *([] if lab.small else [(150, 32, 96, 160)])]:
        x, (blocks, scales), bias = normal(rng, pairs, k), experts(rng, count, rows, k=k), bf16(rng, count, rows)
        expert = rng.integers(0, count, pairs).astype(np.int32)
        got = lab.mxfp4_grouped(x, blocks, scales, expert, bias, precision=precision)
        want = oracle.mxfp4_grouped(x, blocks, scales, expert, bias, rounded=precision == "fast")
        compare(got, want, precision, PRODUCT)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_experts_up_and_down(lab: Lab, precision: str) -> None:
    rng = np.random.default_rng(4)
    for tokens, count, chosen, inner, k in [(1, 4, 4, 32, 32), (9, 5, 2, 96, 64), *([] if lab.small else [(40, 128, 4, 64, 96)])]:
        choice = np.stack([rng.permutation(count)[:chosen] for _ in range(tokens)]).astype(np.int32)
        x, (blocks, scales) = normal(rng, tokens, k, scale=4), experts(rng, count, 2 * inner, k=k)
        bias = bf16(rng, count, 2 * inner)
        got = lab.moe_up(x, blocks, scales, choice, bias, precision=precision)
        want = oracle.moe_up(x, blocks, scales, choice, bias, rounded=precision == "fast")
        compare(got, want, precision, tolerances.EXACT["experts"])

        h, (blocks, scales) = normal(rng, tokens, chosen, k), experts(rng, count, inner, k=k)
        bias, weight = bf16(rng, count, inner), rng.uniform(0.1, 1, (tokens, chosen)).astype(np.float32)
        got = lab.moe_down(h, blocks, scales, choice, weight, bias, precision=precision)
        want = oracle.moe_down(h, blocks, scales, choice, weight, bias, rounded=precision == "fast")
        compare(got, want, precision, tolerances.EXACT["experts"])


ATTENTION = [  # tokens, keys, heads, kv_heads, head_dim, window
    (1, 1, 2, 1, 16, None), (1, 65, 4, 2, 64, None), (5, 70, 8, 1, 32, 3), (66, 66, 4, 4, 24, None),
    (1, 129, 2, 1, 64, 128), (3, 130, 2, 2, 128, 128), (1, 1100, 2, 1, 16, None)]
LONG_ATTENTION = [(2, 2500, 8, 1, 64, None), (70, 1500, 64, 8, 64, 128)]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_attention(lab: Lab, precision: str) -> None:
    rng = np.random.default_rng(5)
    fast = precision == "fast"
    for tokens, keys, heads, kv_heads, dim, window in ATTENTION + ([] if lab.small else LONG_ATTENTION):
        q, sinks = normal(rng, tokens, heads, dim, scale=2), bf16(rng, heads)
        k, v = normal(rng, keys, kv_heads, dim), normal(rng, keys, kv_heads, dim)
        attn, lse = lab.attention(q, k, v, sinks, window=window, precision=precision, kv_dtype="bf16" if fast else "f32")
        want, want_lse = oracle.attention(q, k, v, sinks, window=window, rounded=fast, bf16_kv=fast)
        limits = tolerances.SAME_ROUNDINGS if fast else tolerances.EXACT
        tolerances.check(attn, want, limits["attention"])
        assert np.abs(lse - want_lse).max() <= limits["lse"].largest


RAGGED = [  # query lengths, key lengths, heads, kv_heads, head_dim, window
    ([1, 1, 1], [9, 200, 65], 4, 2, 32, None), ([3, 1, 64, 2], [3, 130, 64, 70], 2, 1, 16, None),
    ([1, 5, 1], [140, 5, 129], 4, 4, 16, 128), ([2, 1], [300, 1], 2, 2, 24, 3), ([1, 1], [1030, 3], 1, 1, 16, None)]
LONG_RAGGED = [([1, 1, 1, 1], [1100, 17, 2100, 1024], 8, 1, 64, None), ([40, 1, 100], [700, 1500, 100], 16, 2, 64, 128)]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_attention_of_several_sequences(lab: Lab, precision: str) -> None:
    """Each as the oracle has it, and bit for bit as it is alone."""
    rng = np.random.default_rng(19)
    fast = precision == "fast"
    rounding: dict[str, Any] = {"precision": precision, "kv_dtype": "bf16" if fast else "f32"}
    for queries, cached, heads, kv_heads, dim, window in RAGGED + ([] if lab.small else LONG_RAGGED):
        q, sinks = normal(rng, sum(queries), heads, dim, scale=2), bf16(rng, heads)
        k, v = normal(rng, sum(cached), kv_heads, dim), normal(rng, sum(cached), kv_heads, dim)
        lengths: dict[str, Any] = {"query_lengths": queries, "key_lengths": cached}
        attn, lse = lab.attention(q, k, v, sinks, window=window, **lengths, **rounding)
        want, want_lse = oracle.attention(q, k, v, sinks, window=window, rounded=fast, bf16_kv=fast, **lengths)
        limits = tolerances.SAME_ROUNDINGS if fast else tolerances.EXACT
        tolerances.check(attn, want, limits["attention"])
        assert np.abs(lse - want_lse).max() <= limits["lse"].largest
        query, key = np.cumsum([0, *queries]), np.cumsum([0, *cached])
        for i in range(len(queries)) if not lab.small else [1]:
            of, at = slice(query[i], query[i + 1]), slice(key[i], key[i + 1])
            alone, lse_alone = lab.attention(q[of], k[at], v[at], sinks, window=window, **rounding)
            assert np.array_equal(alone, attn[of]) and np.array_equal(lse_alone, lse[of]), i


def test_attention_of_a_token_alone_is_that_of_the_token_in_a_prefill(lab: Lab) -> None:
    rng = np.random.default_rng(6)
    keys = 200 if lab.small else 1030  # test_gpu_device.py has the splits of long contexts
    q, k, v = normal(rng, 5, 4, 16), normal(rng, keys, 2, 16), normal(rng, keys, 2, 16)
    sinks = bf16(rng, 4)
    for window in (None, 100):
        together, lse = lab.attention(q, k, v, sinks, window=window)
        alone, lse_alone = lab.attention(q[2:3], k[:-2], v[:-2], sinks, window=window)
        assert np.array_equal(alone[0], together[2]) and np.array_equal(lse_alone[0], lse[2])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows(lab: Lab, precision: str) -> None:
    rng = np.random.default_rng(7)
    fast = precision == "fast"
    for tokens, size in [(1, 32), (3, 96), (2, 2880)]:
        x, gain, u = normal(rng, tokens, size), bf16(rng, size), normal(rng, tokens, 2 * size, scale=6)
        compare(lab.rms_norm(x, gain, eps=1e-3, precision=precision),
                oracle.rms_norm(x, gain, eps=1e-3, rounded=fast), precision, PRODUCT)
        compare(lab.swiglu(u, precision=precision), oracle.swiglu(u, rounded=fast), precision, tolerances.EXACT["experts"])
    x, gain = normal(rng, 2, 37), bf16(rng, 37)
    compare(lab.rms_norm(x, gain, precision=precision), oracle.rms_norm(x, gain, rounded=fast), precision, PRODUCT)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rope(lab: Lab, precision: str) -> None:
    rng = np.random.default_rng(8)
    for heads, dim in [(1, 16), (3, 64), (2, 24), (1, 128)]:
        inv_freq, concentration = ops.rope_table(dim)
        x, position = normal(rng, 4, heads, dim), np.array([0, 1, 4097, 131071], np.int32)
        got = lab.rope(x, position, inv_freq, concentration, precision=precision)
        want = oracle.rope(x, position, inv_freq, concentration, rounded=precision == "fast")
        compare(got, want, precision, PRODUCT)


def test_route(lab: Lab) -> None:
    rng = np.random.default_rng(9)
    for tokens, count, chosen in [(1, 1, 1), (5, 32, 4), (3, 130, 8), (2, 7, 7)]:
        logits = normal(rng, tokens, count)
        logits[0, :: 2] = logits[0, 0]  # ties go to the lowest id
        choice, weight = lab.route(logits, chosen)
        want_choice, want_weight = oracle.route(logits, chosen)
        assert np.array_equal(choice, want_choice)
        tolerances.check(weight, want_weight, PRODUCT)


DRAWS = [{"temperature": 0.0}, {}, {"temperature": 0.7, "top_p": 0.9, "seed": 2**63 + 5}, {"top_k": 5, "index": 3},
         {"min_p": 0.2, "position": 77}, {"top_k": 20, "top_p": 0.8, "min_p": 0.01, "temperature": 1.5, "seed": 9}]


def test_draws_are_those_of_the_oracle(lab: Lab) -> None:
    rng = np.random.default_rng(10)
    logits = normal(rng, 6, 201, scale=2)
    drawn = lab.sample(logits, [ops.Draw(**p, logprobs=4) for p in DRAWS])
    for row, p in enumerate(DRAWS):
        token, margin = oracle.sample(logits[row], **p)
        assert margin > 1e-5 and drawn.token[row] == token, p
        log_probabilities = sampling_twin.log_softmax(logits[row])
        np.testing.assert_allclose(drawn.logprob[row], log_probabilities[token], rtol=1e-6)
        best = np.argsort(-logits[row], kind="stable")[:4]
        assert np.array_equal(drawn.top_token[row, :4], best)
        np.testing.assert_allclose(drawn.top_logprob[row, :4], log_probabilities[best], rtol=1e-6)


def test_masks_and_edits_of_a_draw(lab: Lab) -> None:
    rng = np.random.default_rng(11)
    logits = normal(rng, 3, 101)
    before = logits.copy()
    allowed = np.zeros(4, np.uint32)
    allowed[50 // 32] |= np.uint32(1 << 50 % 32)
    bias = (np.array([7], np.int32), np.array([0], np.int32), np.array([0], np.int32), np.array([100], np.float32))
    nothing = np.zeros(4, np.uint32)
    drawn = lab.sample(logits, [ops.Draw(mask=allowed), ops.Draw(edits=bias, logprobs=0), ops.Draw(mask=nothing)])
    assert drawn.token.tolist() == [50, 7, -2]
    np.testing.assert_allclose(drawn.logprob[1], sampling_twin.log_softmax(before[1])[7], rtol=1e-6)
    assert np.array_equal(logits, before), "the caller's logits stay as they are"


def test_quantising_and_back() -> None:
    rng = np.random.default_rng(12)
    weight = bf16(rng, 96, 70, scale=0.3)
    weight[:32, 0] = 0
    blocks, scales = ops.quantize_mxfp4(weight)
    want_blocks, want_scales = oracle.quantize_mxfp4(weight)
    assert np.array_equal(blocks, want_blocks) and np.array_equal(scales, want_scales)
    values = ops.dequantize_mxfp4(blocks, scales)
    assert np.array_equal(values, oracle.dequantize_mxfp4(blocks, scales))
    again = ops.quantize_mxfp4(oracle.to_bf16(values.T))
    assert np.array_equal(ops.dequantize_mxfp4(*again), values)


@pytest.mark.parametrize("settings", [{}, {"head_dim": 128, "factor": 8.0, "truncate": True}, {"rope_type": "default"}], ids=str)
def test_the_rotary_table(settings: dict[str, Any]) -> None:
    table, concentration = ops.rope_table(**settings)
    want, want_concentration = oracle.rope_table(**settings)
    assert np.abs(table / want - 1).max() < 2**-21 and abs(concentration - want_concentration) < 1e-12
    scaling = {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
               "original_max_position_embeddings": 4096, "truncate": False} | settings
    exact, _ = reference_rope.rope_table({"rope_scaling": scaling, "rope_theta": 150000.0, "head_dim": settings.get("head_dim", 64)})
    assert np.array_equal(table, exact)


@pytest.mark.parametrize("name", [name for name in ops.__all__ if name.islower() and name not in ("reference", "tolerances")])
def test_an_operation_says_shapes_dtypes_errors_and_source(name: str) -> None:
    text = getattr(ops, name).__doc__
    for what in (r"\([a-z_]+(, [a-z_0-9 /*]+)*\)", r"\b(float32|bfloat16|uint8|int32|uint32)\b", r"ValueError:\s", r"Source: "):
        assert re.search(what, text), f"{name}: {what}"
    assert hasattr(oracle, name), "its oracle has its name"


def test_the_oracles_agree_with_those_of_the_suite() -> None:
    """Two written from the specification by themselves: a mistake in one does not hide in the other."""
    rng = np.random.default_rng(13)
    x, u = normal(rng, 5, 64), normal(rng, 5, 64, scale=6)
    gain, sinks = bf16(rng, 64), bf16(rng, 4)
    wide_gain, wide_sinks = (number_formats.bf16_to_f32(bits).astype(np.float64) for bits in (gain, sinks))
    assert np.array_equal(oracle.to_bf16(x), number_formats.bf16_round(x))
    np.testing.assert_allclose(oracle.rms_norm(x, gain), reference.rms_norm(x.astype(np.float64), wide_gain, 1e-5), rtol=1e-13)
    np.testing.assert_allclose(oracle.swiglu(u), reference.swiglu(u.astype(np.float64), {"swiglu_limit": 7.0}), rtol=1e-12)
    blocks, scales = experts(rng, 3, k=64)
    assert np.array_equal(oracle.dequantize_mxfp4(blocks, scales), number_formats.mxfp4_dequantize(blocks, scales))
    q, k, v = (normal(rng, n, h, 16).astype(np.float64) for n, h in ((7, 4), (90, 2), (90, 2)))
    for window in (None, 20):
        ours = oracle.attention(q, k, v, sinks, window=window)
        theirs = reference.attend(q, k, v, np.arange(83, 90), wide_sinks, window)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11)
    for p in DRAWS:
        settings = {"temperature": 1.0, "top_p": 1.0, "seed": 0, "index": 0, "position": 1} | p
        assert oracle.sample(x[0], **p)[0] == sampling_twin.sample(x[0], **settings)


# ---- arrays

def test_numpy_is_not_copied() -> None:
    array = np.arange(6, dtype=np.float32)
    ours = ops.Array.from_numpy(array)
    assert ours.address == array.ctypes.data and ours.shape == (6,) and ours.dtype == "float32"
    back = ours.numpy()
    array[3] = 7
    assert back[3] == 7 and back.ctypes.data == array.ctypes.data
    del ours, array
    assert back[3] == 7, "the memory lives as long as the last view"


def test_torch_is_not_copied() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(8, dtype=torch.bfloat16).reshape(2, 4)
    ours = ops.Array.from_dlpack(tensor.__dlpack__())
    assert ours.address == tensor.data_ptr() and ours.shape == (2, 4) and ours.dtype == "bfloat16"
    back = torch.from_dlpack(ours)
    assert back.data_ptr() == tensor.data_ptr() and torch.equal(back, tensor)
    del tensor, ours
    assert back[1, 3] == 7, "the memory lives as long as the last tensor"


def test_jax_is_not_copied() -> None:
    jax = pytest.importorskip("jax", reason="the package jax is not installed")
    array = jax.numpy.arange(8, dtype=jax.numpy.bfloat16).reshape(2, 4)
    ours = ops.Array.from_dlpack(array.__dlpack__())
    assert ours.address == array.unsafe_buffer_pointer() and ours.shape == (2, 4) and ours.dtype == "bfloat16"
    back = jax.dlpack.from_dlpack(ours)
    assert back.unsafe_buffer_pointer() == ours.address and (back == array).all()
    rng = np.random.default_rng(20)
    x, weight = normal(rng, 3, 64), bf16(rng, 10, 64)
    operands = jax.numpy.asarray(x), jax.lax.bitcast_convert_type(jax.numpy.asarray(weight), jax.numpy.bfloat16)
    assert np.array_equal(ops.linear(*operands), ops.linear(x, weight))


def test_torch_and_numpy_give_the_same() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(14)
    x, weight, bias = normal(rng, 3, 64), bf16(rng, 10, 64), bf16(rng, 10)
    want = ops.linear(x, weight, bias)
    tensors = [torch.from_numpy(x), *(torch.from_numpy(a.view(np.int16)).view(torch.bfloat16) for a in (weight, bias))]
    got = ops.linear(*tensors)
    assert np.array_equal(got, want)
    reference_product = torch.nn.functional.linear(*(t.double() for t in tensors)).numpy()
    tolerances.check(got, reference_product, tolerances.FAST["product"])


class Foreign:
    """Another library's array on a device, which notes with which streams it is asked for."""

    def __init__(self, array: ops.Array) -> None:
        self.array, self.streams = array, list[int | None]()

    def __dlpack__(self, *, stream: int | None = None) -> object:
        self.streams.append(stream)
        return self.array.__dlpack__(stream=stream)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_what_lies_on_the_device_stays_there(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    if name == "emulated":
        register_emulated(tmp_path_factory)
    else:
        skip_unless_present(name)
    rng = np.random.default_rng(15)
    x, weight = normal(rng, 3, 64), bf16(rng, 10, 64)
    lab = ops.Device(name).lab()
    foreign = Foreign(lab.upload(ops.Array.from_numpy(x), lab.stream))
    want = ops.linear(x, weight, device=name)
    for stream in (None, lab.stream):
        y = ops.linear(foreign, weight, device=name, stream=stream)
        assert isinstance(y, ops.Array) and y.__dlpack_device__() == lab.place and y.shape == (3, 10)
        assert np.array_equal(y.numpy(), want)
        z = ops.rms_norm(y, bf16(rng, 10), device=name, stream=stream)  # an Array is an operand, too
        assert z.shape == (3, 10)
        back = ops.Array.from_dlpack(y.__dlpack__())
        assert back.address == y.address, "not copied"
    assert foreign.streams.count(ops.device.device_of(name).lab().stream) >= 1 and None not in foreign.streams
    with pytest.raises(ValueError, match=r"x: it lies on the DLPack device .*, the operation runs on \(1, 0\) \(cpu\)"):
        ops.linear(foreign, weight)


@pytest.mark.gpu
def test_torch_on_a_card_is_not_copied_and_its_stream_is_honoured() -> None:
    torch = pytest.importorskip("torch")
    skip_unless_present("cuda")
    if not torch.cuda.is_available():
        pytest.skip("a torch without CUDA")
    weight = torch.randn(2880, 2880, device="cuda").bfloat16()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        x = torch.randn(64, 2880, device="cuda")
        for _ in range(20):
            x = x * 1.01
        y = torch.from_dlpack(ops.linear(x, weight, device="cuda", stream=stream.cuda_stream)) * 2
    stream.synchronize()
    want = torch.nn.functional.linear(x.bfloat16().double(), weight.double()) * 2
    assert (y - want).abs().max() <= 1e-4 * want.abs().max()
    own = torch.from_dlpack(ops.linear(x, weight, device="cuda"))
    assert torch.equal(own * 2, y)


# ---- what is refused

def rejected(error: type[Exception], match: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    with pytest.raises(error, match=match):
        function(*args, **kwargs)


def test_wrong_operands_are_named() -> None:
    rng = np.random.default_rng(16)
    x, weight = normal(rng, 3, 64), bf16(rng, 10, 64)
    blocks, scales = experts(rng, 10, k=64)
    rejected(TypeError, "x: expected float32, found bfloat16", ops.linear, weight, weight)
    rejected(ValueError, "x: expected float32, uint16 .*found float64", ops.linear, x.astype(np.float64), weight)
    rejected(TypeError, "weight: expected bfloat16; its bits as uint16, or a bfloat16 array, found float32", ops.linear, x, x)
    rejected(TypeError, "x: expected a numpy array or an array that speaks DLPack, found list", ops.linear, [[1.0]], weight)
    rejected(ValueError, r"weight: expected the shape \(rows, k = 64\), found \(10, 32\)", ops.linear, x, weight[:, :32].copy())
    rejected(ValueError, r"x: expected the shape \(tokens, k\), found \(64,\)", ops.linear, x[0], weight)
    rejected(ValueError, "x: expected a C-contiguous array", ops.linear, x[:, ::2], weight)
    rejected(ValueError, "x: expected at least one element", ops.linear, x[:0], weight)
    rejected(ValueError, r"bias: expected the shape \(rows = 10\)", ops.linear, x, weight, bf16(rng, 9))
    rejected(ValueError, "k: expected an even number, found 33", ops.linear, normal(rng, 1, 33), bf16(rng, 2, 33))
    rejected(ValueError, "k: expected a multiple of 32.*found 40", ops.mxfp4_linear, normal(rng, 1, 40), blocks, scales)
    rejected(ValueError, r"blocks: expected the shape \(rows, 2, 16\)", ops.mxfp4_linear, x, blocks[:, :1].copy(), scales)
    bad = scales.copy()
    bad[3, 1] = 255
    rejected(ValueError, r"scales: 1 of them are 255, which is not-a-number in E8M0; the first at \(3, 1\)", ops.mxfp4_linear, x, blocks, bad)
    rejected(ValueError, "expert: expected experts from 0 to 0, found 0 to 1", ops.mxfp4_grouped, x, blocks[None], scales[None],
             np.array([0, 1, 0], np.int32))
    rejected(ValueError, "rows: expected a multiple of 64", ops.moe_up, x, blocks[None], scales[None], np.zeros((3, 1), np.int32))
    rejected(ValueError, "precision: expected 'exact' or 'fast', found 'half'", ops.linear, x, weight, precision="half")
    rejected(ValueError, "no device is named 'abacus'", ops.linear, x, weight, device="abacus")
    rejected((ValueError, DeviceError), "hip", ops.linear, x, weight, device="hip")


def test_wrong_heads_draws_and_tables_are_named() -> None:
    rng = np.random.default_rng(17)
    q, k, sinks = normal(rng, 3, 4, 16), normal(rng, 8, 2, 16), bf16(rng, 4)
    rejected(ValueError, r"v: expected the shape \(keys = 8, kv_heads = 2, head_dim = 16\)", ops.attention, q, k, k[:7].copy(), sinks)
    rejected(ValueError, "k: expected at least as many keys as queries, 3, found 2", ops.attention, q, k[:2].copy(), k[:2].copy(), sinks)
    several = {"query_lengths": [1, 2], "key_lengths": [3, 5]}
    rejected(ValueError, "expected both or neither", ops.attention, q, k, k, sinks, query_lengths=[3])
    rejected(ValueError, "expected one of each for a sequence, found 2 and 1", ops.attention, q, k, k, sinks, **several | {"key_lengths": [8]})
    rejected(ValueError, "query_lengths: expected lengths that add up to 3, found 4", ops.attention, q, k, k, sinks,
             **several | {"query_lengths": [2, 2]})
    rejected(ValueError, "key_lengths: expected lengths that add up to 8, found 7", ops.attention, q, k, k, sinks,
             **several | {"key_lengths": [2, 5]})
    rejected(ValueError, "found 1 for 2 of sequence 1", ops.attention, q, k, k, sinks, **several | {"key_lengths": [7, 1]})
    rejected(ValueError, "each of query_lengths must be at least 1, not 0", ops.attention, q, k, k, sinks, **several | {"query_lengths": [0, 3]})
    rejected(TypeError, "each of key_lengths must be an integer", ops.attention, q, k, k, sinks, **several | {"key_lengths": [3.0, 5]})
    rejected(ValueError, "heads: expected a multiple of kv_heads = 3", ops.attention, q, *[normal(rng, 8, 3, 16)] * 2, sinks)
    rejected(ValueError, "window: expected 1 to", ops.attention, q, k, k, sinks, window=0)
    wide = normal(rng, 3, 4, 130)
    rejected(ValueError, "head_dim: expected an even number of at most 128", ops.attention, wide, wide, wide, sinks)
    table, logits = ops.rope_table(16)[0], q[:, 0].copy()
    rejected(ValueError, "position: expected numbers from 0, found -1", ops.rope, q, np.array([0, -1, 2], np.int32), table)
    rejected(TypeError, "position: expected int32, found float32", ops.rope, q, table[:3], table)
    rejected(ValueError, r"inv_freq: expected the shape \(8\)", ops.rope, q, np.arange(3, dtype=np.int32), table[:7])
    rejected(ValueError, "head_dim: expected an even number", ops.rope_table, 63)
    rejected(ValueError, "rope_type", ops.rope_table, rope_type="llama3")
    rejected(ValueError, "chosen: expected 1 to 16, found 17", ops.route, logits, 17)
    rejected(ValueError, "u: expected a multiple of 64 columns", ops.swiglu, normal(rng, 1, 32))
    rejected(ValueError, "draws: expected one for each of 3 rows, found 1", ops.sample, logits, [ops.Draw()])
    rejected(ValueError, "mask: expected 1 words, found 2", ops.sample, logits, ops.Draw(mask=np.zeros(2, np.uint32)))
    rejected(ValueError, "temperature", ops.sample, logits, ops.Draw(temperature=-1))
    rejected(ValueError, "multiple of 32, found 33", ops.quantize_mxfp4, bf16(rng, 33, 2))
    infinite = bf16(rng, 32, 2)
    infinite[3, 1] = 0x7F80
    rejected(ValueError, "finite", ops.quantize_mxfp4, infinite)


def test_a_device_times_its_calls_where_it_is_asked_to() -> None:
    rng = np.random.default_rng(20)
    x, weight = normal(rng, 3, 64), bf16(rng, 10, 64)
    plain, timed = ops.Device("cpu"), ops.Device("cpu", timed=True)
    want = ops.linear(x, weight, device=plain)
    assert plain.seconds is None and timed.seconds is None
    assert np.array_equal(ops.linear(x, weight, device=timed), want)
    assert timed.seconds is not None and timed.seconds > 0
    timed.seconds = None
    assert np.array_equal(ops.linear(x, weight, device=timed, stream=timed.stream), want)
    assert timed.seconds is None, "whoever gives a stream decides what runs there"


def test_poisoned_results_begin_as_no_number(lab: Lab) -> None:
    call = ops.call.Call(ops.Device(ops.device.device_of(lab.device).name, poison=True))
    assert np.isnan(call.result(3, 5).numpy()).all() and (call.result(7, dtype="int32").numpy() == -1).all()


@pytest.mark.slow
def test_operations_are_timed_by_the_device(emulated: str) -> None:
    rng = np.random.default_rng(18)
    for name in ("cpu", emulated):
        lab = ops.Device(name).lab()
        up = [lab.upload(ops.Array.from_numpy(a), lab.stream) if name != "cpu" else ops.Array.from_numpy(a)
              for a in (normal(rng, 2, 64), bf16(rng, 3, 64))]
        results = [lab.empty((2, 3), "float32") for _ in range(2)]
        operations = [lab.linear(*up, None, y, 2, 3, 64, lab.stream) for y in results]
        times = lab.time(operations, 3)
        assert len(times) == 3 and min(times) > 0
        assert np.array_equal(lab.download(results[0]), lab.download(results[1]))
        assert lab.read_bandwidth(1 << 16, 0) > 0
