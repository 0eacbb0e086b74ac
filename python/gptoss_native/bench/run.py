"""All that can be measured, in order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from gptoss_native.bench.measure import Probe, Row
from gptoss_native.bench.serving import bench_batches, bench_cancel
from gptoss_native.bench.setup import Setup
from gptoss_native.bench.stages import bench_stages
from gptoss_native.bench.startup import bench_startup, read_files
from gptoss_native.bench.steps import bench_steps

PARTS = {"stages": "each stage of a layer, the unembedding and the draw", "prefill": "whole prompts",
         "decode": "through the public stream", "batch": "several sequences in a step",
         "cancel": "from close() to an idle engine", "start": "from the start of a process to its first tokens"}


@dataclass(frozen=True)
class Sizes:
    """How much is measured. tokens: of the steps whose stages are timed. prefill: lengths of prompts. contexts: tokens
    in the cache before a decode. batches: sequences of one step. rounds: of ceilings and measurement. starts: of a
    process. probe_megabytes, probe_seconds: what the read probe reads, and how long each probe takes."""

    tokens: Sequence[int] = (1, 8, 64, 512)
    prefill: Sequence[int] = (512, 2048)
    contexts: Sequence[int] = (0, 4096)
    batches: Sequence[int] = (1, 2, 4, 8, 16, 32)
    rounds: int = 7
    starts: int = 3
    probe_megabytes: int = 256
    probe_seconds: float = 0.1


QUICK = Sizes(tokens=(1, 64), prefill=(128,), contexts=(0,), batches=(1, 4), rounds=3, starts=1, probe_seconds=0.05)


def measure(setups: Sequence[Setup], parts: Collection[str], sizes: Sizes) -> Iterator[list[Row]]:
    """The rows of each of PARTS as they are done. All setups are of one folder, whose files are read first."""
    read_files(setups[0].checkpoint().files)
    for setup in setups:
        rounds, probe = sizes.rounds, Probe(setup.threads, sizes.probe_megabytes, sizes.probe_seconds, setup.precision)
        if "stages" in parts:
            yield list(bench_stages(setup, tokens=sizes.tokens, rounds=rounds, probe=probe))
        if {"prefill", "decode"} & set(parts):
            prefill = sizes.prefill if "prefill" in parts else ()
            contexts = sizes.contexts if "decode" in parts else ()
            yield list(bench_steps(setup, prefill=prefill, contexts=contexts, rounds=rounds, probe=probe))
        if "batch" in parts:
            yield list(bench_batches(setup, batches=sizes.batches, rounds=rounds, probe=probe))
        if "cancel" in parts:
            yield list(bench_cancel(setup, rounds=rounds))
        if "start" in parts:
            yield list(bench_startup(setup, rounds=sizes.starts))
