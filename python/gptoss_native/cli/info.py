"""gptoss-native info: what was built and what is present; with --model, what a folder holds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptoss_native.checkpoint.checkpoint import open_checkpoint
from gptoss_native.cli.options import folder
from gptoss_native.config.strict_json import counted
from gptoss_native.engine.memory import available_bytes, gigabytes
from gptoss_native.engine.native import info

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_command(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("info", help="what was built, what is present, and why not", description=(
        "Show the build, the instruction sets and the devices; with --model also a checkpoint, from its headers."))
    parser.add_argument("--model", type=folder, metavar="DIR", help="folder of a gpt-oss checkpoint")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    facts = info() | {"memory_available": available_bytes()}
    model = None if arguments.model is None else _model_facts(Path(arguments.model))
    if arguments.json:
        print(json.dumps(facts if model is None else facts | {"model": model}, indent=2))
    else:
        _print_build(facts)
        if model is not None:
            _print_model(model)
    return 0


def _model_facts(path: Path) -> dict[str, Any]:
    checkpoint = open_checkpoint(path)
    config = checkpoint.config
    return {
        "path": str(checkpoint.path), "layout": checkpoint.layout, "expert_format": checkpoint.expert_format,
        "files": len(checkpoint.files), "tensor_bytes": checkpoint.nbytes,
        "tokenizer": None if checkpoint.tokenizer_path is None else str(checkpoint.tokenizer_path),
        "eos_token_ids": list(checkpoint.eos_token_ids), "config": config.to_dict()}


def _print_build(facts: dict[str, Any]) -> None:
    print(f"gptoss_native {facts['version']} ({facts['compiler']}, {facts['build_type']})")
    memory = facts["memory_available"]
    print(counted(facts["usable_cores"], "usable core")
          + (f", {gigabytes(memory)} of memory available" if memory else ""))
    print("devices:")
    for device in facts["devices"]:
        state = "not built" if not device["built"] else "present" if device["present"] else "not present"
        _print_row(device["name"], state, device["detail"])
    print("instruction sets of the cpu device, best first:")
    for isa in facts["cpu_isas"]:
        state = "in use" if isa["name"] == facts["cpu_isa"] else "usable" if isa["usable"] else "not usable"
        _print_row(isa["name"], state, isa["reason"])


def _print_model(model: dict[str, Any]) -> None:
    print(f"model: {model['path']}")
    _print_row("layout", model["layout"],
               f"{counted(model['files'], 'file')}, {gigabytes(model['tensor_bytes'])} of tensors")
    _print_row("experts", model["expert_format"], "")
    _print_row("tokenizer", model["tokenizer"] or "none: this folder works with token ids", "")
    _print_row("stop ids", ", ".join(map(str, model["eos_token_ids"])), "")
    for field, value in model["config"].items():
        if field == "layer_types":
            value = f"{value.count('sliding_attention')} sliding, {value.count('full_attention')} full"
        _print_row(field, str(value), "")


def _print_row(name: str, value: str, detail: str) -> None:
    print(f"  {name:<26} {value:<12} {detail}".rstrip())
