"""gptoss-native plan: what a model would take of this machine's memory."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from gptoss_native.cli.options import add_engine_options, engine_options, model_path
from gptoss_native.cli.tables import Row, print_rows
from gptoss_native.engine.memory import gigabytes
from gptoss_native.engine.planning import Plan, plan

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_command(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("plan", help="how much memory a model would take", description=(
        "Say how much memory a model would take, by class, from its config and headers; nothing is loaded. Exit "
        "status 1 where it does not fit."))
    add_engine_options(parser)
    parser.add_argument("--json", action="store_true", help="the same as JSON, in bytes")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    planned = plan(model_path(arguments.model), **engine_options(arguments))
    if arguments.json:
        print(json.dumps(planned.as_dict(), indent=2))
    else:
        _print(planned, arguments.plain)
    return 0 if planned.fits else 1


def _print(planned: Plan, plain: bool) -> None:
    options = planned.options
    copied = "" if options.device.partition(":")[0] == "cpu" else "in the device's memory"
    tokens = f"{options.max_sequences} sequences of {options.max_context} tokens"
    if options.max_total_tokens is not None:
        tokens = f"{options.max_total_tokens} tokens of all sequences"
    rows = [
        ("weights, mapped", planned.weights_mapped, "stay in the files, shared, given up when room is needed"),
        ("weights, copied", planned.weights_copied,
         "attention and unembedding in 8 bits" if options.dense == "int8" else copied),
        ("KV cache, full", planned.kv_full, f"{options.kv_dtype}, {tokens}"),
        ("KV cache, window", planned.kv_window, f"sliding layers, and {options.max_checkpoints} checkpoints"),
        ("activations", planned.activations, f"of {options.token_budget} tokens"),
        ("logits", planned.logits, f"of {options.max_outputs} rows"),
        ("to be allocated", planned.total, "all but the mapped weights"),
    ]
    if planned.available is not None:
        rows.append(("available", planned.available, _verdict(planned, planned.available)))
    print_rows([Row(name, gigabytes(count), note) for name, count, note in rows], plain=plain, right=(1,),
               line="  {:<18} {:>12}   {}", title=f"{planned.path} on {options.device}, precision {options.precision}, "
                                                      f"dense {options.dense}")
    largest = planned.largest_context
    print(f"largest --max-context that would fit: {largest}" if largest else "no --max-context would fit")


def _verdict(planned: Plan, available: int) -> str:
    if not planned.fits:
        return "not enough"
    keeps_weights = planned.total + planned.weights_mapped <= available
    return "enough" if keeps_weights else "enough, but weights would be read from the files again and again"
