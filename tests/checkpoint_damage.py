"""Seeded damage to checkpoint files, for the suite and for the fuzz target."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

ODD_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 1.5, -0.0, 1e300, float("nan"), float("inf"), 2**31, 2**63, 10**40, "", "x",
    "4", "\ud800", "a\0b", "../model.safetensors", "/etc/passwd", "C:\\x.safetensors", "BF16", "F32", [], {},
    [[]], [0, 0], [-1, 5], [2**62, 2**62], [True, True], {"a": {}},
]


def mutate_json(rng: random.Random, value: Any) -> Any:
    """The value with one node of it replaced, removed, renamed, repeated or exchanged."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.05:
        nearby = [value + 1, value - 1, value * 2] if type(value) is int else []
        return rng.choice(nearby) if nearby and rng.random() < 0.5 else rng.choice(ODD_VALUES)
    if isinstance(value, list):
        changed = list(value)
        at = rng.randrange(len(changed))
        action = rng.randrange(4)
        if action == 0:
            changed[at] = mutate_json(rng, changed[at])
        elif action == 1:
            del changed[at]
        elif action == 2:
            changed.insert(at, changed[at])
        else:
            rng.shuffle(changed)
        return changed
    changed_dict = dict(value)
    key = rng.choice(list(changed_dict))
    action = rng.randrange(6)
    if action <= 2:
        changed_dict[key] = mutate_json(rng, changed_dict[key])
    elif action == 3:
        del changed_dict[key]
    elif action == 4:
        changed_dict[rng.choice([key + "x", "", "__metadata__", "\ud800"])] = changed_dict.pop(key)
    else:
        changed_dict[key] = changed_dict[rng.choice(list(changed_dict))]
    return changed_dict


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """The bytes with a few of them changed, or a piece cut out, put in, repeated or cut off."""
    if not data:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(16)))
    changed = bytearray(data)
    # Half of the damage goes where it matters most: lengths and JSON stand at the beginning.
    end = len(data) if rng.random() < 0.5 else min(len(data), 4096)
    begin = rng.randrange(end)
    length = rng.choice([1, 2, 8, rng.randrange(1, 200)])
    action = rng.randrange(5)
    if action == 0:
        for _ in range(rng.choice([1, 1, 1, 8])):
            changed[rng.randrange(end)] ^= 1 << rng.randrange(8)
    elif action == 1:
        changed[begin:begin + length] = bytes(rng.randrange(256) for _ in range(length))[:len(data) - begin]
    elif action == 2:
        del changed[begin:begin + length]
    elif action == 3:
        changed[begin:begin] = data[begin:begin + length]
    else:
        del changed[rng.randrange(len(data)):]
    return bytes(changed)


def mutate_header(rng: random.Random, data: bytes) -> bytes:
    """A safetensors file with one thing wrong inside the JSON of its header, lengths fitting."""
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(mutate_json(rng, json.loads(data[8:8 + length])), separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + length:]


def mutate_inside(rng: random.Random, data: bytes, header: bool) -> bytes:
    """Change the JSON of a file, or its bytes where that is broken already."""
    try:
        return mutate_header(rng, data) if header else json.dumps(mutate_json(rng, json.loads(data))).encode()
    except (ValueError, RecursionError):
        return mutate_bytes(rng, data)


def damage_folder(rng: random.Random, folder: Path) -> str:
    """Do one thing to one file below `folder`; what was done comes back, for the test's report."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        return "nothing left"
    path = rng.choice(files)
    action = rng.choice(["bytes", "bytes", "inside", "inside", "inside", "remove", "folder", "exchange", "link"])
    if action == "inside":
        path.write_bytes(mutate_inside(rng, path.read_bytes(), header=path.suffix == ".safetensors"))
    elif action == "bytes":
        path.write_bytes(mutate_bytes(rng, path.read_bytes()))
    elif action == "exchange":
        shutil.copyfile(path, spare := folder / "spare")
        shutil.move(rng.choice(files), path)
        shutil.move(spare, rng.choice(files))
    else:
        path.unlink()
        if action == "folder":
            path.mkdir()
        elif action == "link":
            path.symlink_to(rng.choice(["nowhere", str(path), "/dev/null", str(folder)]))
    return f"{action} {path.name}"
