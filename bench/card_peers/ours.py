"""Our kernels, through gptoss_native.ops: operands are torch's, by DLPack, where they lie."""

from __future__ import annotations

from typing import Any

import torch

import gptoss_native
from gptoss_native import ops
from gptoss_native.native import _core

from .clock import Timing, Turns
from .problems import AttentionProblem, ExpertProblem, Problem, Tensor

PRECISION: ops.device.Precision = "fast"


class Ours:
    """timed: the two halves of the experts. Pairs are grouped by expert before; what passes between the
    halves is float32 here, bf16 in the engine."""

    name = "gptoss_native"
    group = ""
    timed = (
        "experts: both products, SwiGLU, the weighted sum, no grouping; attention: keys and values are in pages"
    )

    def __init__(self, device: str) -> None:
        self.device = ops.Device(device)
        self.lab = self.device.lab(PRECISION, "bf16")

    def absent(self, device: torch.device) -> str:
        return ""

    def version(self) -> str:
        return gptoss_native.__version__

    def prepare(self, problem: Problem) -> Turns:
        return OurExperts(self, problem) if isinstance(problem, ExpertProblem) else OurAttention(self, problem)

    def array(self, tensor: Tensor) -> _core.Array:
        """The same memory."""
        if tensor.is_cuda:
            return _core.Array.from_dlpack(tensor.__dlpack__(stream=self.lab.stream))
        return _core.Array.from_dlpack(tensor.__dlpack__())

    def time(self, operations: list[_core.Operation], results: list[_core.Array], rounds: int) -> Timing:
        """A round runs all operations, as one graph on a card; there are as many turns as results."""
        self.lab.time(operations, 1)
        seconds = [second / len(results) for second in self.lab.time(operations, rounds)]
        for operation in operations:
            operation.finish()
        self.lab.wait(self.lab.stream)
        return Timing(seconds, "", [tensor_of(result) for result in results])


def tensor_of(result: Any) -> Tensor:
    return torch.from_dlpack(result)


class OurExperts:
    def __init__(self, ours: Ours, problem: ExpertProblem) -> None:
        self.ours, self.problem = ours, problem
        self.x = problem.x.float()  # the kernels round it to bf16, where it is already

    def hidden(self, turn: int) -> Any:
        s, (blocks, scales, bias) = self.problem.experts.shape, self.problem.experts.up
        return ops.moe_up(
            self.x,
            blocks,
            scales,
            self.problem.routes[turn][0],
            bias,
            limit=s.limit,
            alpha=s.alpha,
            device=self.ours.device,
            precision=PRECISION,
        )

    def result(self, turn: int) -> Tensor:
        (choice, weight), (blocks, scales, bias) = self.problem.routes[turn], self.problem.experts.down
        return tensor_of(
            ops.moe_down(
                tensor_of(self.hidden(turn)),
                blocks,
                scales,
                choice,
                weight,
                bias,
                device=self.ours.device,
                precision=PRECISION,
            )
        )

    def time(self, rounds: int) -> Timing:
        lab, array, s = self.ours.lab, self.ours.array, self.problem.experts.shape
        x, up, down = (
            array(self.x),
            [array(a) for a in self.problem.experts.up],
            [array(a) for a in self.problem.experts.down],
        )
        tokens, count = self.problem.tokens, self.problem.experts.count
        operations, results = list[_core.Operation](), list[_core.Array]()
        passed = lab.empty((tokens, s.chosen, s.inner), "float32")
        for turn, (choice, weight) in enumerate(self.problem.routes):
            chosen, factor = array(choice), array(weight)
            h, y = array(tensor_of(self.hidden(turn))), lab.empty((tokens, s.hidden), "float32")
            operations += [
                lab.moe_up(
                    x,
                    *up,
                    chosen,
                    passed,
                    tokens,
                    s.chosen,
                    count,
                    2 * s.inner,
                    s.hidden,
                    s.limit,
                    s.alpha,
                    lab.stream,
                ),
                lab.moe_down(
                    h, *down, chosen, factor, y, tokens, s.chosen, count, s.hidden, s.inner, lab.stream
                ),
            ]
            results.append(y)
        return self.ours.time(operations, results, rounds)


class OurAttention:
    def __init__(self, ours: Ours, problem: AttentionProblem) -> None:
        self.ours, self.problem = ours, problem
        self.lengths = [1] * problem.batch, [problem.keys] * problem.batch

    def operands(self, turn: int) -> list[Tensor]:
        """q, k and v as float32, sequences one behind the other."""
        return [self.problem.q.float(), *(part.float().flatten(0, 1) for part in self.problem.kv[turn])]

    def result(self, turn: int) -> Tensor:
        queries, keys = self.lengths
        attn, _ = ops.attention(
            *self.operands(turn),
            self.problem.sinks,
            window=self.problem.window,
            query_lengths=queries,
            key_lengths=keys,
            device=self.ours.device,
            precision=PRECISION,
        )
        return tensor_of(attn)

    def time(self, rounds: int) -> Timing:
        lab, array, s, batch = self.ours.lab, self.ours.array, self.problem.shape, self.problem.batch
        sinks, results, operations = array(self.problem.sinks), list[_core.Array](), list[_core.Operation]()
        for turn in range(len(self.problem.kv)):
            attn, lse = (
                lab.empty((batch, s.heads, s.head_dim), "float32"),
                lab.empty((batch, s.heads), "float32"),
            )
            operations.append(
                lab.attention(
                    *(array(operand) for operand in self.operands(turn)),
                    sinks,
                    attn,
                    lse,
                    *self.lengths,
                    s.heads,
                    s.kv_heads,
                    s.head_dim,
                    self.problem.window or 0,
                    lab.stream,
                )
            )
            results.append(attn)
        return self.ours.time(operations, results, rounds)
