"""Marlin's MXFP4 experts, of vLLM 0.22, after its sources: rows and columns are padded as vLLM pads them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn import functional as F

from .clock import TorchTurns, Turns
from .problems import ExpertProblem, Experts, Tensor
from .torch_peers import Converted

FUSED = "vllm.model_executor.layers.fused_moe"
QUANTIZATION = "vllm.model_executor.layers.quantization.utils"
MODULES = {
    "experts": f"{FUSED}.experts.marlin_moe",
    "activation": f"{FUSED}.activation",
    "align": f"{FUSED}.moe_align_block_size",
    "weights": f"{QUANTIZATION}.marlin_utils_fp4",
    "utils": f"{QUANTIZATION}.marlin_utils",
    "types": "vllm.scalar_type",
    "custom": "vllm._custom_ops",
}
BLOCKS = (8, 16, 32, 48, 64)
ONE = 127
"""The scale 1, of what is padded; its codes are 0."""


def padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def block_size(tokens: int, chosen: int, experts: int) -> int:
    """Rows of a block, as fused_marlin_moe() chooses them."""
    return next((block for block in BLOCKS if tokens * chosen / experts / block < 0.9), BLOCKS[-1])


def padded_weights(experts: Experts) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Codes (experts, rows, k / 2), scales (experts, rows, k / 32) and biases of both products: the inner
    size to 128, hidden to 256."""
    s = experts.shape
    inner, hidden = padded(s.inner, 128), padded(s.hidden, 256)
    made = []
    for (blocks, scales, bias), rows, k in ((experts.up, 2 * inner, hidden), (experts.down, hidden, inner)):
        codes, more = blocks.flatten(-2), rows - blocks.shape[1]
        made.append(
            (
                F.pad(codes, (0, k // 2 - codes.shape[-1], 0, more)),
                F.pad(scales, (0, k // 32 - scales.shape[-1], 0, more), value=ONE),
                F.pad(bias, (0, more)),
            )
        )
    return made


class MarlinExperts:
    name, group = "Marlin (vLLM)", "experts"
    timed = "both products, SwiGLU, weighted sum; pairs were aligned before"

    def __init__(self) -> None:
        self.weights = Converted(self.convert)
        self.vllm: dict[str, Any] = {}

    def absent(self, device: torch.device) -> str:
        if device.type != "cuda":
            return "it needs a card"
        try:
            self.vllm = {name: importlib.import_module(module) for name, module in MODULES.items()}
        except Exception as error:  # vllm fails in many ways where it does not fit torch
            return f"{type(error).__name__}: {error}"
        return ""

    def version(self) -> str:
        return f"vllm {importlib.import_module('vllm').__version__}"

    def convert(self, experts: Experts) -> tuple[Any, ...]:
        (up, up_scales, up_bias), (down, down_scales, down_bias) = padded_weights(experts)
        layer = SimpleNamespace(params_dtype=torch.bfloat16)
        made: tuple[Any, ...] = self.vllm["weights"].prepare_moe_mxfp4_layer_for_marlin(
            layer, up, down, up_scales, down_scales, up_bias, down_bias
        )
        return made

    def prepare(self, problem: ExpertProblem) -> Turns:
        s = problem.experts.shape
        x = F.pad(problem.x, (0, padded(s.hidden, 256) - s.hidden))
        return TorchTurns([self.turn(problem, x, *route) for route in problem.routes], x.device)

    def turn(self, problem: ExpertProblem, x: Tensor, choice: Tensor, weight: Tensor) -> Callable[[], Tensor]:
        s, count = problem.experts.shape, problem.experts.count
        up, down, up_scales, down_scales, up_bias, down_bias = self.weights(problem.experts)
        block = block_size(problem.tokens, s.chosen, count)
        sorted_ids, expert_ids, total = self.vllm["align"].moe_align_block_size(
            choice, block, count, None, ignore_invalid_experts=True
        )
        workspace = self.vllm["utils"].marlin_make_workspace_new(x.device, 4)
        kind, activation = (
            self.vllm["types"].scalar_types.float4_e2m1f,
            self.vllm["activation"].MoEActivation.SWIGLUOAI,
        )

        def run() -> Tensor:
            y = self.vllm["experts"]._fused_marlin_moe(
                hidden_states=x,
                w1=up,
                w2=down,
                bias1=up_bias,
                bias2=down_bias,
                w1_scale=up_scales,
                w2_scale=down_scales,
                topk_weights=weight,
                num_topk=s.chosen,
                quant_type=kind,
                apply_router_weight_on_input=False,
                expert_map=None,
                block_size_m=block,
                sorted_token_ids=sorted_ids,
                expert_ids=expert_ids,
                num_tokens_post_padded=total,
                activation=activation,
                workspace=workspace,
            )
            result = torch.empty_like(x)
            self.vllm["custom"].moe_sum(y.view(-1, s.chosen, x.shape[1]), result)
            return result[:, : s.hidden]

        return run
