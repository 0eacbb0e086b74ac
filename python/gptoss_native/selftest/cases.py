"""The kernels' cases: operands, the kernel itself, and its oracle in float64.

Small shapes are those at whose edges kernels go wrong: sizes that no vector and no tile divides, both sides of a
window and of a page, sequences of different lengths. Real ones have the sizes of gpt-oss-20b and 120b in what a kernel
sums over or counts, and few tokens, so that the oracle stays cheap: it takes seconds, and at most some hundred MB.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gptoss_native import ops
from gptoss_native.bench import kernel_costs as costs
from gptoss_native.bench.costs import Cost
from gptoss_native.bench.kernel_cases import CHOSEN, HEAD_DIM, HEADS, HIDDEN, KV_HEADS, QKV, UP, VOCAB, WINDOW
from gptoss_native.config.strict_json import counted
from gptoss_native.ops import reference
from gptoss_native.ops.device import Precision
from gptoss_native.ops.tolerances import (
    EXACT,
    ROUNDED_RESULT,
    ROUNDED_WEIGHTS,
    SAME_OPERANDS,
    SAME_ROUNDINGS,
    Tolerance,
)
from gptoss_native.selftest.compare import BF16_UNIT, Error, equal, near

Rng = np.random.Generator
Floats = npt.NDArray[np.float32]
Bits = npt.NDArray[np.uint16]
Bytes = npt.NDArray[np.uint8]
PRECISIONS: tuple[Precision, ...] = ("exact", "fast")
ORACLE_ROWS = 512
"""Rows of weights that are made float64 at a time."""


@dataclass(frozen=True)
class Case:
    """precision: "" where the kernel has but one. check: runs it, and compares; the generator is the case's own."""

    kernel: str
    shape: str
    precision: str
    cost: Cost
    check: Callable[[ops.Device, Rng], list[Error]]

    def run(self, device: ops.Device) -> list[Error]:
        return self.check(device, np.random.default_rng(zlib.crc32(f"{self.kernel} {self.shape}".encode())))


def small_cases() -> Iterator[Case]:
    for precision in PRECISIONS:
        yield linear(3, 65, 96, precision)
        yield linear(1, 2, 34, precision)
        yield mxfp4_linear(2, 33, 64, precision)
        yield mxfp4_grouped(23, 7, 40, 64, precision)
        yield moe_up(5, 2, 6, 64, 96, precision)
        yield moe_down(5, 2, 6, 33, 96, precision)
        yield attention([5], [70], 8, 2, 32, None, precision)
        yield attention([1, 1, 1], [127, 128, 129], 4, 1, 64, 128, precision)
        yield attention([3, 1, 20], [70, 9, 20], 6, 3, 24, 5, precision)
        yield rms_norm(3, 96, precision)
        yield swiglu(3, 96, precision)
        yield rope(2, 24, precision)
    yield route(5, 32, 4)
    yield dequantize_every_code()
    yield sample(6, 201)


def real_cases() -> Iterator[Case]:
    for precision in PRECISIONS:
        yield linear(3, QKV, HIDDEN, precision)
        yield linear(2, HIDDEN, HEADS * HEAD_DIM, precision)
        yield linear(5, 128, HIDDEN, precision)
        yield linear(2, VOCAB, 64, precision)
        yield mxfp4_linear(3, UP, HIDDEN, precision)
        yield moe_up(6, CHOSEN, 32, 128, HIDDEN, precision)
        yield moe_down(6, CHOSEN, 32, 96, HIDDEN, precision)
        yield moe_up(1, CHOSEN, 128, UP, HIDDEN, precision)
        yield moe_down(1, CHOSEN, 128, HIDDEN, HIDDEN, precision)
        yield attention([1] * 4, [129, 1030, 2100, 5], HEADS, KV_HEADS, HEAD_DIM, None, precision)
        yield attention([40], [300], HEADS, KV_HEADS, HEAD_DIM, None, precision)
        yield attention([40], [300], HEADS, KV_HEADS, HEAD_DIM, WINDOW, precision)
        yield attention([100, 300], [200, 400], HEADS, KV_HEADS, HEAD_DIM, WINDOW, precision)  # fills a card
        yield rms_norm(3, HIDDEN, precision)
        yield swiglu(3, HIDDEN, precision)
        yield rope(HEADS, HEAD_DIM, precision)
    yield route(5, 128, CHOSEN)
    yield dequantize(96, HIDDEN)
    yield sample(2, VOCAB)


def host_cases() -> Iterator[Case]:
    """What is computed on the host whatever the device."""
    yield rope_table()
    yield quantize(96, 33)


# ---- operands

def normal(rng: Rng, *shape: int, scale: float = 1.0) -> Floats:
    return rng.normal(0, scale, shape).astype(np.float32)


def bf16(rng: Rng, *shape: int, scale: float = 1.0) -> Bits:
    """Repeats after a million numbers, at another place in each row."""
    return np.resize(reference.to_bf16(normal(rng, min(int(np.prod(shape)), 1_000_003), scale=scale)), shape)


def experts(rng: Rng, *shape: int, k: int, rms: float = 3.0) -> tuple[Bytes, Bytes]:
    """Every code and three scales, such that products with normal numbers have that RMS: of a uniform code it is 2.9,
    and of the three scales, from the middle one, 1.3."""
    middle = 127 + round(np.log2(rms / np.sqrt(k) / (2.9 * 1.3)))
    blocks = rng.integers(0, 256, (*shape, k // 32, 16), dtype=np.uint8)
    return blocks, rng.integers(middle - 1, middle + 2, (*shape, k // 32), dtype=np.uint8)


def few_experts(rng: Rng, hit: Sequence[int], count: int, rows: int, k: int) -> tuple[Bytes, Bytes]:
    """Of `count` experts only those that are hit; the others stay zeros that nobody touches, so that a host with lazy
    memory does not need room for them."""
    blocks, scales = np.zeros((count, rows, k // 32, 16), np.uint8), np.zeros((count, rows, k // 32), np.uint8)
    for expert in hit:
        blocks[expert], scales[expert] = experts(rng, rows, k=k)
    return blocks, scales


def by_rows(rows: int, some: Callable[[slice], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """An oracle over the rows of its weights, some at a time, so that few of them are float64 at once."""
    return np.concatenate([some(slice(first, first + ORACLE_ROWS)) for first in range(0, rows, ORACLE_ROWS)], axis=-1)


# ---- products

def linear(tokens: int, rows: int, k: int, precision: Precision) -> Case:
    def check(device: ops.Device, rng: Rng) -> list[Error]:
        x, weight, bias = normal(rng, tokens, k), bf16(rng, rows, k, scale=k**-0.5), bf16(rng, rows)
        got = ops.linear(x, weight, bias, device=device, precision=precision)
        want = by_rows(rows, lambda r: reference.linear(x, weight[r], bias[r], rounded=precision == "fast"))
        return [near("y", got, want, product(precision))]

    return Case("linear", f"{tokens} x {k} -> {rows}", precision, costs.linear(tokens, rows, k), check)


def mxfp4_linear(tokens: int, rows: int, k: int, precision: Precision) -> Case:
    def check(device: ops.Device, rng: Rng) -> list[Error]:
        x, (blocks, scales), bias = normal(rng, tokens, k), experts(rng, rows, k=k), bf16(rng, rows)
        got = ops.mxfp4_linear(x, blocks, scales, bias, device=device, precision=precision)
        seen = multiplied(device, x, rows, precision)
        want = by_rows(rows, lambda r: reference.mxfp4_linear(seen, blocks[r], scales[r], bias[r],
                                                              rounded=precision == "fast"))
        return [near("y", got, want, product(precision))]

    return Case("mxfp4_linear", f"{tokens} x {k} -> {rows}", precision, costs.mxfp4_linear(tokens, rows, k), check)


def mxfp4_grouped(pairs: int, count: int, rows: int, k: int, precision: Precision) -> Case:
    def check(device: ops.Device, rng: Rng) -> list[Error]:
        x, (blocks, scales), bias = normal(rng, pairs, k), experts(rng, count, rows, k=k), bf16(rng, count, rows)
        expert = (np.arange(pairs) % count).astype(np.int32)
        got = ops.mxfp4_grouped(x, blocks, scales, expert, bias, device=device, precision=precision)
        seen = multiplied(device, x, rows, precision)
        want = reference.mxfp4_grouped(seen, blocks, scales, expert, bias, rounded=precision == "fast")
        return [near("y", got, want, product(precision))]

    return Case("mxfp4_grouped", f"{pairs} of {count} experts, {k} -> {rows}", precision,
                costs.mxfp4_grouped(pairs, rows, k, min(pairs, count)), check)


def multiplied(device: ops.Device, x: Floats, rows: int, precision: Precision) -> npt.NDArray[Any]:
    """Activations of experts as the device takes them. Where it says that it takes MXFP8, it does so in `fast`, for the
    sizes of its matrix kernels; what is in MXFP8 is in bfloat16, too."""
    if precision == "exact" or rows % 16 != 0 or x.shape[-1] % 64 != 0 or "in MXFP8" not in device.lab("fast").detail:
        return x
    return reference.round_to_mxfp8(x)


def product(precision: Precision) -> Tolerance:
    return EXACT["product"] if precision == "exact" else SAME_OPERANDS


def choices(tokens: int, chosen: int, count: int) -> npt.NDArray[np.int32]:
    """In steps of 7, which divides no number of experts here, from the last one down."""
    return ((count - 1 - 7 * np.arange(tokens * chosen)) % count).reshape(tokens, chosen).astype(np.int32)


def moe_up(tokens: int, chosen: int, count: int, rows: int, k: int, precision: Precision) -> Case:
    choice = choices(tokens, chosen, count)
    hit = np.unique(choice)

    def check(device: ops.Device, rng: Rng) -> list[Error]:
        x, bias = normal(rng, tokens, k), bf16(rng, count, rows)
        blocks, scales = few_experts(rng, hit.tolist(), count, rows, k)
        got = ops.moe_up(x, blocks, scales, choice, bias, device=device, precision=precision)
        seen = multiplied(device, x, rows, precision)
        want = by_rows(rows, lambda r: reference.moe_up(seen, blocks[:, r], scales[:, r], choice, bias[:, r],
                                                        rounded=precision == "fast"))
        return [result("h", got, want, EXACT["experts"], precision)]

    return Case("moe_up", f"{counted(tokens, 'token')}, {chosen} of {count} experts, {k} -> {rows // 2}", precision,
                costs.moe_up(tokens, chosen, rows, k, len(hit)), check)


def moe_down(tokens: int, chosen: int, count: int, rows: int, k: int, precision: Precision) -> Case:
    choice = choices(tokens, chosen, count)
    hit = np.unique(choice)

    def check(device: ops.Device, rng: Rng) -> list[Error]:
        h, bias = normal(rng, tokens, chosen, k), bf16(rng, count, rows)
        weight = rng.uniform(0.1, 1, (tokens, chosen)).astype(np.float32)
        blocks, scales = few_experts(rng, hit.tolist(), count, rows, k)
        got = ops.moe_down(h, blocks, scales, choice, weight, bias, device=device, precision=precision)
        seen = multiplied(device, h, rows, precision)
        want = by_rows(rows, lambda r: reference.moe_down(seen, blocks[:, r], scales[:, r], choice, weight, bias[:, r],
                                                          rounded=precision == "fast"))
        return [near("y", got, want, EXACT["experts"] if precision == "exact" else SAME_OPERANDS)]

    return Case("moe_down", f"{counted(tokens, 'token')}, {chosen} of {count} experts, {k} -> {rows}", precision,
                costs.moe_down(tokens, chosen, rows, k, len(hit)), check)


# ---- attention and positions

def attention(queries: Sequence[int], keys: Sequence[int], heads: int, kv_heads: int, dim: int, window: int | None,
              precision: Precision) -> Case:
    """The last `queries` of the `keys` of each sequence."""
    fast = precision == "fast"

    def check(device: ops.Device, rng: Rng) -> list[Error]:
        q, sinks = normal(rng, sum(queries), heads, dim, scale=2), bf16(rng, heads)
        k, v = normal(rng, sum(keys), kv_heads, dim), normal(rng, sum(keys), kv_heads, dim)
        lengths: dict[str, Any] = {"query_lengths": queries, "key_lengths": keys, "window": window}
        attn, lse = ops.attention(q, k, v, sinks, **lengths, device=device, precision=precision,
                                  kv_dtype="bf16" if fast else "f32")
        want, want_lse = reference.attention(q, k, v, sinks, **lengths, rounded=fast, bf16_kv=fast)
        return [near("attn", attn, want, ROUNDED_WEIGHTS if fast else EXACT["attention"]),
                near("lse", lse, want_lse, (SAME_ROUNDINGS if fast else EXACT)["lse"], absolute=True)]

    tokens, cached = ("+".join(map(str, lengths)) for lengths in (queries, keys))
    seen = "" if window is None else f", window {window}"
    return Case("attention", f"{tokens} of {cached}, {heads}/{kv_heads} x {dim}{seen}", precision,
                costs.attention(queries, keys, heads, kv_heads, dim, window, "bf16" if fast else "f32"), check)


def rope(heads: int, dim: int, precision: Precision) -> Case:
    position = np.array([0, 1, 4097, 131071], np.int32)

    def check(device: ops.Device, rng: Rng) -> list[Error]:
        x, (inv_freq, concentration) = normal(rng, len(position), heads, dim), ops.rope_table(dim)
        got = ops.rope(x, position, inv_freq, concentration, device=device, precision=precision)
        want = reference.rope(x, position, inv_freq, concentration, rounded=precision == "fast")
        return [result("y", got, want, EXACT["product"], precision)]

    return Case("rope", f"{len(position)} tokens, {heads} heads of {dim}", precision,
                costs.rope(len(position), heads, dim), check)


def rope_table() -> Case:
    few_units = Tolerance(2**-21, 2**-21, "a power of theta in float32, and a ramp on it: a few units of 2^-24")

    def check(device: ops.Device, rng: Rng) -> list[Error]:
        (got, concentration), (want, right) = ops.rope_table(), reference.rope_table()
        return [near("inv_freq", got / want, np.ones_like(want), few_units),
                near("concentration", np.array([concentration]), np.array([right]), few_units)]

    return Case("rope_table", f"head of {HEAD_DIM}", "", Cost(), check)


# ---- rows

def result(what: str, got: npt.NDArray[Any], want: npt.NDArray[Any], exact: Tolerance, precision: Precision) -> Error:
    """What "fast" rounds before it goes into the next product."""
    if precision == "exact":
        return near(what, got, want, exact)
    return near(what, got, want, ROUNDED_RESULT, slack=BF16_UNIT)


def rms_norm(tokens: int, size: int, precision: Precision) -> Case:
    def check(device: ops.Device, rng: Rng) -> list[Error]:
        x, gain = normal(rng, tokens, size, scale=1e-2), bf16(rng, size)  # small: so that eps shows
        got = ops.rms_norm(x, gain, device=device, precision=precision)
        return [result("y", got, reference.rms_norm(x, gain, rounded=precision == "fast"), EXACT["product"], precision)]

    return Case("rms_norm", f"{tokens} x {size}", precision, costs.rms_norm(tokens, size), check)


def swiglu(tokens: int, size: int, precision: Precision) -> Case:
    def check(device: ops.Device, rng: Rng) -> list[Error]:
        u = normal(rng, tokens, 2 * size, scale=6)
        got = ops.swiglu(u, device=device, precision=precision)
        return [result("h", got, reference.swiglu(u, rounded=precision == "fast"), EXACT["experts"], precision)]

    return Case("swiglu", f"{tokens} x {2 * size}", precision, costs.swiglu(tokens, size), check)


def route(tokens: int, count: int, chosen: int) -> Case:
    def check(device: ops.Device, rng: Rng) -> list[Error]:
        logits = normal(rng, tokens, count)
        logits[0, ::2] = logits[0].max()  # ties go to the lowest id
        choice, weight = ops.route(logits, chosen, device=device)
        want_choice, want_weight = reference.route(logits, chosen)
        return [equal("choice", choice, want_choice), near("weight", weight, want_weight, EXACT["product"])]

    return Case("route", f"{counted(tokens, 'token')}, {chosen} of {count} experts", "",
                costs.route(tokens, count, chosen), check)


def dequantize_every_code() -> Case:
    """16 codes under every scale whose values are float32. Apple's GPUs take the subnormal ones for 0."""
    codes = np.arange(32, dtype=np.uint8) % 16
    scales = np.arange(253, dtype=np.uint8)[:, None]
    blocks = np.broadcast_to(codes[0::2] | codes[1::2] << 4, (len(scales), 1, 16)).copy()

    def check(device: ops.Device, rng: Rng) -> list[Error]:
        got, want = ops.dequantize_mxfp4(blocks, scales, device=device), reference.dequantize_mxfp4(blocks, scales)
        if device.lab().detail.startswith("Apple"):
            want = np.where(np.abs(want) < np.finfo(np.float32).tiny, 0, want)
        return [equal("w", got, want)]

    return Case("dequantize_mxfp4", "16 codes under 253 scales", "", costs.dequantize_mxfp4(len(scales), 32), check)


def dequantize(rows: int, k: int) -> Case:
    def check(device: ops.Device, rng: Rng) -> list[Error]:
        weight = experts(rng, rows, k=k)
        return [equal("w", ops.dequantize_mxfp4(*weight, device=device), reference.dequantize_mxfp4(*weight))]

    return Case("dequantize_mxfp4", f"{rows} x {k}", "", costs.dequantize_mxfp4(rows, k), check)


def quantize(inputs: int, outputs: int) -> Case:
    def check(device: ops.Device, rng: Rng) -> list[Error]:
        weight = bf16(rng, inputs, outputs, scale=0.3)
        (blocks, scales), (want_blocks, want_scales) = ops.quantize_mxfp4(weight), reference.quantize_mxfp4(weight)
        return [equal("blocks", blocks, want_blocks), equal("scales", scales, want_scales)]

    return Case("quantize_mxfp4", f"{inputs} x {outputs}", "", Cost(), check)


# ---- draws

DRAWS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.7, "top_p": 0.9, "seed": 2**63 + 5}, {"temperature": 0.0}, {}, {"top_k": 5, "index": 3},
    {"min_p": 0.2, "position": 77}, {"top_k": 20, "top_p": 0.8, "min_p": 0.01, "temperature": 1.5, "seed": 9})
CLEAR = 1e-5
"""Scores that are nearer than this float32 may rank otherwise than float64."""


def sample(rows: int, vocab: int) -> Case:
    shown = 4

    def check(device: ops.Device, rng: Rng) -> list[Error]:
        logits = normal(rng, rows, vocab, scale=2)
        drawn = ops.sample(logits, [ops.Draw(**draw, logprobs=shown) for draw in DRAWS[:rows]], device=device)
        right = [reference.sample(row, **draw) for row, draw in zip(logits, DRAWS)]
        clear = np.array([margin > CLEAR for _, margin in right])
        token = np.array([token for token, _ in right])
        shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
        log_probability = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        best = np.argsort(-logits, axis=-1, kind="stable")[:, :shown]
        drawn_one, best_ones = (np.take_along_axis(log_probability, tokens, -1)
                                for tokens in (np.clip(drawn.token, 0, vocab - 1)[:, None], best))
        exact = Tolerance(1e-5, 1e-5, "(absolute) a sum of a vocabulary of float32 exponentials, and one logarithm")
        return [equal("token", drawn.token[clear], token[clear]),
                near("logprob", drawn.logprob, drawn_one[:, 0], exact, absolute=True),
                equal("top tokens", drawn.top_token[:, :shown], best),
                near("top logprobs", drawn.top_logprob[:, :shown], best_ones, exact, absolute=True)]

    return Case("sample", f"{rows} x {vocab}", "", costs.sample(rows, vocab), check)
