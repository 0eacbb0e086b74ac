"""The steps between the matrix products, each compiled into one pass over memory, and a gather with a fast gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-5
ALPHA = 1.702
LIMIT = 7.0


@torch.compile(dynamic=True)
def norm(x: Tensor, weight: Tensor) -> Tensor:
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPSILON) * weight


@torch.compile(dynamic=True)
def swiglu(gate_up: Tensor, bias: Tensor) -> Tensor:
    """Gates in the first half, which differs from a checkpoint's interleaved rows."""
    gate, up = (gate_up + bias).chunk(2, -1)
    gate = gate.clamp(max=LIMIT)
    return gate * torch.sigmoid(ALPHA * gate) * (up.clamp(-LIMIT, LIMIT) + 1)


@torch.compile(dynamic=True)
def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


@torch.compile(dynamic=True)
def sink_softmax(scores: Tensor, bias: Tensor, sinks: Tensor) -> Tensor:
    """scores (rows, kv, group, length, keys), bias (rows, 1, 1, length, keys), sinks (kv, group, 1, 1)."""
    scores = scores + bias
    largest = torch.maximum(scores.amax(-1, keepdim=True), sinks).detach()
    weights = torch.exp(scores - largest)
    return weights / (weights.sum(-1, keepdim=True) + torch.exp(sinks - largest))


@torch.compile(dynamic=True)
def weighted_sum(x: Tensor, weights: Tensor) -> Tensor:
    """x (n, k, hidden), weights (n, k, 1)."""
    return (x * weights).sum(1)


class Reorder(torch.autograd.Function):
    """See `reordered`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (back,) = ctx.saved_tensors
        return gradient.index_select(0, back), None, None


def reordered(x: Tensor, order: Tensor, back: Tensor) -> Tensor:
    """Rows in another order; `back` is the inverse of `order`. index_select's own gradient is far slower."""
    result: Tensor = Reorder.apply(x, order, back)  # type: ignore[no-untyped-call]
    return result
