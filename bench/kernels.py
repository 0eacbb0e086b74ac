"""Each kernel by itself, beside the ceilings of its device: python -m bench.kernels --device cuda --json FILE

Shapes are those of a layer of gpt-oss-20b and 120b. Time is the device's own clock: on a GPU events around one graph
of all repetitions. Repetitions take turns over weights that are larger than the caches, so that no kernel finds there
what a model would not. Bytes are what must be read and written at least, nothing padded: weights (of the experts only
those chosen), biases, the visible keys and values in the cache's dtype, activations. --minutes bounds the whole.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gptoss_native import ops
from gptoss_native.bench.costs import Cost
from gptoss_native.bench.machine import machine_facts
from gptoss_native.bench.measure import Ceilings, Row, compare
from gptoss_native.bench.report import machine_list, table, write_json
from gptoss_native.native import _core

HIDDEN, QKV, HEADS, KV_HEADS, HEAD_DIM, WINDOW, VOCAB, CHOSEN = 2880, 5120, 64, 8, 64, 128, 201088, 4
UP = 2 * HIDDEN
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
        self.lab = device.lab(precision, "bf16" if precision == "fast" else "f32")
        self.settings, self.kv_bytes = settings, 2 if precision == "fast" else 4
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
        for tokens in self.settings.tokens:
            yield self.mxfp4_linear(tokens)
        for experts in self.settings.experts:
            yield from self.experts(experts)
        for context in self.settings.contexts:
            yield self.attention(1, context, None)
        yield self.attention(1, 8192, WINDOW)
        for tokens in [t for t in self.settings.tokens if 64 <= t <= 2048]:
            yield self.attention(tokens, tokens, None)
            yield self.attention(tokens, tokens, WINDOW)
        for tokens in self.settings.tokens[::2]:
            yield from self.rows(tokens)
        yield self.sample(1)
        yield self.sample(8)

    def linear(self, name: str, tokens: int, rows: int) -> Case:
        weight_bytes = 2 * rows * (HIDDEN + 1)

        def prepare() -> list[_core.Operation]:
            x, bias, y = self.floats(tokens, HIDDEN), self.bf16(rows), self.result(tokens, rows)
            weights = [self.bf16(rows, HIDDEN) for _ in range(self.turns(weight_bytes))]
            return [self.lab.linear(x, w, bias, y, tokens, rows, HIDDEN, self.lab.stream) for w in weights]

        return Case(f"linear ({name})", {"tokens": tokens}, prepare,
                    Cost(weight_bytes + 4 * tokens * (HIDDEN + rows), 2 * tokens * rows * HIDDEN))

    def mxfp4_linear(self, tokens: int) -> Case:
        weight_bytes = expert_bytes(UP)

        def prepare() -> list[_core.Operation]:
            x, bias, y = self.floats(tokens, HIDDEN), self.bf16(UP), self.result(tokens, UP)
            weights = [self.mxfp4(UP, k=HIDDEN) for _ in range(self.turns(weight_bytes))]
            return [self.lab.moe_down(x, *w, bias, None, None, y, tokens, 1, 1, UP, HIDDEN, self.lab.stream)
                    for w in weights]

        return Case("mxfp4_linear", {"tokens": tokens}, prepare,
                    Cost(weight_bytes + 4 * tokens * (HIDDEN + UP), 2 * tokens * UP * HIDDEN))

    def experts(self, experts: int) -> Iterator[Case]:
        """Both halves, for each number of tokens; the experts chosen differ from turn to turn."""
        up = Shared(lambda: (*self.mxfp4(experts, UP, k=HIDDEN), self.bf16(experts, UP)))
        down = Shared(lambda: (*self.mxfp4(experts, HIDDEN, k=HIDDEN), self.bf16(experts, HIDDEN)))
        for tokens in self.settings.tokens:
            for name, rows, weights in (("moe_up", UP, up), ("moe_down", HIDDEN, down)):
                choices = self.choices(tokens, experts, rows)
                hit = np.mean([len(np.unique(choice)) for choice in choices])
                cost = Cost(round(hit * expert_bytes(rows)) + 4 * tokens * (HIDDEN + CHOSEN * HIDDEN),
                            2 * tokens * CHOSEN * rows * HIDDEN)
                yield Case(name, {"tokens": tokens, "experts": experts},
                           self.prepare_experts(name, tokens, experts, weights, choices), cost)

    def choices(self, tokens: int, experts: int, rows: int) -> npt.NDArray[np.int32]:
        """(turns, tokens, CHOSEN): routing is uniform; that of a single token goes round all experts."""
        turns = self.turns(min(tokens * CHOSEN, experts) * expert_bytes(rows))
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
            if name == "moe_up":
                return [lab.moe_up(x, *weights.get(), choice, many, tokens, CHOSEN, experts, UP, HIDDEN, 7.0, 1.702,
                                   stream) for choice in chosen]
            return [lab.moe_down(many, *weights.get(), choice, weight, x, tokens, CHOSEN, experts, HIDDEN, HIDDEN,
                                 stream) for choice in chosen]
        return prepare

    def attention(self, tokens: int, keys: int, window: int | None) -> Case:
        seen = [min(keys - tokens + t + 1, window or keys) for t in range(tokens)]
        read = (min(keys, tokens + window - 1) if window else keys) * 2 * KV_HEADS * HEAD_DIM * self.kv_bytes

        def prepare() -> list[_core.Operation]:
            q, sinks = self.floats(tokens, HEADS, HEAD_DIM), self.bf16(HEADS)
            k, v = self.floats(keys, KV_HEADS, HEAD_DIM), self.floats(keys, KV_HEADS, HEAD_DIM)
            attn, lse = self.result(tokens, HEADS, HEAD_DIM), self.result(tokens, HEADS)
            turns = min(self.turns(read), max(1, (2 << 30) // (keys * 2 * KV_HEADS * HEAD_DIM * self.kv_bytes)))
            return [self.lab.attention(q, k, v, sinks, attn, lse, tokens, keys, HEADS, KV_HEADS, HEAD_DIM, window or 0,
                                       self.lab.stream) for _ in range(turns)]

        moved = read + 2 * HEADS + 4 * tokens * HEADS * (2 * HEAD_DIM + 1)
        name = "attention" if window is None else "attention (window)"
        return Case(name, {"tokens": tokens, "context": keys}, prepare, Cost(moved, 4 * HEADS * HEAD_DIM * sum(seen)))

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
            host = [_core.Array.from_numpy(a) for a in (places, table)]
            return [lab.rope(x, *host, concentration, y, tokens, HEADS, HEAD_DIM, lab.stream)
                    for x in self.several(tokens, HEADS, HEAD_DIM)]

        def route() -> list[_core.Operation]:
            choice, weight = self.result(tokens, CHOSEN, dtype="int32"), self.result(tokens, CHOSEN)
            return [lab.route(x, choice, weight, tokens, experts, CHOSEN, lab.stream)
                    for x in self.several(tokens, experts)]

        yield Case("rms_norm", {"tokens": tokens}, norm, Cost(2 * HIDDEN + 8 * tokens * HIDDEN, 4 * tokens * HIDDEN))
        yield Case("swiglu", {"tokens": tokens}, swiglu, Cost(4 * tokens * (UP + HIDDEN), 8 * tokens * HIDDEN))
        yield Case("rope", {"tokens": tokens}, rope, Cost(8 * tokens * HEADS * HEAD_DIM, 3 * tokens * HEADS * HEAD_DIM))
        yield Case("route", {"tokens": tokens, "experts": experts}, route,
                   Cost(4 * tokens * (experts + 2 * CHOSEN), tokens * experts))

    def several(self, *shape: int) -> list[_core.Array]:
        return [self.floats(*shape) for _ in range(min(self.turns(4 * int(np.prod(shape))), 8))]

    def sample(self, rows: int) -> Case:
        def prepare() -> list[_core.Operation]:
            sampling = [ops.Draw(temperature=0.8, top_p=0.95, seed=row).native() for row in range(rows)]
            results = (self.result(rows, dtype="int32"), self.result(rows), self.result(rows, 20, dtype="int32"),
                       self.result(rows, 20))
            return [self.lab.sample(x, sampling, [1] * rows, *results, rows, VOCAB, self.lab.stream)
                    for x in self.several(rows, VOCAB)]

        return Case("sample", {"rows": rows}, prepare, Cost(4 * rows * VOCAB, rows * VOCAB))


@dataclass(frozen=True)
class Case:
    name: str
    sizes: dict[str, int]
    prepare: Callable[[], list[_core.Operation]]
    """The operations of one round: as many as its repetitions."""
    cost: Cost
    """Of one repetition."""


class Shared:
    """Made when it is first needed."""

    def __init__(self, make: Callable[[], tuple[_core.Array, ...]]) -> None:
        self.make, self.made = make, list[tuple[_core.Array, ...]]()

    def get(self) -> tuple[_core.Array, ...]:
        if not self.made:
            self.made.append(self.make())
        return self.made[0]


def expert_bytes(rows: int) -> int:
    """Of one expert's half: codes, scales, and a bf16 bias."""
    return rows * HIDDEN * 17 // 32 + 2 * rows


def measure(bench: Bench, settings: dict[str, Any], seconds: float, only: Sequence[str] = ()) -> Iterator[Row]:
    """One row for each case, of these names if there are any; those that would begin after `seconds` are left out."""
    lab, begun = bench.lab, time.monotonic()
    on_host = lab.place[0] == 1
    for case in bench.cases():
        if only and case.name.partition(" ")[0] not in only:
            continue
        if time.monotonic() - begun > seconds:
            return
        operations = case.prepare()
        lab.time(operations, 1)  # touches weights and memory for the first time
        times, ceilings = [], []
        for i in range(bench.settings.rounds):
            if i == 0 or on_host:  # a card's clock does not drift as a shared machine's memory does
                ceiling = Ceilings(lab.read_bandwidth(256 << 20 if on_host else 1 << 30, 0.05), lab.fma_rate(0.02),
                                   lab.matrix_rate(0.02) or None)
            ceilings.append(ceiling)
            times.append(lab.time(operations, 1)[0] / len(operations))
        yield compare("kernel", case.name, settings | case.sizes, case.cost, times, ceilings, turns=len(operations))


def cells(row: Row) -> list[str]:
    seconds, cost = row.seconds.median, row.cost
    sizes = [str(row.settings.get(key, "")) for key in ("tokens", "experts", "context")]
    sizes[0] = sizes[0] or f"{row.settings['rows']} rows"
    spread = f"({1e6 * row.seconds.low:.1f}-{1e6 * row.seconds.high:.1f})"
    percent = f"{row.percent.median:.0f} % {row.nearer}" if row.percent else ""
    return [row.name, *sizes, f"{1e6 * seconds:.1f} {spread}", f"{cost.bytes / 1e6:.2f}",
            f"{cost.bytes / seconds / 1e9:.0f}", f"{cost.flops / seconds / 1e12:.3f}", percent]


HEADINGS = ["kernel", "tokens", "experts", "context", "us", "MB", "GB/s", "TFLOP/s", "of the ceiling"]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.kernels", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0: all usable cores")
    parser.add_argument("--precision", choices=["fast", "exact"], action="append", help="fast; may be given twice")
    parser.add_argument("--only", type=lambda text: text.split(","), default=(), help="kernels by name: linear,moe_up")
    parser.add_argument("--tokens", type=integers, help="1,8,64,512,2048,8192; on the CPU to 512")
    parser.add_argument("--experts", type=integers, default=Settings.experts)
    parser.add_argument("--contexts", type=integers, default=Settings.contexts)
    parser.add_argument("--rounds", type=int, default=Settings.rounds)
    parser.add_argument("--rotate-megabytes", type=int, default=Settings.rotate_bytes >> 20)
    parser.add_argument("--minutes", type=float, default=5, help="no case begins later than this")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    tokens = options.tokens or (Settings.tokens if options.device != "cpu" else (1, 8, 64, 512))
    settings = Settings(tokens, options.experts, options.contexts, options.rounds, options.rotate_megabytes << 20)
    device, facts, rows = ops.Device(options.device, threads=options.threads), machine_facts(), []
    facts["command"] = facts["command"].replace("gptoss-native", "python -m bench.kernels", 1)
    precisions = options.precision or ["fast"]
    for precision in precisions:
        bench = Bench(device, precision, settings)
        facts["device"] = f"{bench.lab.name}: {bench.lab.detail}"
        named = {"device": bench.lab.name, "isa": bench.lab.detail, "threads": bench.lab.threads,
                 "precision": precision, "kv_dtype": "bf16" if precision == "fast" else "f32"}
        print(machine_list(facts | named) + "\n", flush=True)
        measured = list(measure(bench, named, 60 * options.minutes / len(precisions), options.only))
        reads, fmas = ([getattr(row.ceilings, name) / 1e9 for row in measured] for name in ("read", "fma"))
        print(table(HEADINGS, [cells(row) for row in measured]))
        matrix = [row.ceilings.matrix / 1e12 for row in measured if row.ceilings and row.ceilings.matrix]
        print(f"\nCeilings: read {min(reads):.0f}-{max(reads):.0f} GB/s, float32 multiply-add {min(fmas) / 1e3:.2f}-"
              f"{max(fmas) / 1e3:.2f} TFLOP/s"
              + (f", matrix units {min(matrix):.2f}-{max(matrix):.2f} TFLOP/s" if matrix else "") + ".\n", flush=True)
        rows += measured
    if options.json:
        write_json(options.json, facts, rows)
    return 0


def integers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


if __name__ == "__main__":
    raise SystemExit(main())
