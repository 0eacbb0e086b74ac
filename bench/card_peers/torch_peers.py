"""What torch alone offers: experts in bf16, four times the bytes, and attention with the sink as one more
column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from .clock import TorchTurns, Turns
from .problems import AttentionProblem, ExpertProblem, Experts, Problem, Shape, Tensor, dequantized


def swiglu(u: Tensor, shape: Shape) -> Tensor:
    gate, up = u[..., 0::2].clamp(max=shape.limit), u[..., 1::2].clamp(-shape.limit, shape.limit)
    return gate * torch.sigmoid(shape.alpha * gate) * (up + 1)


class Converted:
    """A peer's own form of a layer's weights, made once."""

    def __init__(self, convert: Callable[[Experts], Any]) -> None:
        self.convert, self.of, self.made = convert, None, None

    def __call__(self, experts: Experts) -> Any:
        if self.of is not experts:
            self.made = None  # its memory first
            self.of, self.made = experts, self.convert(experts)  # type: ignore[assignment]
        return self.made


def in_bf16(experts: Experts) -> tuple[Tensor, Tensor]:
    """(experts, rows, k) of both: an expert at a time, which float32 has room for."""
    return tuple(
        torch.stack([dequantized(b, s, torch.float32).bfloat16() for b, s in zip(blocks, scales)])  # type: ignore[return-value]
        for blocks, scales, _ in (experts.up, experts.down)
    )


class TorchPeer:
    def absent(self, device: torch.device) -> str:
        return ""

    def version(self) -> str:
        return str(torch.__version__)


class TorchExperts(TorchPeer):
    """Experts with weights in bf16, one turn for each routing."""

    group = "experts"

    def __init__(self) -> None:
        self.weights = Converted(in_bf16)

    def prepare(self, problem: ExpertProblem) -> Turns:
        experts, weights = problem.experts, self.weights(problem.experts)
        return TorchTurns(
            [self.turn(problem, experts, weights, *route) for route in problem.routes], problem.x.device
        )

    def turn(
        self,
        problem: ExpertProblem,
        experts: Experts,
        weights: tuple[Tensor, Tensor],
        choice: Tensor,
        weight: Tensor,
    ) -> Callable[[], Tensor]:
        """What computes this routing; called again and again."""
        raise NotImplementedError


class TorchLoop(TorchExperts):
    """A product for each expert that was chosen: how one writes it down."""

    name = "torch, expert by expert"
    timed = "bf16 weights; gather, products, SwiGLU, weighted sum; pairs were grouped before, on the host"

    def turn(
        self,
        problem: ExpertProblem,
        experts: Experts,
        weights: tuple[Tensor, Tensor],
        choice: Tensor,
        weight: Tensor,
    ) -> Callable[[], Tensor]:
        groups = [(e, *(choice == e).nonzero(as_tuple=True)) for e in choice.unique().tolist()]
        parts = [(e, token, weight[token, rank][:, None]) for e, token, rank in groups]
        (up, down), bias_up, bias_down = weights, experts.up[2], experts.down[2]

        def run() -> Tensor:
            total = torch.zeros_like(problem.x, dtype=torch.float32)
            for e, token, factor in parts:
                h = swiglu(F.linear(problem.x[token], up[e], bias_up[e]).float(), experts.shape).bfloat16()
                total.index_add_(0, token, factor * F.linear(h, down[e], bias_down[e]))
            return total

        return run


class TorchGrouped(TorchExperts):
    """torch's grouped product, which transformers uses for this model."""

    name = "torch grouped_mm"
    timed = "bf16 weights; gather, grouped products, biases, SwiGLU, weighted sum; pairs were sorted before"

    def absent(self, device: torch.device) -> str:
        return "" if grouped_mm() else f"torch {torch.__version__} has no grouped_mm"

    def turn(
        self,
        problem: ExpertProblem,
        experts: Experts,
        weights: tuple[Tensor, Tensor],
        choice: Tensor,
        weight: Tensor,
    ) -> Callable[[], Tensor]:
        product = grouped_mm()
        assert product is not None
        order = choice.flatten().argsort(stable=True)
        expert, token = choice.flatten()[order].long(), order // choice.shape[1]
        ends = torch.bincount(expert, minlength=experts.count).cumsum(0).int()
        factor = weight.flatten()[order][:, None]
        up, down = (w.transpose(-2, -1) for w in weights)
        bias_up, bias_down = experts.up[2][expert], experts.down[2][expert]

        def run() -> Tensor:
            u = product(problem.x[token], up, offs=ends) + bias_up
            y = product(swiglu(u.float(), experts.shape).bfloat16(), down, offs=ends) + bias_down
            return torch.zeros_like(problem.x, dtype=torch.float32).index_add_(0, token, factor * y)

        return run


def grouped_mm() -> Callable[..., Tensor] | None:
    return getattr(F, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)


class TorchSinkColumn(TorchPeer):
    """The sink as the score of one more key, whose value is zero: exact, and any backend that takes a bias
    computes it."""

    name, group = "torch SDPA, sink as a column", "attention, decode"
    timed = "attention; keys and values have the column already"

    def prepare(self, problem: AttentionProblem) -> Turns:
        s, keys = problem.shape, problem.visible(0)[0].shape[1]
        bias = torch.zeros(
            1, s.kv_heads, s.heads // s.kv_heads, keys + 1, dtype=torch.bfloat16, device=problem.q.device
        )
        bias[..., -1] = problem.sinks.view(1, s.kv_heads, -1)
        bias = bias.expand(problem.batch, -1, -1, -1)
        q = by_kv_head(problem)

        def turn(number: int) -> Callable[[], Tensor]:
            k, v = (F.pad(part.transpose(1, 2), (0, 0, 0, 1)) for part in problem.visible(number))
            return lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=bias).reshape(problem.q.shape)

        return TorchTurns([turn(number) for number in range(len(problem.kv))], problem.q.device)


class TorchFlash(TorchPeer):
    """torch's flash attention, which knows no sink, and the sink behind it: its result times sigmoid(lse -
    sink)."""

    name, group = "torch flash, sink by lse", "attention, decode"
    timed = "attention without sinks, and two elementwise operations that add them"

    def absent(self, device: torch.device) -> str:
        return (
            ""
            if hasattr(torch.ops.aten, self.operator(device))
            else f"this torch has no {self.operator(device)}"
        )

    @staticmethod
    def operator(device: torch.device) -> str:
        return "_scaled_dot_product_flash_attention" + ("" if device.type == "cuda" else "_for_cpu")

    def prepare(self, problem: AttentionProblem) -> Turns:
        attention = getattr(torch.ops.aten, self.operator(problem.q.device))
        q, sinks = by_kv_head(problem), problem.sinks.float().view(1, problem.shape.kv_heads, -1)

        def turn(number: int) -> Callable[[], Tensor]:
            k, v = (part.transpose(1, 2) for part in problem.visible(number))

            def run() -> Tensor:
                out, lse = attention(q, k, v)[:2]
                return with_sinks(out, lse, sinks).reshape(problem.q.shape)

            return run

        return TorchTurns([turn(number) for number in range(len(problem.kv))], problem.q.device)


def by_kv_head(problem: AttentionProblem) -> Tensor:
    """(batch, kv_heads, heads of one, head_dim): one token sees all keys, so its heads may be queries of one
    head."""
    s = problem.shape
    return problem.q.view(problem.batch, s.kv_heads, s.heads // s.kv_heads, s.head_dim)


def with_sinks(out: Tensor, lse: Tensor, sinks: Tensor) -> Tensor:
    """A softmax over scores and a sink, from one without: out e^lse / (e^lse + e^sink)."""
    return out * torch.sigmoid(lse.float() - sinks)[..., None]


def torch_peers() -> list[Any]:
    return [TorchLoop(), TorchGrouped(), TorchSinkColumn(), TorchFlash()]


__all__ = ["Converted", "Problem", "TorchPeer", "swiglu", "torch_peers", "with_sinks"]
