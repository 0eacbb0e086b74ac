"""Muon for the matrices: each step is the orthogonal matrix nearest to the gradient's running mean.

Keller Jordan, "Muon: an optimizer for the hidden layers in neural networks", 2024.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
WEIGHT_DECAY = 0.02
ITERATION = (3.4445, -4.7750, 2.0315)
"""Of a polynomial that moves all singular values near to 1."""


class Muon:
    """For parameters of shape (..., rows, columns); each matrix of a stack is treated on its own."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self.means = [torch.zeros_like(parameter) for parameter in self._parameters]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for parameter, mean in zip(self._parameters, self.means):
            assert parameter.grad is not None
            mean.lerp_(parameter.grad, 1 - MOMENTUM)
            update = orthogonal(parameter.grad.lerp(mean, MOMENTUM))
            rows, columns = parameter.shape[-2:]
            parameter.mul_(1 - rate * WEIGHT_DECAY)
            parameter.add_(update, alpha=-rate * max(1.0, rows / columns) ** 0.5)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """About U V^T of the singular value decomposition of `matrix`, by Newton and Schulz."""
    wide = matrix.shape[-2] <= matrix.shape[-1]
    x: Tensor = matrix if wide else matrix.transpose(-1, -2)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = ITERATION
    for _ in range(steps):
        square = x @ x.transpose(-1, -2)
        x = a * x + (b * square + c * square @ square) @ x
    return x if wide else x.transpose(-1, -2)
