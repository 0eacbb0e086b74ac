"""The rotary position table of gpt-oss in numpy: YaRN inverse frequencies, bit for bit those of the torch models.

Near position 100,000 one unit in the last place of an inverse frequency near 0.7 turns the angle by 6e-3 rad and
moves logits by 5e-3, so the float32 table is part of the model. Everything in it is IEEE float32, one rounding per
operation, except the power theta ** (2j / head_dim). torch takes that from two places: on whole vector blocks
(two AVX-512 registers, 32 values) SLEEF's `powf_u10`, float-float arithmetic with a float32 polynomial; on what
is left over, libm's `powf`. A correctly rounded power differs from the released model's table in 2 of 32 entries.
Checked against torch 2.13 with AVX-512: no difference for head_dim 16 to 128, many thetas, factors and lengths.
(torch on AVX2 takes blocks of 16: the same table for head_dim below 32, 64 and 128, an entry or two otherwise.)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

F32 = np.float32
Float32 = npt.NDArray[np.float32]
Pair = tuple[Float32, Float32]
"""high + low, an unevaluated sum of two float32: about 48 bits."""

TORCH_BLOCK = 32


def rope_table(config: dict[str, Any]) -> tuple[Float32, float]:
    """inv_freq float32 (head_dim / 2) and the concentration that multiplies cos and sin.

    Pair j turns by float32(position) * inv_freq[j]. Source: YaRN as in transformers' modeling_rope_utils
    (`_compute_yarn_parameters`); "default" is plain RoPE.
    """
    rope, theta, dim = config["rope_scaling"], float(config["rope_theta"]), config["head_dim"]
    frequency = _powers(theta, dim)
    if rope["rope_type"] == "default":
        return F32(1) / frequency, 1.0

    def pair_of(rotations: float) -> float:
        """The (fractional) pair that makes so many turns over the original context."""
        turns = rope["original_max_position_embeddings"] / (rotations * 2 * math.pi)
        pair: float = dim * math.log(turns) / (2 * math.log(theta))
        return pair

    low, high = pair_of(rope["beta_fast"]), pair_of(rope["beta_slow"])
    if rope["truncate"]:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    ramp = np.clip((np.arange(dim // 2, dtype=F32) - F32(low)) / F32(high - low), F32(0), F32(1))
    keep = F32(1) - ramp
    interpolated = F32(1) / (F32(rope["factor"]) * frequency)
    inv_freq = interpolated * (F32(1) - keep) + (F32(1) / frequency) * keep
    factor = rope["factor"]
    return inv_freq, 0.1 * math.log(factor) + 1 if factor > 1 else 1.0


def _powers(theta: float, dim: int) -> Float32:
    """theta ** (2j / dim) in float32, as torch computes it (see the top of this file)."""
    exponents = np.arange(0, dim, 2, dtype=F32) / F32(dim)
    blocks = len(exponents) // TORCH_BLOCK * TORCH_BLOCK
    rest = [F32(theta) ** exponent for exponent in exponents[blocks:]]  # numpy's scalar power is libm's powf
    return np.concatenate([_power_sleef(theta, exponents[:blocks]), np.array(rest, F32)])


def _power_sleef(base: float, exponent: Float32) -> Float32:
    """SLEEF's powf_u10 for base > 0 and moderate results: exp(exponent * log(base)), both in float-float.

    Operation for operation logkf and expkf of src/libm/sleefsimdsp.c (Boost Software License 1.0).
    """
    def constant(value: float) -> Float32:
        return np.full_like(exponent, F32(value))

    mantissa, power = np.frexp(constant(base))
    below = mantissa < F32(0.75)  # mantissa in [0.75, 1.5)
    mantissa = np.where(below, F32(2) * mantissa, mantissa)
    power = (power - below).astype(F32)
    x = _divide(_two_sum(constant(-1), mantissa), _two_sum(constant(1), mantissa))
    x2 = _square(x)
    t = constant(0.2403203547)
    t = _fma(t, x2[0], constant(0.2851126790))
    t = _fma(t, x2[0], constant(0.4000079930))
    log = _scale((constant(0.6931471825), constant(-1.904654323e-09)), power)
    log = _add(log, (F32(2) * x[0], F32(2) * x[1]))
    two_thirds = (constant(0.6666666269), constant(3.691838613e-09))
    log = _add(log, _multiply(_multiply(x2, x), _add_any(_scale(x2, t), two_thirds)))

    y = _scale(log, exponent)
    whole = np.rint((y[0] + y[1]) * F32(1.4426950216))
    s = _add_one(y, whole * F32(-0.6931457520))
    s = _add_one(s, whole * F32(-1.428606765e-06))
    high = s[0] + s[1]
    s = (high, (s[0] - high) + s[1])
    u = constant(0.001363246469)
    for coefficient in (0.008365969174, 0.04167108238, 0.1666655242, 0.4999998510):
        u = _fma(u, s[0], constant(coefficient))
    r = _add(s, _scale(_square(s), u))
    high = F32(1) + r[0]
    result = np.ldexp(high + (((F32(1) - high) + r[0]) + r[1]), whole.astype(np.int32))
    return np.where(exponent == 0, F32(1), result)


def _fma(a: Float32, b: Float32, c: Float32) -> Float32:
    """a * b + c; float64 holds the product exactly, and rounding the sum twice has not mattered in a million tries."""
    return (a.astype(np.float64) * b + c).astype(F32)


def _two_sum(x: Float32, y: Float32) -> Pair:
    s = x + y
    v = s - x
    return s, (x - (s - v)) + (y - v)


def _add_any(x: Pair, y: Pair) -> Pair:
    s, rest = _two_sum(x[0], y[0])
    return s, rest + (x[1] + y[1])


def _add_one(x: Pair, y: Float32) -> Pair:
    s, rest = _two_sum(x[0], y)
    return s, rest + x[1]


def _add(x: Pair, y: Pair) -> Pair:
    """For |x| >= |y|."""
    s = x[0] + y[0]
    return s, (((x[0] - s) + y[0]) + x[1]) + y[1]


def _scale(x: Pair, y: Float32) -> Pair:
    s = x[0] * y
    return s, _fma(x[1], y, _fma(x[0], y, -s))


def _multiply(x: Pair, y: Pair) -> Pair:
    s = x[0] * y[0]
    return s, _fma(x[0], y[1], _fma(x[1], y[0], _fma(x[0], y[0], -s)))


def _square(x: Pair) -> Pair:
    s = x[0] * x[0]
    return s, _fma(x[0] + x[0], x[1], _fma(x[0], x[0], -s))


def _divide(n: Pair, d: Pair) -> Pair:
    t = F32(1) / d[0]
    s = n[0] * t
    u = _fma(t, n[0], -s)
    v = _fma(-d[1], t, _fma(-d[0], t, np.ones_like(t)))
    return s, _fma(s, v, _fma(n[1], t, u))
