"""bf16 experts to MXFP4 while loading, with the error that this costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from gptoss_native.errors import CheckpointError
from gptoss_native.native import _core, native_errors

Tensors = dict[str, npt.NDArray[Any]]

EXPERT_TENSORS = ("gate_up_proj", "down_proj")


class ExpertQuantizer:
    """Quantises layers one after the other, several experts at a time, and adds up the errors."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._errors = dict.fromkeys(EXPERT_TENSORS, 0.0)  # sums of squared errors
        self._weights = dict.fromkeys(EXPERT_TENSORS, 0.0)  # sums of squared weights

    def layer(self, index: int, tensors: Mapping[str, npt.NDArray[Any]]) -> Tensors:
        """The tensors of a layer with `name` (experts, in, out) replaced by its blocks and scales."""
        result = {name: tensor for name, tensor in tensors.items() if name not in EXPERT_TENSORS}
        for name in EXPERT_TENSORS:
            blocks, scales = self._experts(f"layer {index}, {name}", name, tensors[name])
            result |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        return result

    def relative_rms(self) -> dict[str, float]:
        """sqrt(sum (w - q)^2 / sum w^2) of each class of tensors, over all layers."""
        return {name: math.sqrt(self._errors[name] / self._weights[name]) if self._weights[name] else 0.0
                for name in EXPERT_TENSORS}

    def _experts(self, where: str, name: str,
                 weight: npt.NDArray[np.uint16]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        experts, inputs, outputs = weight.shape
        if inputs % 32:
            raise CheckpointError(f"{where}: MXFP4 needs an input size that is a multiple of 32, not {inputs}; "
                                  "load with experts=None")
        blocks = np.empty((experts, outputs, inputs // 32, 16), np.uint8)
        scales = np.empty((experts, outputs, inputs // 32), np.uint8)

        def quantize(expert: int) -> tuple[float, float]:
            with native_errors(CheckpointError, f"{where}, expert {expert}"):
                blocks[expert], scales[expert], error, square = _core.quantize_mxfp4(weight[expert])
            return error, square

        with ThreadPoolExecutor(self._threads) as pool:
            for error, square in pool.map(quantize, range(experts)):
                self._errors[name] += error
                self._weights[name] += square
        return blocks, scales
