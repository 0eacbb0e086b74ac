"""The oracles of gptoss_native.ops: the same functions in numpy float64, written from the specification.

Slow and plain; every operand is numpy (bfloat16 as uint16 bits), every result float64 (choices and tokens are
integers), nothing is rounded on the way unless `rounded` is asked for: then what enters a matrix product is rounded to
bfloat16 first, or leaves for one, as with precision="fast". They share no line with the kernels, nor with the oracle
of the test suite, which compares all three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Bits = npt.NDArray[np.uint16]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.integer[Any]]
Numbers = npt.NDArray[np.floating[Any]]

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
"""OCP Microscaling Formats 1.0, FP4 E2M1: the eight magnitudes; bit 3 of a code is the sign."""


# ---- number formats

def to_bf16(x: Numbers) -> Bits:
    """The bits of the nearest bfloat16, ties to even: the upper half of a float32. A NaN stays one."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    nearest = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    quiet = bits >> 16 | 0x40
    return np.where(np.isnan(np.asarray(x, np.float32)), quiet, nearest).astype(np.uint16)


def from_bf16(bits: Bits) -> Array:
    """The value of bfloat16 bits."""
    return (np.ascontiguousarray(bits).astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def dequantize_mxfp4(blocks: Bytes, scales: Bytes) -> Array:
    """(..., k) of blocks (..., k / 32, 16), scales (..., k / 32): element * 2^(scale - 127), the low nibble first."""
    codes = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*blocks.shape[:-1], 32)
    values = np.where(codes & 8, -1.0, 1.0) * E2M1[codes & 7] * 2.0 ** (scales.astype(np.float64)[..., None] - 127)
    result: Array = values.reshape(*blocks.shape[:-2], -1)
    return result


def quantize_mxfp4(weight: Bits) -> tuple[Bytes, Bytes]:
    """blocks (out, in / 32, 16), scales (out, in / 32) of bfloat16 (in, out): the better of two scales for each 32."""
    groups = from_bf16(weight).T.reshape(weight.shape[1], -1, 32)
    largest = np.abs(groups).max(axis=-1)
    exponent = np.floor(np.log2(largest, out=np.full_like(largest, -125.0), where=largest > 0)) - 2
    exponent = np.clip(exponent, -127, 127)
    codes, error = _encode(groups, exponent)
    wider_codes, wider_error = _encode(groups, np.minimum(exponent + 1, 127))
    better = wider_error < error
    codes = np.where(better[..., None], wider_codes, codes)
    scales = np.where(better, exponent + 1, exponent) + 127
    return np.asarray(codes[..., 0::2] | codes[..., 1::2] << 4, np.uint8), scales.astype(np.uint8)


def _encode(groups: Array, exponent: Array) -> tuple[Bytes, Array]:
    """Codes of the nearest elements, ties to the even code; the sums of squared errors."""
    scaled = groups / 2.0 ** exponent[..., None]
    distance = np.abs(np.abs(scaled)[..., None] - E2M1)
    order = [0, 2, 4, 6, 1, 3, 5, 7]  # argmin takes the first of equals: even codes first
    code = np.array(order, np.uint8)[np.argmin(distance[..., order], axis=-1)]
    error = (scaled - np.sign(scaled) * E2M1[code]) * 2.0 ** exponent[..., None]
    signed = code | np.where(np.signbit(groups), np.uint8(8), np.uint8(0))
    return signed, np.square(error).sum(axis=-1)


def round_to_mxfp8(x: Numbers) -> Array:
    """What MXFP8 leaves of bfloat16(x), by the OCP specification: each 32 have a scale, 2^-8 of the largest one's power
    of two, and become the nearest number of e4m3 times it (four digits, fewer below 2^-6), at most 448."""
    groups = from_bf16(to_bf16(x)).reshape(*np.shape(x)[:-1], -1, 32)
    largest = np.abs(groups).max(axis=-1, keepdims=True)
    scale = 2.0 ** (np.floor(np.log2(largest, out=np.zeros_like(largest), where=largest > 0)) - 8)
    scale = np.maximum(scale, 2.0**-127)
    scaled = np.abs(groups / scale)
    digit = 2.0 ** (np.floor(np.log2(np.maximum(scaled, 2.0**-6))) - 3)
    result: Array = np.sign(groups) * np.minimum(np.round(scaled / digit) * digit, 448) * scale
    return result.reshape(np.shape(x))


def _operand(x: Numbers, rounded: bool) -> Array:
    return from_bf16(to_bf16(x)) if rounded else np.asarray(x, np.float64)


def _bias(bias: Bits | None) -> Array | float:
    return 0.0 if bias is None else from_bf16(bias)


# ---- products

def linear(x: Numbers, weight: Bits, bias: Bits | None = None, *, rounded: bool = False) -> Array:
    result: Array = _operand(x, rounded) @ from_bf16(weight).T + _bias(bias)
    return result


def mxfp4_linear(x: Numbers, blocks: Bytes, scales: Bytes, bias: Bits | None = None, *, rounded: bool = False) -> Array:
    result: Array = _operand(x, rounded) @ dequantize_mxfp4(blocks, scales).T + _bias(bias)
    return result


def mxfp4_grouped(x: Numbers, blocks: Bytes, scales: Bytes, expert: Ints, bias: Bits | None = None, *,
                  rounded: bool = False) -> Array:
    rows = [mxfp4_linear(x[p:p + 1], blocks[e], scales[e], None if bias is None else bias[e], rounded=rounded)
            for p, e in enumerate(expert)]
    return np.concatenate(rows)


def moe_up(x: Numbers, blocks: Bytes, scales: Bytes, choice: Ints, bias: Bits | None = None, *, limit: float = 7.0,
           alpha: float = 1.702, rounded: bool = False) -> Array:
    ranks = [swiglu(mxfp4_grouped(x, blocks, scales, choice[:, rank], bias, rounded=rounded), limit=limit, alpha=alpha)
             for rank in range(choice.shape[1])]
    return _operand(np.stack(ranks, axis=1), rounded)


def moe_down(h: Numbers, blocks: Bytes, scales: Bytes, choice: Ints, weight: Numbers, bias: Bits | None = None, *,
             rounded: bool = False) -> Array:
    ranks = [weight[:, rank, None] * mxfp4_grouped(h[:, rank], blocks, scales, choice[:, rank], bias, rounded=rounded)
             for rank in range(choice.shape[1])]
    result: Array = np.sum(ranks, axis=0, dtype=np.float64)
    return result


# ---- rows

def rms_norm(x: Numbers, gain: Bits, *, eps: float = 1e-5, rounded: bool = False) -> Array:
    wide = np.asarray(x, np.float64)
    result: Array = wide / np.sqrt(np.square(wide).mean(axis=-1, keepdims=True) + eps) * from_bf16(gain)
    return _operand(result, rounded)


def swiglu(u: Numbers, *, limit: float = 7.0, alpha: float = 1.702, rounded: bool = False) -> Array:
    wide = np.asarray(u, np.float64)
    gate, up = np.minimum(wide[..., 0::2], limit), np.clip(wide[..., 1::2], -limit, limit)
    with np.errstate(over="ignore"):
        result: Array = gate / (1 + np.exp(-alpha * gate)) * (up + 1)
    return _operand(result, rounded)


def route(logits: Numbers, chosen: int = 4) -> tuple[Ints, Array]:
    choice = np.argsort(-np.asarray(logits, np.float64), axis=-1, kind="stable")[:, :chosen]
    best = np.take_along_axis(np.asarray(logits, np.float64), choice, axis=-1)
    weight = np.exp(best - best[:, :1])
    return choice, weight / weight.sum(axis=-1, keepdims=True)


# ---- positions and attention

def rope_table(head_dim: int = 64, *, theta: float = 150000.0, factor: float = 32.0, beta_fast: float = 32.0,
               beta_slow: float = 1.0, original_max_position_embeddings: int = 4096, truncate: bool = False,
               rope_type: str = "yarn") -> tuple[Array, float]:
    """YaRN (Peng et al., 2023): pairs that turn more than beta_fast times over the original context keep their
    frequency, those that turn less than beta_slow times are slowed down by `factor`, and a ramp lies between.

    In float64: the engine's table is float32, and which float32 is part of the model, see tests/reference_rope.py.
    """
    pair = np.arange(head_dim // 2)
    frequency = theta ** (-2.0 * pair / head_dim)
    if rope_type == "default":
        return frequency, 1.0

    def pair_that_turns(times: float) -> float:
        return head_dim / 2 * math.log(original_max_position_embeddings / (2 * math.pi * times)) / math.log(theta)

    low, high = pair_that_turns(beta_fast), pair_that_turns(beta_slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    slowed = np.clip((pair - low) / (high - low if high != low else 0.001), 0, 1)
    return frequency * (1 - slowed) + frequency / factor * slowed, 0.1 * math.log(factor) + 1 if factor > 1 else 1.0


def rope(x: Numbers, position: Ints, inv_freq: npt.NDArray[np.float32], concentration: float = 1.0, *,
         rounded: bool = False) -> Array:
    """The angle is a float32 product of a float32 table, as in every implementation of the model."""
    angle = (np.asarray(position, np.float32)[:, None] * np.asarray(inv_freq, np.float32)).astype(np.float64)[:, None]
    turn = concentration * np.exp(1j * angle)
    half = x.shape[-1] // 2
    turned = (np.asarray(x[..., :half], np.float64) + 1j * np.asarray(x[..., half:], np.float64)) * turn
    return _operand(np.concatenate([turned.real, turned.imag], axis=-1), rounded)


def attention(q: Numbers, k: Numbers, v: Numbers, sinks: Bits, *, window: int | None = None,
              query_lengths: Sequence[int] | None = None, key_lengths: Sequence[int] | None = None,
              rounded: bool = False, bf16_kv: bool = False) -> tuple[Array, Array]:
    """attn and lse, one sequence, query and head at a time."""
    if query_lengths is not None and key_lengths is not None:
        queries, keys = ([slice(end - length, end) for end, length in zip(np.cumsum(lengths).tolist(), lengths)]
                         for lengths in (query_lengths, key_lengths))
        alone = [attention(q[of], k[at], v[at], sinks, window=window, rounded=rounded, bf16_kv=bf16_kv)
                 for of, at in zip(queries, keys)]
        return np.concatenate([attn for attn, _ in alone]), np.concatenate([lse for _, lse in alone])
    tokens, heads, dim = q.shape
    wide, cached, values = _operand(q, rounded), _operand(k, bf16_kv), _operand(v, bf16_kv)
    sink, group, start = from_bf16(sinks), heads // k.shape[1], len(k) - tokens
    attn, lse = np.empty((tokens, heads, dim)), np.empty((tokens, heads))
    for t in range(tokens):
        end = start + t + 1
        seen = slice(0 if window is None else max(0, end - window), end)
        for h in range(heads):
            scores = cached[seen, h // group] @ wide[t, h] / math.sqrt(dim)
            largest = max(scores.max(), sink[h])
            weight = np.exp(scores - largest)
            total = weight.sum() + np.exp(sink[h] - largest)
            attn[t, h] = _operand(weight, rounded) @ values[seen, h // group] / total
            lse[t, h] = largest + np.log(total)
    return attn, lse


# ---- draws

def sample(logits: Numbers, *, temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0, min_p: float = 0.0,
           seed: int = 0, index: int = 0, position: int = 1) -> tuple[int, float]:
    """The token drawn from one row (vocab), and by how much its score beats the next one.

    min_p, then top_k, then top_p, of the softmax of logits / temperature; then the largest of scaled logit plus Gumbel
    noise made from a hash. In float64, so that two scores nearer than float32 can tell apart (1e-5) may come out the
    other way round, and so may a token at the very edge of top_p or min_p. Temperature 0: the largest logit.
    """
    wide = np.asarray(logits, np.float64)
    if temperature == 0:
        return int(np.argmax(wide)), math.inf
    scaled = wide / temperature
    order = np.argsort(-scaled, kind="stable")
    mass = np.exp(scaled[order] - scaled.max())
    kept = mass >= min_p
    if top_k > 0:
        kept[top_k:] = False
    if top_p < 1:
        before = np.cumsum(mass * kept) - mass * kept
        kept &= before < top_p * (mass * kept).sum()
    left = order[kept]
    scores = scaled[left] + _gumbel(_hash(seed, index, position, left))
    best = np.sort(scores)[::-1]
    return int(left[np.argmax(scores)]), float(best[0] - best[1]) if len(best) > 1 else math.inf


def _gumbel(hashes: Ints) -> Array:
    """-log(-log(1 - w)) with w = (hash + 1/2) / 2^32 in (0, 1)."""
    return -np.log(-np.log1p(-(hashes.astype(np.float64) + 0.5) / 2**32))


def _hash(seed: int, index: int, position: int, tokens: Ints) -> Ints:
    draw = _mix(seed & 0xFFFFFFFF ^ 0x9E3779B9)
    draw = _mix(draw ^ seed >> 32)
    draw = _mix(draw ^ (index * 0x9E3779B1 + 0x7F4A7C15) % 2**32)
    draw = _mix(draw ^ (position * 0x85EBCA77 + 0x165667B1) % 2**32)
    return np.array([_mix(_mix((draw + t * 0x9E3779B1) % 2**32) ^ (draw * 0xC2B2AE3D + t) % 2**32)
                     for t in tokens.tolist()], np.int64)


def _mix(h: int) -> int:
    """The finalizer of murmur3."""
    h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
    h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
    return h ^ h >> 16
