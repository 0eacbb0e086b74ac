"""Fuzz target: safetensors headers, indexes and configs. Nothing but CheckpointError may come out.

    pip install atheris && python tests/fuzz_checkpoint.py -max_total_time=600 -max_len=20000 CORPUS_FOLDER
    python tests/fuzz_checkpoint.py --random 100000 --seed 1      without atheris: mutations of valid files

Valid inputs are put into the corpus folder first; options with one dash are libFuzzer's. The first byte of an input
chooses what the rest is. Whatever header is accepted has to make sense, and the safetensors package has to read it.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors

from checkpoint_damage import mutate_bytes, mutate_inside
from checkpoint_layouts import original_tensors, write_safetensors
from gptoss_native.checkpoint.files import parse_index
from gptoss_native.checkpoint.safetensors_map import header_length, parse_header
from gptoss_native.config.config import Config
from gptoss_native.config.strict_json import parse_object
from gptoss_native.errors import CheckpointError
from make_checkpoint import hf_config, make_tensors, original_config, rope_parameters

LISTING = {"model-00000-of-00001.safetensors", "model-00001-of-00001.safetensors", "config.json"}


def check_file(data: bytes) -> None:
    if len(data) < 8:
        return
    length = header_length(data[:64], len(data), "file")
    entries = parse_header(data[8:8 + length], len(data), "file")
    position = 8 + length
    for entry in entries.values():
        assert entry.begin == position <= entry.end
        position = entry.end
    assert position == len(data)
    read = dict(safetensors.deserialize(data))  # type: ignore[no-untyped-call]
    assert set(read) == set(entries)
    for name, entry in entries.items():
        assert tuple(read[name]["shape"]) == entry.shape
        assert bytes(read[name]["data"]) == data[entry.begin:entry.end]


def check_index(data: bytes) -> None:
    index = parse_index(parse_object(data, "index"), LISTING, "index")
    assert index and set(index.values()) <= LISTING


def check_config(data: bytes) -> None:
    parsed = parse_object(data, "config.json")
    for read in (Config.from_hf, Config.from_original):
        try:
            config = read(parsed, "config.json")
        except CheckpointError:
            continue
        assert len(config.layer_types) == config.num_hidden_layers
        assert config.num_attention_heads % config.num_key_value_heads == 0
        json.dumps(config.to_dict(), allow_nan=False)


CHECKS: list[Callable[[bytes], None]] = [check_file, check_index, check_config]


def check(data: bytes) -> None:
    try:
        CHECKS[data[0] % len(CHECKS) if data else 0](data[1:])
    except CheckpointError as error:
        str(error).encode()  # a message that cannot be printed would be another crash


def seeds() -> list[bytes]:
    """Valid inputs to start from."""
    config = hf_config(num_hidden_layers=1, hidden_size=32, intermediate_size=32, num_local_experts=1, vocab_size=2,
                       num_experts_per_tok=1, num_attention_heads=1, num_key_value_heads=1, head_dim=16)
    tensors = make_tensors(config)
    some = {name: tensors[name] for name in list(tensors)[:6]}
    files = []
    for part in (some, original_tensors(tensors), {"x": np.zeros((2, 0, 3), np.uint8)}):
        file = io.BytesIO()
        write_safetensors(file, part, metadata={"format": "np"} if part is some else None)
        files.append(file.getvalue())
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(some, "model-00001-of-00001.safetensors")}
    configs = [config, rope_parameters(config), original_config(config)]
    return [*(b"\0" + file for file in files), b"\1" + json.dumps(index).encode(),
            *(b"\2" + json.dumps(data).encode() for data in configs)]


def mutate(rng: random.Random, data: bytes) -> bytes:
    """Another input of the same kind, its bytes changed or a node of its JSON."""
    kind, body = data[:1], data[1:]
    changed = mutate_bytes(rng, body) if rng.random() < 0.4 else mutate_inside(rng, body, header=kind == b"\0")
    return kind + changed


def run_random(count: int, seed: int) -> None:
    """Check `count` mutations of the seeds; the same seed gives the same inputs."""
    rng = random.Random(seed)
    valid = seeds()
    for data in valid:
        CHECKS[data[0]](data[1:])
    for _ in range(count):
        data = rng.choice(valid)
        for _ in range(rng.choice([1, 1, 2, 4])):
            data = mutate(rng, data)
        try:
            check(data)
        except Exception:
            print(f"input: {data!r}", file=sys.stderr)
            raise


def run_atheris() -> None:
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    for i, data in enumerate(seeds()):
        if folders:
            folders[0].mkdir(parents=True, exist_ok=True)
            (folders[0] / f"valid-{i}").write_bytes(data)

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        changed = mutate(rng, data) if rng.random() < 0.5 else atheris.Mutate(data, len(data))
        return bytes(changed[:max_size])

    atheris.instrument_all()
    atheris.Setup(sys.argv, check, custom_mutator=mutator)
    atheris.Fuzz()


def main() -> None:
    if "--random" not in sys.argv:
        run_atheris()
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, metavar="COUNT", required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run_random(arguments.random, arguments.seed)
    print(f"{arguments.random} inputs, nothing but CheckpointError")


if __name__ == "__main__":
    main()
