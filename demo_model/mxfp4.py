"""MXFP4 as the released checkpoints hold it: 32 weights share a power of two, each is a 4-bit float."""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 32
MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
BIAS = 127
"""Of the stored exponent."""


def nearest(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(exponents (..., groups, 1), values (..., groups, 32) in units of two to that power) nearest to `weight`."""
    groups = weight.detach().reshape(*weight.shape[:-1], -1, GROUP)
    largest = groups.abs().amax(-1, keepdim=True).clamp_min(1e-30)
    exponent = torch.floor(torch.log2(largest)) - 2
    exponent = torch.where(largest > 7 * torch.exp2(exponent), exponent + 1, exponent).clamp(-BIAS, BIAS)
    scaled = groups * torch.exp2(-exponent)
    size = scaled.abs()
    steps_per_unit = torch.where(size < 2, 2.0, torch.where(size < 4, 1.0, 0.5))
    rounded = (torch.round(size * steps_per_unit) / steps_per_unit).clamp_max(MAGNITUDES[-1])
    return exponent, torch.copysign(rounded, scaled)


def quantised(weight: Tensor) -> Tensor:
    """`weight` (..., inputs) as MXFP4 can hold it; gradients pass as if nothing had happened."""
    exponent, values = nearest(weight)
    return weight + ((values * torch.exp2(exponent)).reshape(weight.shape) - weight).detach()


def packed(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(blocks (..., groups, 16), scales (..., groups)), both uint8: the low nibble of a byte comes first."""
    exponent, values = nearest(weight)
    codes = (values.abs()[..., None] == torch.tensor(MAGNITUDES)).int().argmax(-1)
    codes = (codes + 8 * torch.signbit(values)).to(torch.uint8)
    low, high = codes[..., 0::2], codes[..., 1::2]
    return (low | high << 4).contiguous(), (exponent.squeeze(-1) + BIAS).to(torch.uint8).contiguous()
