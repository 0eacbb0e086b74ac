"""Whole steps on a card: python -m bench.gpu --model DIR [--ablations | --without PARTS ...] [--json FILE]

Decode and prefill through the public stream, as `gptoss-native bench` measures them on the CPU, beside a plain read of
that card's own memory in the same round. --without measures the same again for each of its words (one, or several with
commas) without that part: the matrix kernels, those of wgmma among them, attention among these, dependent launches,
graphs, fusion of a stage's kernels into one, the next step's submission before the last one's end. --ablations is
--without each of them, and all of them.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import gptoss_native as gptoss
from gptoss_native import ops
from gptoss_native.bench.costs import Model
from gptoss_native.bench.measure import Spread

PARTS = ("matrix", "wgmma", "wgmma_attention", "dependent", "graphs", "fusion", "ahead")
"""What GPTOSS_CUDA_WITHOUT knows."""
READ_BYTES = 1 << 30
"""Of the plain read: far more than any card's L2."""
READ_SECONDS = 0.05


def measure(folder: Path | None, device: str, precision: str, kv_dtype: str, prefill: list[int], contexts: list[int],
            tokens: int, rounds: int, without: str = "") -> Iterator[dict[str, Any]]:
    os.environ["GPTOSS_CUDA_WITHOUT"] = without
    lab = ops.Device(device).lab()
    begun = perf_counter()
    with gptoss.load(folder, device=device, precision=precision, kv_dtype=kv_dtype, token_budget=2048,
                     max_context=max([*prefill, *contexts]) + (rounds + 2) * (tokens + 2)) as engine:
        loaded = perf_counter() - begun
        model = Model(engine.config, kv_dtype=kv_dtype)
        common = {"model": str(folder or "demo"), "layers": engine.config.num_hidden_layers,
                  "device": str(engine.device), "precision": precision, "kv_dtype": kv_dtype, "without": without,
                  "load_seconds": loaded}
        random = np.random.default_rng(0)

        def ids(count: int) -> Any:
            return random.integers(0, engine.config.vocab_size, count).astype(np.int32)

        engine.generate(ids(2), greedy(8))
        for count in prefill:
            seconds = [engine.generate(ids(count), greedy(1)).prefill_seconds for _ in range(rounds)]
            yield common | {"name": f"prefill {count}", "seconds": vars(Spread.of(seconds)),
                            "tokens_per_second": count / median(seconds)}
        for context in contexts:
            prompt = ids(max(context, 1))
            seconds, reads = [], []
            for turn in range(rounds + 1):
                reads.append(lab.read_bandwidth(READ_BYTES, READ_SECONDS))
                completion = engine.generate(prompt, greedy(1 + tokens))
                prompt = np.append(prompt, np.array(completion.tokens, np.int32))
                if turn > 0:
                    seconds.append(completion.decode_seconds / tokens)
            cost = model.step(1, context=context + tokens * rounds // 2)
            yield common | {"name": f"decode, {context} cached", "seconds": vars(Spread.of(seconds)),
                            "tokens_per_second": 1 / median(seconds), "bytes_per_token": cost.bytes,
                            "read_bytes_per_second": median(reads),
                            "percent_of_read": 100 * cost.bytes / median(seconds) / median(reads)}


def greedy(tokens: int) -> gptoss.SamplingParams:
    return gptoss.SamplingParams(temperature=0, min_tokens=tokens, max_tokens=tokens)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="default: the demonstration model")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path, metavar="FILE", help="lines are appended")
    parser.add_argument("--precision", default="fast,exact")
    parser.add_argument("--kv-dtype", default="bf16")
    parser.add_argument("--prefill", default="128,1024")
    parser.add_argument("--contexts", default="0,1024")
    parser.add_argument("--tokens", type=int, default=32, help="decoded in a round")
    parser.add_argument("--rounds", type=int, default=5)
    without = parser.add_mutually_exclusive_group()
    without.add_argument("--without", nargs="*", default=[], metavar="PARTS")
    without.add_argument("--ablations", dest="without", action="store_const", const=[*PARTS, ",".join(PARTS)],
                         help=f"--without {' '.join(PARTS)} and all of them")
    options = parser.parse_args()
    prefill, contexts = ([int(text) for text in field.split(",") if text]
                         for field in (options.prefill, options.contexts))
    for precision, without in product(options.precision.split(","), ["", *options.without]):
        for row in measure(options.model, options.device, precision, options.kv_dtype, prefill, contexts,
                           options.tokens, options.rounds, without):
            share = f", {row['percent_of_read']:.1f} % of {row['read_bytes_per_second'] / 1e9:.0f} GB/s" \
                if "percent_of_read" in row else ""
            middle = 1e3 * row["seconds"]["median"]
            how = precision + (f" without {without}" if without else "")
            print(f"{row['model']}, {row['layers']} layers, {how}: {row['name']}: {middle:.3f} ms "
                  f"({1e3 * row['seconds']['low']:.3f}-{1e3 * row['seconds']['high']:.3f}), "
                  f"{row['tokens_per_second']:.1f} tokens/s{share}", flush=True)
            if options.json:
                with options.json.open("a") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
