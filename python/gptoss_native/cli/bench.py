"""gptoss-native bench: how fast this machine runs a model, beside what the machine can do."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptoss_native.bench.machine import machine_facts
from gptoss_native.bench.measure import Row
from gptoss_native.bench.plot import need_matplotlib, write_plot
from gptoss_native.bench.regressions import TOLERANCE, compare_results
from gptoss_native.bench.report import comparison_table, join, machine_list, read_json, rows_table, write_json
from gptoss_native.bench.run import PARTS, QUICK, Sizes, measure
from gptoss_native.bench.setup import Setup
from gptoss_native.checkpoint.checkpoint import open_checkpoint
from gptoss_native.checkpoint.hub import find_model
from gptoss_native.cli import bench_kernels
from gptoss_native.cli.lists import numbers, positive, positives
from gptoss_native.cli.options import add_model, model_path, usage_error
from gptoss_native.cli.terminal import say
from gptoss_native.config.strict_json import counted
from gptoss_native.native import info

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_command(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("bench", help="how fast this machine runs a model, beside its limits", description=(
        "Measure a model on this machine, each figure beside the ceiling that was measured right before it: memory "
        "reads, multiply-adds, the matrix unit. Prints Markdown. On a full-size model it takes minutes, with --quick "
        "about one."), epilog="PART: " + "; ".join(f"{name}, {meaning}" for name, meaning in PARTS.items()) + ".")
    parser.add_argument("parts", nargs="*", type=part, metavar="PART", help=f"{', '.join(PARTS)} (all of them)")
    add_model(parser)
    parser.add_argument("--quick", action="store_true", help="less of everything, in fewer rounds")
    bench_kernels.add_options(parser)
    results = parser.add_argument_group("results")
    results.add_argument("--json", type=Path, metavar="FILE", help="write the result for machines, too")
    results.add_argument("--plot", type=Path, metavar="FILE",
                         help="draw it: .png, .svg or .pdf; needs the extra `bench`")
    results.add_argument("--show", nargs="+", type=Path, metavar="FILE",
                         help="measure nothing: the tables (and --plot, and --json) of what --json wrote; several are "
                              "parts of one result, of one machine and build")
    results.add_argument("--compare", nargs=2, type=Path, metavar=("BEFORE", "AFTER"),
                         help="measure nothing: compare two results; exit status 1 where something became slower by "
                              "more than the spread")
    results.add_argument("--tolerance", type=percentage, metavar="PERCENT",
                         help="how much slower is never a regression (5)")
    group = parser.add_argument_group("what is measured, lists separated by commas")
    group.add_argument("--threads", type=thread_counts, metavar="LIST", help="1,all for example (all)")
    group.add_argument("--precision", type=precisions, metavar="LIST", default=["fast"],
                       help="fast, exact or both (fast)")
    group.add_argument("--dense", type=dense_forms, metavar="LIST", default=["bf16"],
                       help="attention and unembedding weights: bf16, int8 or both (bf16)")
    group.add_argument("--kv-dtype", choices=["bf16", "f32"], default="bf16", help="of cached keys and values (bf16)")
    group.add_argument("--tokens", type=positives, metavar="LIST",
                       help="sizes of the steps whose stages, or kernels, are timed")
    group.add_argument("--prefill", type=positives, metavar="LIST", help="lengths of prompts (512,2048)")
    group.add_argument("--contexts", type=numbers, metavar="LIST",
                       help="tokens in the cache before a decode (0,4096); computing them takes its time")
    group.add_argument("--batches", type=positives, metavar="LIST", help="sequences of one step (1,2,4,8,16,32)")
    group.add_argument("--rounds", type=positive, metavar="N", help="of ceilings and measurement; medians count (7)")
    group.add_argument("--probe-megabytes", type=positive, metavar="N",
                       help="what the read probe reads: more than the caches hold (256)")
    group.add_argument("--probe-seconds", type=float, metavar="S", help="what each probe takes (0.1)")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.compare:
        return _compare(arguments)
    if arguments.plot:
        need_matplotlib()
    bench_kernels.check_options(arguments)
    if arguments.show:
        machine, rows = join(list(map(read_json, arguments.show)))
        print(f"{machine_list(machine)}\n\n{rows_table(rows)}")
    elif arguments.kernels is not None:
        machine, rows = bench_kernels.measure(arguments)
    else:
        machine, rows = _measure(arguments)
    if arguments.json:
        write_json(arguments.json, machine, rows)
    if arguments.plot:
        write_plot(arguments.plot, machine, rows)
    return 0


def _measure(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[Row]]:
    """Prints as it goes. The facts of the machine, and all rows."""
    folder = find_model(model_path(arguments.model), download=False)
    machine = machine_facts() | {"model": describe(folder)}
    print(machine_list(machine), flush=True)
    if arguments.model is None:
        say("no --model: the demonstration model is measured, whose weights fit the caches, so that percentages of the "
            "read bandwidth mean little; --model takes a folder, or openai/gpt-oss-20b")
    names = ("tokens", "prefill", "contexts", "batches", "rounds", "probe_megabytes", "probe_seconds")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    sizes = replace(QUICK if arguments.quick else Sizes(), **given)
    rows = []
    for table in measure(_setups(arguments, folder), arguments.parts or list(PARTS), sizes):
        rows += table
        print(f"\n{rows_table(table)}", flush=True)
    return machine, rows


def _setups(arguments: argparse.Namespace, folder: Path) -> list[Setup]:
    return [Setup(folder, precision, arguments.kv_dtype, dense, threads) for precision in arguments.precision
            for dense in arguments.dense for threads in arguments.threads or [info()["usable_cores"]]]


def _compare(arguments: argparse.Namespace) -> int:
    if arguments.parts or arguments.show or arguments.json or arguments.plot:
        usage_error(arguments, "--compare reads two results and measures nothing: leave the rest out")
    (old, before), (new, after) = map(read_json, arguments.compare)
    tolerance = TOLERANCE if arguments.tolerance is None else arguments.tolerance
    comparison = compare_results(before, after, tolerance)
    for key in ("date", "commit", "cpu", "cpu_isa", "model"):
        if old.get(key) != new.get(key):
            print(f"- {key}: {old.get(key)} -> {new.get(key)}")
    print(f"\n{comparison_table(comparison)}\n")
    if comparison.only_before or comparison.only_after:
        print(f"Only in the first result: {counted(comparison.only_before, 'row')}; only in the second: "
              f"{counted(comparison.only_after, 'row')}.")
    print(f"{counted(len(comparison.regressions), 'regression')} in {counted(len(comparison.changes), 'row')}.")
    return 1 if comparison.regressions else 0


def describe(folder: Path) -> str:
    """Of which shape a model is, without where it lies."""
    checkpoint = open_checkpoint(folder)
    c = checkpoint.config
    return (f"{c.num_hidden_layers} layers, {c.num_local_experts} experts, hidden {c.hidden_size}, "
            f"{checkpoint.layout} layout, {checkpoint.expert_format} experts, {checkpoint.nbytes / 1e9:.3g} GB")


def part(text: str) -> str:
    if text not in PARTS:
        raise argparse.ArgumentTypeError(f"there is no part {text!r}; there are {', '.join(PARTS)}")
    return text


def percentage(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1
    if not 0 <= found < 1000:
        raise argparse.ArgumentTypeError(f"expected a percentage, not {text!r}")
    return found / 100


def thread_counts(text: str) -> list[int]:
    every = info()["usable_cores"]
    return list(dict.fromkeys(every if word == "all" else positive(word) for word in text.split(",")))


def precisions(text: str) -> list[str]:
    return _words(text, "fast", "exact")


def dense_forms(text: str) -> list[str]:
    return _words(text, "bf16", "int8")


def _words(text: str, one: str, other: str) -> list[str]:
    found = list(dict.fromkeys(text.split(",")))
    if not set(found) <= {one, other}:
        raise argparse.ArgumentTypeError(f"expected {one}, {other} or both, not {text!r}")
    return found
