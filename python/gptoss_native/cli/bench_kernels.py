"""gptoss-native bench --kernels: each kernel alone, on any device."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from gptoss_native import ops
from gptoss_native.bench.kernel_cases import KERNELS, Settings
from gptoss_native.bench.kernels import bench_kernels
from gptoss_native.bench.machine import machine_facts
from gptoss_native.bench.measure import Row
from gptoss_native.bench.report import machine_list, rows_table, write_json
from gptoss_native.cli.lists import positive, positives
from gptoss_native.cli.options import usage_error
from gptoss_native.engine.devices import choose_device

QUICK = Settings(tokens=(1, 64), experts=(32,), contexts=(1024,), rounds=3)
MINUTES = 5.0
OPTIONS = ("device", "experts", "rotate_megabytes", "minutes")


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("kernels one by one, without a model")
    group.add_argument("--kernels", nargs="?", type=kernels, const=[], metavar="LIST",
                       help="time these instead of a model, or all of them: " + ", ".join(KERNELS))
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (cpu)")
    group.add_argument("--experts", type=positives, metavar="LIST", help="of a layer (32,128)")
    group.add_argument("--rotate-megabytes", type=positive, metavar="N",
                       help="weights that take turns in a round: more than the caches hold (256)")
    group.add_argument("--minutes", type=float, metavar="M", help=f"no kernel begins later than this ({MINUTES:g})")


def check_options(arguments: argparse.Namespace) -> None:
    """A usage error where they do not go together."""
    alone = [f"--{name.replace('_', '-')}" for name in OPTIONS if getattr(arguments, name) is not None]
    if arguments.kernels is None and alone:
        usage_error(arguments, f"{alone[0]} is for --kernels")
    if arguments.kernels is not None and (arguments.parts or arguments.model or arguments.show):
        usage_error(arguments, "--kernels needs no model, no PART and no result: leave them out")


def measure(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[Row]]:
    """Prints as it goes, and writes the file for machines after each row: who ends it early has the rows until then.
    The facts of the machine, and all rows."""
    name = choose_device(arguments.device or "cpu")
    settings = QUICK if arguments.quick else Settings()
    if name == "cpu" and not arguments.quick:  # where thousands of tokens take minutes
        settings = replace(settings, tokens=tuple(tokens for tokens in settings.tokens if tokens <= 512))
    given = {key: getattr(arguments, key) for key in ("tokens", "experts", "contexts", "rounds")
             if getattr(arguments, key) is not None}
    if arguments.rotate_megabytes is not None:
        given["rotate_bytes"] = arguments.rotate_megabytes << 20
    settings = replace(settings, **given)
    machine, rows = machine_facts(), list[Row]()
    runs = [(threads, precision) for threads in arguments.threads or [0] for precision in arguments.precision]
    seconds = 60 * (MINUTES if arguments.minutes is None else arguments.minutes) / len(runs)
    print(machine_list(machine), flush=True)
    for threads, precision in runs:
        device = ops.Device(name, threads=threads)
        begin = len(rows)
        for row in bench_kernels(device, precision, settings, seconds=seconds, only=arguments.kernels):
            rows.append(row)
            if arguments.json:
                write_json(arguments.json, machine, rows)
        print(f"\n{rows_table(rows[begin:])}", flush=True)
    return machine, rows


def kernels(text: str) -> list[str]:
    found = text.split(",")
    unknown = [name for name in found if name not in KERNELS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no kernel {unknown[0]!r}; there are {', '.join(KERNELS)}")
    return found
