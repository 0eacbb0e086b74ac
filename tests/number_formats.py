"""bfloat16 and MXFP4 in numpy, for fixtures and references. bfloat16 travels as uint16 bit patterns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FP4_VALUES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
GROUP = 32
"""Weights that share one E8M0 scale, consecutive along the input of the product."""


def bf16_round(values: npt.ArrayLike) -> npt.NDArray[np.uint16]:
    """Nearest bfloat16 (ties to even) of finite values, as bits."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return np.asarray((bits + ((bits >> 16) & 1) + np.uint32(0x7FFF)) >> 16, dtype=np.uint16)


def bf16_to_f32(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    return (np.ascontiguousarray(bits).astype(np.uint32) << 16).view(np.float32)


def mxfp4_quantize(weight: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """(..., K) -> blocks (..., K/32, 16), scales (..., K/32), by the rule of the OCP MX specification:
    the scale is 2^(floor(log2(largest)) - 2), codes round to nearest, ties to the even code, beyond 6 saturates."""
    groups = weight.astype(np.float64).reshape(*weight.shape[:-1], -1, GROUP)
    largest = np.abs(groups).max(axis=-1)
    exponent = np.where(largest > 0, np.frexp(largest)[1] - 1 - 2, -127)
    exponent = np.clip(exponent, -127, 127)
    scaled = np.ldexp(groups, -exponent[..., None])
    between = (FP4_VALUES[1:8] + FP4_VALUES[:7]) / 2
    between[1::2] = np.nextafter(between[1::2], 0)  # a tie above an odd code goes up, to the even one
    code = np.searchsorted(between, np.abs(scaled)).astype(np.uint8)
    code |= np.signbit(scaled).astype(np.uint8) << 3
    blocks = np.asarray(code[..., 0::2] | (code[..., 1::2] << 4), dtype=np.uint8)
    return blocks, (exponent + 127).astype(np.uint8)


def mxfp4_dequantize(blocks: npt.NDArray[np.uint8], scales: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """blocks (..., K/32, 16), scales (..., K/32) -> (..., K), exactly. The low nibble is the earlier element."""
    values = np.empty((*blocks.shape[:-1], GROUP))
    values[..., 0::2] = FP4_VALUES[blocks & 15]
    values[..., 1::2] = FP4_VALUES[blocks >> 4]
    values = np.ldexp(values, scales.astype(np.int32)[..., None] - 127)
    return values.reshape(*blocks.shape[:-2], -1)


def mxfp8_round(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """(..., K): what is left of the values in MXFP8 (e4m3), by the rule of the OCP MX specification: the scale of each 32 is
    2^(floor(log2(largest)) - 8), numbers round to nearest, ties to even, beyond 448 saturates."""
    groups = values.astype(np.float64).reshape(*values.shape[:-1], -1, GROUP)
    largest = np.abs(groups).max(axis=-1, keepdims=True)
    exponent = np.where(largest > 0, np.maximum(np.frexp(largest)[1] - 1 - 8, -127), -127)
    scaled = np.ldexp(groups, -exponent)
    last = np.maximum(np.frexp(scaled)[1] - 1, -6) - 3  # of the four digits; fewer below 2^-6
    rounded = np.clip(np.ldexp(np.rint(np.ldexp(scaled, -last)), last), -448, 448)
    return np.asarray(np.ldexp(rounded, exponent).reshape(values.shape))
