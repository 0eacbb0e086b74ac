"""Humming's experts (humming-kernels 0.1), with its weight schema for gpt-oss, after its sources and vLLM's
use of them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch.nn import functional as F

from .clock import TorchTurns, Turns
from .problems import ExpertProblem, Experts, Tensor
from .torch_peers import Converted, swiglu

PAD_ROWS, PAD_COLUMNS = 256, 128  # as vLLM has it
COMPUTE = json.dumps({"use_batch_invariant": False, "use_f16_accum": False, "gemm_type": "indexed"})


def aligned(choice: Tensor, block: int, experts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs by expert, each expert's filled up to whole blocks with a pair that does not exist; the expert of
    each block; how many there are, filled up."""
    flat, ids, of = choice.flatten(), [], []
    for e in range(experts):
        pairs = (flat == e).nonzero()[:, 0]
        blocks = -(-len(pairs) // block)
        ids.append(F.pad(pairs, (0, blocks * block - len(pairs)), value=flat.numel()))
        of += [e] * blocks
    together = torch.cat(ids).int()
    return (
        together,
        torch.tensor(of, dtype=torch.int32, device=choice.device),
        torch.tensor([len(together)], dtype=torch.int32, device=choice.device),
    )


class HummingExperts:
    name, group = "Humming", "experts"
    timed = ("both products; SwiGLU and weighted sum by vLLM's kernels, or by torch's where vLLM is absent; pairs were "
             "aligned before")

    def __init__(self) -> None:
        self.weights = Converted(self.convert)

    def absent(self, device: torch.device) -> str:
        if device.type != "cuda":
            return "it needs a card"
        try:
            importlib.import_module("humming.layer")
        except Exception as error:  # it looks for compilers when it is imported
            return f"{type(error).__name__}: {error}"
        return ""

    def version(self) -> str:
        return f"humming-kernels {version('humming-kernels')}"

    @staticmethod
    def convert(experts: Experts) -> list[tuple[Any, Any]]:
        """A layer of each product, and what it would tune it to."""
        from humming.layer import HummingLayer
        from humming.tune import get_heuristics_config

        made = []
        for blocks, scales, bias in (experts.up, experts.down):
            layer = HummingLayer(
                shape_n=bias.shape[1],
                shape_k=32 * scales.shape[-1],
                weight_config={"quant_method": "gpt_oss_mxfp4"},
                pad_n_to_multiple=PAD_ROWS,
                pad_k_to_multiple=PAD_COLUMNS,
                num_experts=experts.count,
                has_bias=True,
                torch_dtype=torch.bfloat16,
            ).to(bias.device)
            layer.load_from_tensors({"weight": blocks.flatten(-2), "weight_scale": scales, "bias": bias})
            layer.transform()
            made.append(
                (layer, get_heuristics_config(layer.humming_config, gemm_type="indexed", device=bias.device))
            )
        return made

    def prepare(self, problem: ExpertProblem) -> Turns:
        return TorchTurns([self.turn(problem, *route) for route in problem.routes], problem.x.device)

    def turn(self, problem: ExpertProblem, choice: Tensor, weight: Tensor) -> Callable[[], Tensor]:
        s, ((up, up_tuning), (down, down_tuning)) = problem.experts.shape, self.weights(problem.experts)
        pairs = choice.numel()
        [block] = [config["block_shape"][0] for least, most, config in up_tuning if least < pairs <= most]
        sorted_ids, expert_ids, total = aligned(choice, block, problem.experts.count)
        common = {
            "sorted_ids": sorted_ids,
            "expert_ids": expert_ids,
            "num_tokens_padded": total,
            "valid_shape_m": pairs,
            "compute_config": COMPUTE,
        }
        activate, add = smaller_kernels()

        def run() -> Tensor:
            u = up(problem.x, top_k=s.chosen, tuning_config=json.dumps(up_tuning), **common)
            h = activate(u.view(pairs, -1)) if activate else swiglu(u.view(pairs, -1).float(), s).bfloat16()
            y = down(h, top_k=1, tuning_config=json.dumps(down_tuning), **common).view(
                problem.tokens, s.chosen, -1
            )
            result: Tensor = add(inputs=y, topk_weights=weight) if add else (y * weight[..., None]).sum(dim=1)
            return result

        return run


def smaller_kernels() -> tuple[Callable[..., Tensor] | None, Callable[..., Tensor] | None]:
    """vLLM's SwiGLU of this model, and its weighted sum."""
    try:
        importlib.import_module("vllm._custom_ops")
        add = importlib.import_module(
            "vllm.model_executor.layers.fused_moe.moe_fused_mul_sum"
        ).moe_fused_mul_sum
    except Exception:
        return None, None

    def activate(u: Tensor) -> Tensor:
        h = torch.empty(u.shape[0], u.shape[1] // 2, dtype=u.dtype, device=u.device)
        torch.ops._C.swigluoai_and_mul(h, u)
        return h

    return activate, add
