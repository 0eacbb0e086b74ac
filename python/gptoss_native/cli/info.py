"""gptoss-native info: what was built and what is present; with --model, what a folder holds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptoss_native.checkpoint.checkpoint import open_checkpoint
from gptoss_native.checkpoint.hub import find_model
from gptoss_native.cli.options import add_model, model_path
from gptoss_native.cli.tables import Row, print_rows
from gptoss_native.config.strict_json import counted
from gptoss_native.engine.memory import available_bytes, gigabytes
from gptoss_native.engine.planning import dense_bytes
from gptoss_native.native import info

if TYPE_CHECKING:
    from argparse import _SubParsersAction


LINE = "  {:<26} {:<12} {}"


def add_command(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("info", help="what was built, what is present, and why not", description=(
        "Show the build, the instruction sets and the devices; with --model also a checkpoint, from its headers."))
    add_model(parser, "none")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    facts = info() | {"memory_available": available_bytes()}
    model = None if arguments.model is None else _model_facts(find_model(model_path(arguments.model), download=False))
    if arguments.json:
        print(json.dumps(facts if model is None else facts | {"model": model}, indent=2))
    else:
        _print_build(facts, arguments.plain)
        if model is not None:
            _print_model(model, arguments.plain)
    return 0


def _model_facts(path: Path) -> dict[str, Any]:
    checkpoint = open_checkpoint(path)
    config = checkpoint.config
    return {
        "path": str(checkpoint.path), "layout": checkpoint.layout, "expert_format": checkpoint.expert_format,
        "files": len(checkpoint.files), "tensor_bytes": checkpoint.nbytes,
        "dense_bytes": dense_bytes(checkpoint),
        "tokenizer": None if checkpoint.tokenizer_path is None else str(checkpoint.tokenizer_path),
        "eos_token_ids": list(checkpoint.eos_token_ids), "config": config.to_dict()}


def _print_build(facts: dict[str, Any], plain: bool) -> None:
    print(f"gptoss_native {facts['version']} ({facts['compiler']}, {facts['build_type']})")
    memory = facts["memory_available"]
    print(counted(facts["usable_cores"], "usable core")
          + (f", {gigabytes(memory)} of memory available" if memory else ""))
    devices = []
    for device in facts["devices"]:
        state = "not built" if not device["built"] else "present" if device["present"] else "not present"
        devices.append(Row(device["name"], state, device["detail"]))
    print_rows(devices, plain=plain, line=LINE, title="devices:")
    isas = []
    for isa in facts["cpu_isas"]:
        state = "in use" if isa["name"] == facts["cpu_isa"] else "usable" if isa["usable"] else "not usable"
        isas.append(Row(isa["name"], state, isa["reason"]))
    print_rows(isas, plain=plain, line=LINE, title="instruction sets of the cpu device, best first:")


def _print_model(model: dict[str, Any], plain: bool) -> None:
    rows = [
        Row("layout", model["layout"],
            f"{counted(model['files'], 'file')}, {gigabytes(model['tensor_bytes'])} of tensors"),
        Row("experts", model["expert_format"]),
        Row("dense", "bf16", f"{gigabytes(model['dense_bytes'])} of attention and unembedding; --dense int8 would hold "
                             f"them in {gigabytes(model['dense_bytes'] * 33 // 64)}"),
        Row("tokenizer", model["tokenizer"] or "none: this folder works with token ids"),
        Row("stop ids", ", ".join(map(str, model["eos_token_ids"])))]
    for field, value in model["config"].items():
        if field == "layer_types":
            value = f"{value.count('sliding_attention')} sliding, {value.count('full_attention')} full"
        rows.append(Row(field, str(value)))
    print_rows(rows, plain=plain, line=LINE, title=f"model: {model['path']}")
