"""Measure gptoss_native on this machine, beside the machine's own ceilings.

    python -m bench stages --model DIR        each stage of a layer, over steps of 1 to 512 tokens
    python -m bench steps --model DIR         prefill and decode through the public stream
    python -m bench serving --model DIR       several sequences in a step, and cancellation
    python -m bench start --model DIR         from the start of a process to its first token
    python -m bench all --model DIR --json result.json
    python -m bench show result.json          the tables of an earlier run

Run it from the root of the checkout. bench/README.md says what the columns mean and how to make a checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from gptoss_native import GptOssError, info, open_checkpoint

from .machine import machine_facts
from .measure import Probe, Row
from .report import machine_list, read_json, rows_table, write_json
from .serving import bench_serving
from .stages import bench_stages
from .startup import bench_startup, read_files
from .steps import bench_steps


def main() -> int:
    if sys.argv[1:2] == ["show"] and len(sys.argv) == 3:
        machine, rows = read_json(Path(sys.argv[2]))
        print(machine_list(machine) + "\n\n" + rows_table(rows))
        return 0
    options = parse(sys.argv[1:])
    machine = machine_facts() | {"model": describe(options.model)}
    print(machine_list(machine), flush=True)
    rows = []
    for part in parts(options):
        measured = list(part)
        rows += measured
        print("\n" + rows_table(measured), flush=True)
    if options.json:
        write_json(options.json, machine, rows)
    return 0


def parts(options: argparse.Namespace) -> Iterator[Iterator[Row]]:
    """One for each table."""
    read_files(open_checkpoint(options.model).files)
    wanted = ("stages", "steps", "serving", "start") if options.what == "all" else (options.what,)
    for precision in options.precision:
        for threads in options.threads:
            probe = Probe(threads, options.probe_megabytes, options.probe_seconds)
            common = {"precision": precision, "kv_dtype": options.kv_dtype, "threads": threads}
            if "stages" in wanted:
                yield bench_stages(options.model, **common, tokens=options.tokens, rounds=options.rounds, probe=probe)
            if "steps" in wanted:
                yield bench_steps(options.model, **common, prefill=options.prefill, contexts=options.contexts,
                                  rounds=options.rounds, probe=probe)
            if "serving" in wanted:
                yield bench_serving(options.model, **common, batches=options.batches, rounds=options.rounds,
                                    probe=probe)
    if "start" in wanted:
        yield bench_startup(options.model, precision=options.precision[0], kv_dtype=options.kv_dtype,
                            threads=options.threads[0], rounds=max(options.rounds // 2, 1))


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["stages", "steps", "serving", "start", "all"])
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result for machines")
    parser.add_argument("--precision", type=precisions, default=["fast"], help="fast, exact, or fast,exact")
    parser.add_argument("--kv-dtype", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--threads", type=thread_counts, default=[info()["usable_cores"]], help="1,all, for example")
    parser.add_argument("--tokens", type=positives, default=[1, 8, 64, 512], help="sizes of the stages' steps")
    parser.add_argument("--prefill", type=positives, default=[128, 512, 2048], help="lengths of prompts")
    parser.add_argument("--contexts", type=numbers, default=[0, 4096],
                        help="tokens in the cache before decode; they are computed first, which takes its time")
    parser.add_argument("--batches", type=positives, default=[1, 2, 4, 8, 16, 32], help="sequences of one step")
    parser.add_argument("--rounds", type=positive, default=7, help="rounds of ceilings and measurement; medians count")
    parser.add_argument("--probe-megabytes", type=positive, default=256, help="of the read probe: more than the caches")
    parser.add_argument("--probe-seconds", type=float, default=0.1, help="time of each probe")
    return parser.parse_args(arguments)


def numbers(text: str) -> list[int]:
    found = [int(word) for word in text.split(",")]
    if min(found) < 0:
        raise argparse.ArgumentTypeError(f"expected numbers from 0, found {text}")
    return found


def positives(text: str) -> list[int]:
    if min(numbers(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected numbers from 1, found {text}")
    return numbers(text)


def positive(text: str) -> int:
    [number] = positives(text)
    return number


def thread_counts(text: str) -> list[int]:
    all_cores = info()["usable_cores"]
    return list(dict.fromkeys(all_cores if word == "all" else positive(word) for word in text.split(",")))


def precisions(text: str) -> list[str]:
    found = text.split(",")
    if not set(found) <= {"fast", "exact"}:
        raise argparse.ArgumentTypeError(f"expected fast or exact, found {text}")
    return found


def describe(folder: Path) -> str:
    checkpoint = open_checkpoint(folder)
    c = checkpoint.config
    return (f"{c.num_hidden_layers} layers, {c.num_local_experts} experts, hidden {c.hidden_size}, "
            f"{checkpoint.layout} layout, {checkpoint.expert_format} experts, {checkpoint.nbytes / 1e9:.2f} GB")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (GptOssError, OSError, ValueError) as error:
        sys.exit(f"python -m bench: {error}")
