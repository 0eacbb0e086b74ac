"""FlashAttention in a decode: vLLM's build of FA3, which knows sinks, and the libraries' own, whose results
get them afterwards."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch

from .clock import TorchTurns, Turns
from .problems import AttentionProblem, Tensor
from .torch_peers import with_sinks


class FlashWithSinks:
    name, group = "FA3 with sinks (vLLM)", "attention, decode"
    timed = "attention with sinks"

    def __init__(self) -> None:
        self.module: Any = None

    def absent(self, device: torch.device) -> str:
        if device.type != "cuda":
            return "it needs a card"
        try:
            self.module = importlib.import_module("vllm.vllm_flash_attn.flash_attn_interface")
        except Exception as error:  # vllm fails in many ways where it does not fit torch
            return f"{type(error).__name__}: {error}"
        if not self.module.is_fa_version_supported(3):
            return str(self.module.fa_version_unsupported_reason(3))
        return ""

    def version(self) -> str:
        return f"vllm {importlib.import_module('vllm').__version__}"

    def prepare(self, problem: AttentionProblem) -> Turns:
        device, batch, keys = problem.q.device, problem.batch, problem.keys
        queries, held = (
            torch.arange(0, (batch + 1) * step, step, dtype=torch.int32, device=device) for step in (1, keys)
        )
        window = [-1, -1] if problem.window is None else [problem.window - 1, 0]

        def turn(number: int) -> Callable[[], Tensor]:
            k, v = (part.flatten(0, 1) for part in problem.kv[number])

            def run() -> Tensor:
                result: Tensor = self.module.flash_attn_varlen_func(
                    problem.q,
                    k,
                    v,
                    max_seqlen_q=1,
                    cu_seqlens_q=queries,
                    max_seqlen_k=keys,
                    cu_seqlens_k=held,
                    causal=True,
                    window_size=window,
                    fa_version=3,
                    s_aux=problem.sinks,
                )
                return result

            return run

        return TorchTurns([turn(number) for number in range(len(problem.kv))], device)


class FlashCache:
    """flash_attn_with_kvcache() of a module; its log-sum-exp lets the sink be added."""

    group = "attention, decode"
    timed = "attention without sinks, and two elementwise operations that add them"

    def __init__(self, name: str, module: str) -> None:
        self.name, self.where = name, module
        self.module: Any = None

    def absent(self, device: torch.device) -> str:
        if device.type != "cuda":
            return "it needs a card"
        try:
            self.module = importlib.import_module(self.where)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return (
            ""
            if hasattr(self.module, "flash_attn_with_kvcache")
            else f"{self.where} has no flash_attn_with_kvcache"
        )

    def version(self) -> str:
        return str(getattr(self.module, "__version__", self.where))

    def prepare(self, problem: AttentionProblem) -> Turns:
        window = (-1, -1) if problem.window is None else (problem.window - 1, 0)
        lengths = torch.full((problem.batch,), problem.keys, dtype=torch.int32, device=problem.q.device)
        sinks = problem.sinks.float()[None]

        def turn(number: int) -> Callable[[], Tensor]:
            k, v = problem.kv[number]

            def run() -> Tensor:
                out, lse = self.module.flash_attn_with_kvcache(
                    problem.q[:, None],
                    k,
                    v,
                    cache_seqlens=lengths,
                    causal=True,
                    window_size=window,
                    return_softmax_lse=True,
                )[:2]
                return with_sinks(out[:, 0], lse[..., 0], sinks)

            return run

        return TorchTurns([turn(number) for number in range(len(problem.kv))], problem.q.device)


def flash_peers() -> list[Any]:
    return [
        FlashWithSinks(),
        FlashCache("FA3, sink by lse", "flash_attn_interface"),
        FlashCache("FA2, sink by lse", "flash_attn"),
    ]
