"""The kernels of gptoss_native.ops at the shapes of a layer of gpt-oss-20b and 120b, ready to be timed.

Repetitions take turns over weights that are larger than the caches, so that no kernel finds there what a model would
not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gptoss_native import ops
from gptoss_native.bench import kernel_costs as costs
from gptoss_native.bench.costs import BF16, FLOAT32, KV_BYTES, Cost
from gptoss_native.native import _core

HIDDEN, QKV, HEADS, KV_HEADS, HEAD_DIM, WINDOW, VOCAB, CHOSEN = 2880, 5120, 64, 8, 64, 128, 201088, 4
UP = 2 * HIDDEN
KERNELS = ("linear", "mxfp4_linear", "mxfp4_grouped", "moe_up", "moe_down", "attention", "rms_norm", "swiglu", "rope",
           "route", "dequantize_mxfp4", "sample")
MOST_TURNS = 48
"""Repetitions of a kernel in one round, at most."""


@dataclass(frozen=True)
class Settings:
    tokens: Sequence[int] = (1, 8, 64, 512, 2048, 8192)
    experts: Sequence[int] = (32, 128)
    contexts: Sequence[int] = (128, 1024, 8192, 32768, 131072)
    rounds: int = 5
    rotate_bytes: int = 256 << 20
    """What the repetitions of a round read together, at least, if they are not MOST_TURNS already."""


class Bench:
    """Operands of a device, made once, and the cases over them."""

    def __init__(self, device: ops.Device, precision: ops.device.Precision, settings: Settings) -> None:
        self.kv_dtype: ops.device.KvDType = "bf16" if precision == "fast" else "f32"
        self.lab = device.lab(precision, self.kv_dtype)
        self.settings = settings
        self.rng = np.random.default_rng(0)

    def put(self, array: npt.NDArray[Any]) -> _core.Array:
        host = _core.Array.from_numpy(array)
        return host if self.lab.place[0] == 1 else self.lab.upload(host, self.lab.stream)

    def floats(self, *shape: int) -> _core.Array:
        return self.put(self.rng.standard_normal(shape, np.float32))

    def bf16(self, *shape: int) -> _core.Array:
        """Repeats after some megabytes; who multiplies does not notice."""
        return self.put(np.resize(ops.reference.to_bf16(self.rng.standard_normal(1 << 20, np.float32)), shape))

    def mxfp4(self, *shape: int, k: int) -> tuple[_core.Array, _core.Array]:
        blocks = np.resize(self.rng.integers(0, 256, 1 << 22, np.uint8), (*shape, k // 32, 16))
        return self.put(blocks), self.put(np.resize(self.rng.integers(116, 122, 1 << 16, np.uint8), (*shape, k // 32)))

    def result(self, *shape: int, dtype: str = "float32") -> _core.Array:
        return self.lab.empty(shape, dtype)

    def turns(self, read_bytes: int) -> int:
        """Repetitions of a round: enough to read more than the caches hold."""
        return max(1, min(MOST_TURNS, -(-self.settings.rotate_bytes // max(read_bytes, 1))))

    # ---- cases: each gives its name, what it must move and compute, and its operations of one round

    def cases(self) -> Iterator[Case]:
        for tokens in self.settings.tokens:
            yield self.linear("qkv", tokens, QKV)
        yield from (self.linear("unembed", rows, VOCAB) for rows in (1, 8))
        for context in self.settings.contexts:
            yield self.attention(1, context, None)
        yield self.attention(1, 8192, WINDOW)
        yield self.attention(1, 1024, None, sequences=8)
        for tokens in self.settings.tokens:
            yield self.mxfp4_linear(tokens)
        yield self.dequantize()
        for experts in self.settings.experts:
            yield from self.experts(experts)
        for tokens in [t for t in self.settings.tokens if 64 <= t <= 2048]:
            yield self.attention(tokens, tokens, None)
            yield self.attention(tokens, tokens, WINDOW)
        for tokens in self.settings.tokens[::2]:
            yield from self.rows(tokens)
        yield self.sample(1)
        yield self.sample(8)

    def linear(self, name: str, tokens: int, rows: int) -> Case:
        weight_bytes = BF16 * rows * HIDDEN

        def prepare() -> list[_core.Operation]:
            x, bias, y = self.floats(tokens, HIDDEN), self.bf16(rows), self.result(tokens, rows)
            weights = [self.bf16(rows, HIDDEN) for _ in range(self.turns(weight_bytes))]
            return [self.lab.linear(x, w, bias, y, tokens, rows, HIDDEN, self.lab.stream) for w in weights]

        return Case(f"linear ({name})", {"tokens": tokens}, prepare, costs.linear(tokens, rows, HIDDEN))

    def mxfp4_linear(self, tokens: int) -> Case:
        def prepare() -> list[_core.Operation]:
            x, bias, y = self.floats(tokens, HIDDEN), self.bf16(UP), self.result(tokens, UP)
            weights = [self.mxfp4(UP, k=HIDDEN) for _ in range(self.turns(costs.expert_bytes(UP, HIDDEN)))]
            return [self.lab.moe_down(x, *w, bias, None, None, y, tokens, 1, 1, UP, HIDDEN, self.lab.stream)
                    for w in weights]

        return Case("mxfp4_linear", {"tokens": tokens}, prepare, costs.mxfp4_linear(tokens, UP, HIDDEN))

    def experts(self, experts: int) -> Iterator[Case]:
        """Both halves, for each number of tokens; the experts chosen differ from turn to turn."""
        up = Shared(lambda: (*self.mxfp4(experts, UP, k=HIDDEN), self.bf16(experts, UP)))
        down = Shared(lambda: (*self.mxfp4(experts, HIDDEN, k=HIDDEN), self.bf16(experts, HIDDEN)))
        for tokens in self.settings.tokens:
            yield self.grouped(tokens * CHOSEN, experts, down)
            for name, rows, weights in (("moe_up", UP, up), ("moe_down", HIDDEN, down)):
                choices = self.choices(tokens, experts, rows)
                hit = float(np.mean([len(np.unique(choice)) for choice in choices]))
                cost = costs.moe_up if name == "moe_up" else costs.moe_down
                yield Case(name, {"tokens": tokens, "experts": experts},
                           self.prepare_experts(name, tokens, experts, weights, choices),
                           cost(tokens, CHOSEN, rows, HIDDEN, hit))

    def grouped(self, pairs: int, experts: int, weights: Shared) -> Case:
        """Pairs take turns among the experts."""
        hit = min(pairs, experts)
        turns = self.turns(hit * costs.expert_bytes(HIDDEN, HIDDEN))

        def prepare() -> list[_core.Operation]:
            x, y, (blocks, scales, bias) = self.floats(pairs, HIDDEN), self.result(pairs, HIDDEN), weights.get()
            expert = [self.put(np.arange(i * pairs, (i + 1) * pairs, dtype=np.int32) % experts) for i in range(turns)]
            return [self.lab.moe_down(x, blocks, scales, bias, e, None, y, pairs, 1, experts, HIDDEN, HIDDEN,
                                      self.lab.stream) for e in expert]

        return Case("mxfp4_grouped", {"tokens": pairs, "experts": experts}, prepare,
                    costs.mxfp4_grouped(pairs, HIDDEN, HIDDEN, hit))

    def dequantize(self) -> Case:
        def prepare() -> list[_core.Operation]:
            y = self.result(UP, HIDDEN)
            weights = [self.mxfp4(UP, k=HIDDEN) for _ in range(self.turns(costs.expert_bytes(UP, HIDDEN)))]
            return [self.lab.dequantize(*w, y, UP, HIDDEN, self.lab.stream) for w in weights]

        return Case("dequantize_mxfp4", {"rows": UP}, prepare, costs.dequantize_mxfp4(UP, HIDDEN))

    def choices(self, tokens: int, experts: int, rows: int) -> npt.NDArray[np.int32]:
        """(turns, tokens, CHOSEN): routing is uniform; that of a single token goes round all experts."""
        turns = self.turns(min(tokens * CHOSEN, experts) * costs.expert_bytes(rows, HIDDEN))
        if tokens == 1:
            return (np.arange(turns * CHOSEN, dtype=np.int32) % experts).reshape(turns, 1, CHOSEN)
        random = np.random.default_rng(tokens).random((turns, tokens, experts))
        return np.argpartition(random, CHOSEN - 1, axis=-1)[..., :CHOSEN].astype(np.int32)

    def prepare_experts(self, name: str, tokens: int, experts: int, weights: Shared,
                        choices: npt.NDArray[np.int32]) -> Callable[[], list[_core.Operation]]:
        def prepare() -> list[_core.Operation]:
            lab, stream = self.lab, self.lab.stream
            x, many = self.floats(tokens, HIDDEN), self.floats(tokens, CHOSEN, HIDDEN)
            weight = self.put(np.full((tokens, CHOSEN), 1 / CHOSEN, np.float32))
            chosen = [self.put(choice) for choice in choices]
            blocks, scales, bias = weights.get()
            if name == "moe_up":
                return [lab.moe_up(x, blocks, scales, bias, choice, many, tokens, CHOSEN, experts, UP, HIDDEN, 7.0,
                                   1.702, stream) for choice in chosen]
            return [lab.moe_down(many, blocks, scales, bias, choice, weight, x, tokens, CHOSEN, experts, HIDDEN, HIDDEN,
                                 stream) for choice in chosen]
        return prepare

    def attention(self, queries: int, keys: int, window: int | None, sequences: int = 1) -> Case:
        """So many sequences, each with its own keys."""
        cached = costs.kv_bytes(queries, keys, KV_HEADS, HEAD_DIM, window, self.kv_dtype) * sequences
        held = keys * sequences * 2 * KV_HEADS * HEAD_DIM * KV_BYTES[self.kv_dtype]
        tokens, lengths = queries * sequences, ([queries] * sequences, [keys] * sequences)

        def prepare() -> list[_core.Operation]:
            q, sinks = self.floats(tokens, HEADS, HEAD_DIM), self.bf16(HEADS)
            k, v = (self.floats(keys * sequences, KV_HEADS, HEAD_DIM) for _ in range(2))
            attn, lse = self.result(tokens, HEADS, HEAD_DIM), self.result(tokens, HEADS)
            turns = min(self.turns(cached), max(1, (2 << 30) // held))
            return [self.lab.attention(q, k, v, sinks, attn, lse, *lengths, HEADS, KV_HEADS, HEAD_DIM, window or 0,
                                       self.lab.stream) for _ in range(turns)]

        kind = ["window"] * (window is not None) + [f"{sequences} sequences"] * (sequences > 1)
        return Case(" ".join(["attention", *([f"({', '.join(kind)})"] if kind else [])]),
                    {"tokens": tokens, "context": keys}, prepare,
                    costs.attention(*lengths, HEADS, KV_HEADS, HEAD_DIM, window, self.kv_dtype))

    def rows(self, tokens: int) -> Iterator[Case]:
        lab, experts = self.lab, self.settings.experts[-1]

        def norm() -> list[_core.Operation]:
            gain, y = self.bf16(HIDDEN), self.result(tokens, HIDDEN)
            return [lab.rms_norm(x, gain, y, tokens, HIDDEN, 1e-5, lab.stream) for x in self.several(tokens, HIDDEN)]

        def swiglu() -> list[_core.Operation]:
            y = self.result(tokens, HIDDEN)
            return [lab.swiglu(u, y, tokens, HIDDEN, 7.0, 1.702, lab.stream) for u in self.several(tokens, UP)]

        def rope() -> list[_core.Operation]:
            places, y = np.arange(tokens, dtype=np.int32), self.result(tokens, HEADS, HEAD_DIM)
            table, concentration = ops.rope_table()
            position, frequency = _core.Array.from_numpy(places), _core.Array.from_numpy(table)
            return [lab.rope(x, position, frequency, concentration, y, tokens, HEADS, HEAD_DIM, lab.stream)
                    for x in self.several(tokens, HEADS, HEAD_DIM)]

        def route() -> list[_core.Operation]:
            choice, weight = self.result(tokens, CHOSEN, dtype="int32"), self.result(tokens, CHOSEN)
            return [lab.route(x, choice, weight, tokens, experts, CHOSEN, lab.stream)
                    for x in self.several(tokens, experts)]

        yield Case("rms_norm", {"tokens": tokens}, norm, costs.rms_norm(tokens, HIDDEN))
        yield Case("swiglu", {"tokens": tokens}, swiglu, costs.swiglu(tokens, HIDDEN))
        yield Case("rope", {"tokens": tokens}, rope, costs.rope(tokens, HEADS, HEAD_DIM))
        yield Case("route", {"tokens": tokens, "experts": experts}, route, costs.route(tokens, experts, CHOSEN))

    def several(self, *shape: int) -> list[_core.Array]:
        return [self.floats(*shape) for _ in range(min(self.turns(FLOAT32 * int(np.prod(shape))), 8))]

    def sample(self, rows: int) -> Case:
        def prepare() -> list[_core.Operation]:
            sampling = [ops.Draw(temperature=0.8, top_p=0.95, seed=row).native() for row in range(rows)]
            results = (self.result(rows, dtype="int32"), self.result(rows), self.result(rows, 20, dtype="int32"),
                       self.result(rows, 20))
            return [self.lab.sample(x, sampling, [1] * rows, *results, rows, VOCAB, self.lab.stream)
                    for x in self.several(rows, VOCAB)]

        return Case("sample", {"rows": rows}, prepare, costs.sample(rows, VOCAB))


@dataclass(frozen=True)
class Case:
    name: str
    sizes: dict[str, int]
    prepare: Callable[[], list[_core.Operation]]
    """The operations of one round: as many as its repetitions."""
    cost: Cost
    """Of one repetition."""

    @property
    def kernel(self) -> str:
        """Without what is said about it in brackets."""
        return self.name.partition(" ")[0]


class Shared:
    """Made when it is first needed."""

    def __init__(self, make: Callable[[], tuple[_core.Array, _core.Array, _core.Array]]) -> None:
        self.make, self.made = make, list[tuple[_core.Array, _core.Array, _core.Array]]()

    def get(self) -> tuple[_core.Array, _core.Array, _core.Array]:
        if not self.made:
            self.made.append(self.make())
        return self.made[0]
