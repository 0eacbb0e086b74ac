"""OpenAI's triton_kernels: the generation with matmul_ogs and routing, which vLLM (0.22, for one) brings along.

The package of that name on PyPI is something else. After its sources and vLLM's use of them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import torch

from .clock import TorchTurns, Turns
from .problems import ExpertProblem, Experts, Tensor
from .torch_peers import Converted


def import_triton_kernels() -> str:
    """Why they cannot be used; nothing where they can."""
    if importlib.util.find_spec("triton_kernels") is None:
        try:
            # It imports itself by its own name.
            sys.modules["triton_kernels"] = importlib.import_module("vllm.third_party.triton_kernels")
        except ImportError as error:
            return f"neither triton_kernels nor vllm with it is installed ({error})"
    for module in ("matmul_ogs", "routing", "swiglu", "tensor_details.layout"):
        try:
            importlib.import_module(f"triton_kernels.{module}")
        except ImportError as error:
            return f"another triton_kernels than OpenAI's of the generation in vLLM 0.22 ({error})"
    return ""


class TritonExperts:
    name, group = "triton_kernels", "experts"
    timed = "gather, both products, SwiGLU, weighted sum; routing before"

    def __init__(self) -> None:
        self.weights = Converted(self.convert)

    def absent(self, device: torch.device) -> str:
        if device.type != "cuda":
            return "it needs a card"
        major = torch.cuda.get_device_capability(device)[0]
        return (
            import_triton_kernels()
            if major in (9, 10)
            else f"its MXFP4 is for cards of sm_90 and sm_100, this is sm_{major}x"
        )

    def version(self) -> str:
        return str(sys.modules["triton_kernels"].__name__)

    @staticmethod
    def convert(experts: Experts) -> list[tuple[Any, Any, Tensor]]:
        """Weights as (experts, k, rows) in its own order, what it calls their precision, and float32 biases."""
        from triton_kernels.matmul_ogs import FlexCtx, PrecisionConfig
        from triton_kernels.matmul_ogs_details import opt_flags
        from triton_kernels.numerics import InFlexData
        from triton_kernels.tensor import FP4, convert_layout, wrap_torch_tensor
        from triton_kernels.tensor_details import layout

        major = torch.cuda.get_device_capability()[0]
        opt_flags.update_opt_flags_constraints(
            {"split_k": 1} if major == 9 else {"is_persistent": True, "epilogue_subtile": 1}
        )
        value, value_options = layout.make_default_matmul_mxfp4_w_layout(mx_axis=1)
        scale, scale_options = layout.make_default_matmul_mxfp4_w_scale_layout(mx_axis=1, num_warps=8)
        converted = []
        for blocks, scales, bias in (experts.up, experts.down):
            w = convert_layout(
                wrap_torch_tensor(blocks.flatten(-2).transpose(-2, -1), dtype=FP4), value, **value_options
            )
            s = convert_layout(wrap_torch_tensor(scales.transpose(-2, -1)), scale, **scale_options)
            precision = PrecisionConfig(weight_scale=s, flex_ctx=FlexCtx(rhs_data=InFlexData()))
            converted.append((w, precision, bias.float()))
        return converted

    def prepare(self, problem: ExpertProblem) -> Turns:
        return TorchTurns([self.turn(problem, logits) for logits in problem.logits], problem.x.device)

    def turn(self, problem: ExpertProblem, logits: Tensor) -> Callable[[], Tensor]:
        from triton_kernels.matmul_ogs import FnSpecs, FusedActivation, matmul_ogs
        from triton_kernels.routing import routing
        from triton_kernels.swiglu import swiglu_fn

        s, (up, down) = problem.experts.shape, self.weights(problem.experts)
        data, gather, scatter = routing(logits, s.chosen, sm_first=False)
        activation = FusedActivation(FnSpecs("swiglu", swiglu_fn, ("alpha", "limit")), (s.alpha, s.limit), 2)

        def run() -> Tensor:
            h = matmul_ogs(
                problem.x,
                up[0],
                up[2],
                data,
                gather_indx=gather,
                precision_config=up[1],
                fused_activation=activation,
            )
            y: Tensor = matmul_ogs(
                h, down[0], down[2], data, scatter_indx=scatter, precision_config=down[1], gammas=data.gate_scal
            )
            return y

        return run
