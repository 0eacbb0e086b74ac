"""Race llama.cpp on this machine: the same weights, the same prompts, in turns, in one run.

    PYTHONPATH=python python -m bench.peers --model DIR --work FOLDER --json result.json

Needs the packages gguf and llama-cpp-python (built for this very CPU: CMAKE_ARGS=-DGGML_NATIVE=ON). FOLDER is where
the GGUF files of the checkpoint are written, once. bench/README.md says what is compared, and how.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from gptoss_native import info, open_checkpoint
from gptoss_native.bench.costs import Model, total
from gptoss_native.bench.machine import machine_facts
from gptoss_native.bench.measure import Probe, Spread, compare
from gptoss_native.bench.report import machine_list, table
from gptoss_native.cli.bench import describe
from gptoss_native.config.strict_json import counted

from .engines import LlamaCpp, Ours, Racer
from .gguf_model import write_gguf

DENSE = {"bf16": "bf16", "q8_0": "int8"}
"""Formats of llama.cpp's dense weights, and of ours in the same race."""
COMPARED = (1, 64)
"""Lengths of prompts whose logits are compared."""
SCHEMA = 1


def main() -> None:
    options = parse()
    rng = np.random.default_rng(0)
    vocab_size = open_checkpoint(options.model).config.vocab_size
    machine = machine_facts() | {"command": " ".join(["python -m bench.peers", *map(_last_part, sys.argv[1:])]),
                                 "model": describe(options.model), "threads": options.threads}
    print(machine_list(machine), flush=True)
    races = []
    for dense in options.dense:
        print(f"\n### dense weights: ours {DENSE[dense]}, llama.cpp's {dense}\n", flush=True)
        race = run_race(options, dense, lambda count: rng.integers(0, vocab_size, count).astype(np.int32))
        races.append(race)
        print(race_table(race), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"schema": SCHEMA, "machine": machine, "races": races}, indent=1) + "\n")


def run_race(options: argparse.Namespace, dense: str, ids: Callable[[int], Any]) -> dict[str, Any]:
    file = options.work / f"{options.model.resolve().name}-{dense}.gguf"
    if not file.exists():
        options.work.mkdir(parents=True, exist_ok=True)
        write_gguf(options.model, file, dense)
    room = max(*options.prefill, options.decode, *COMPARED) + 8
    ours = Racer(Ours, options.model, options.threads, room, {"precision": options.precision, "dense": DENSE[dense]})
    theirs = Racer(LlamaCpp, file, options.threads, room, {})
    race: dict[str, Any] = {"dense": {"ours": DENSE[dense], "theirs": dense}, "gguf_bytes": file.stat().st_size}
    race["agreement"] = {str(count): agreement(ours, theirs, ids(count)) for count in COMPARED}
    race["rows"] = list(turns(options, ours, theirs, ids, race["dense"]))
    for name, racer in (("ours", ours), ("theirs", theirs)):
        race[name] = racer.facts | {"load_seconds": racer.load_seconds, "private_bytes": racer.private_bytes()}
        racer.close()
    return race


def agreement(ours: Racer, theirs: Racer, prompt: Any) -> float:
    """Correlation of the logits. That both compute the same model shows behind one token: theirs rounds activations to
    8 bits, which costs about a thousandth. Behind many tokens random weights make much of little, because rounding
    chooses other experts."""
    return float(np.corrcoef(*(racer.call("logits", prompt) for racer in (ours, theirs)))[0, 1])


def turns(options: argparse.Namespace, ours: Racer, theirs: Racer,
          ids: Callable[[int], Any], dense: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Each round: the ceilings, ours, theirs. A ratio is taken round by round, and so is a percentage."""
    config, probe = open_checkpoint(options.model).config, Probe(options.threads, precision=options.precision)
    works = [("prefill", count) for count in options.prefill] + [("decode", options.decode)]
    for method, count in works:
        for racer in (ours, theirs):
            racer.call(method, ids(min(count, 64)))  # touches weights and memory for the first time
        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        ceilings = []
        for _ in range(options.rounds):
            prompt = ids(count)
            ceilings.append(probe())
            for name, racer in (("ours", ours), ("theirs", theirs)):
                seconds[name].append(racer.call(method, prompt))
        ratios = [b / a for a, b in zip(seconds["ours"], seconds["theirs"])]
        row: dict[str, Any] = {"name": f"{method} {count}", "ratio": asdict(Spread.of(ratios))}
        for name, times in seconds.items():
            model = Model(config, dense=dense[name])
            tokens = [model.step(1, context=i) for i in range(count)]
            cost = model.step(count) if method == "prefill" else total(tokens)
            row[name] = compare("race", name, {}, cost, times, ceilings).to_dict()
            row[name]["tokens_per_second"] = asdict(Spread.of([count / time for time in times]))
        yield row


def race_table(race: dict[str, Any]) -> str:
    lines = []
    for row in race["rows"]:
        lines.append([row["name"], *(_spread(row[name]["tokens_per_second"]) for name in ("ours", "theirs")),
                      _spread(row["ratio"], 2),
                      *(f"{_spread(row[name]['percent'], 0)} {row[name]['nearer']}" for name in ("ours", "theirs"))])
    facts = []
    for label, name in (("gptoss_native", "ours"), ("llama-cpp-python", "theirs")):
        racer, memory = race[name], race[name]["private_bytes"]
        facts.append(f"- {label} {racer['version']}: loaded in {racer['load_seconds']:.1f} s"
                     + (f", {memory / 1e9:.2f} GB of private memory" if memory else "") + f"; {racer['device']}")
    agreed = ", ".join(f"{correlation:.4f} behind {counted(int(count), 'token')}"
                       for count, correlation in race["agreement"].items())
    return "\n\n".join([
        table(["tokens/s", "gptoss_native", "llama.cpp", "ratio", "% of the ceiling, ours", "theirs"], lines),
        "\n".join(facts),
        f"Correlation of the logits: {agreed}."])


def _spread(spread: dict[str, Any], digits: int = 1) -> str:
    return f"{spread['median']:.{digits}f} ({spread['low']:.{digits}f}-{spread['high']:.{digits}f})"


def _last_part(argument: str) -> str:
    return Path(argument).name if "/" in argument else argument


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for the GGUF files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result for machines")
    parser.add_argument("--dense", nargs="+", choices=DENSE, default=list(DENSE), help="of llama.cpp's dense weights")
    parser.add_argument("--precision", choices=["fast", "exact"], default="fast")
    parser.add_argument("--prefill", type=int, nargs="+", default=[512], metavar="N", help="lengths of prompts (512)")
    parser.add_argument("--decode", type=int, default=64, metavar="N", help="tokens of a decode (64)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (5)")
    parser.add_argument("--threads", type=int, default=info()["usable_cores"], help="of each (all cores)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
