"""Whether the tensors of a checkpoint are those that its config speaks of, and hold numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from gptoss_native.checkpoint.safetensors_map import MappedFile
from gptoss_native.checkpoint.tensor_names import Expected, Layout, layer_count
from gptoss_native.config.config import Config
from gptoss_native.config.strict_json import counted, shown
from gptoss_native.errors import CheckpointError

Tensors = Mapping[str, MappedFile]
"""Tensor name -> the file that holds it."""


def check_layers(config: Config, config_path: Path, layout: Layout, names: set[str]) -> None:
    """Apart from check_names, because a whole layer too many is better said in one number."""
    layers = layer_count(layout, names)
    if layers != config.num_hidden_layers:
        example = min((name for name in names if f".{layers - 1}." in name), default=None)
        last = "" if example is None else f" (the last has {shown(example)})"
        raise CheckpointError(f"{config_path}: num_hidden_layers is {config.num_hidden_layers}, but the "
                              f"files hold {layers} layers{last}.")


def check_names(expected: Mapping[str, Expected], config_path: Path, tensors: Tensors) -> None:
    missing = sorted(set(expected) - set(tensors))
    extra = sorted(set(tensors) - set(expected))
    if missing:
        are = "is" if len(extra) == 1 else "are"
        unknown = f"; {_few(extra)} {are} not known" if extra else ""
        raise CheckpointError(f"{config_path.parent}: of {counted(len(expected), 'tensor')} {len(missing)} "
                              f"{'is' if len(missing) == 1 else 'are'} missing: {_few(missing)}{unknown}.")
    if extra:
        raise CheckpointError(f"{tensors[extra[0]].path}: a gpt-oss model of this config does not have "
                              f"{_few(extra)}; remove what does not take part in the forward pass.")


def check_shapes(expected: Mapping[str, Expected], config_path: Path, tensors: Tensors) -> None:
    for name, want in expected.items():
        file = tensors[name]
        found = file.entries[name]
        if found.dtype != want.dtype:
            raise CheckpointError(f"{file.path}: tensor {name} should be {want.dtype}, but is {found.dtype}.")
        if found.shape != want.shape:
            axes = ", ".join(f"{label} = {size}" for label, size in zip(want.labels, want.shape, strict=True))
            raise CheckpointError(f"{file.path}: tensor {name} should have shape {list(want.shape)} by "
                                  f"{config_path} ({axes}), but has {shown(list(found.shape))}.")


def check_values(expected: Mapping[str, Expected], tensors: Tensors) -> None:
    """Look at every scale (4 % of an MXFP4 checkpoint) and at the small tensors. Bound by memory or disk."""
    names = [name for name, want in expected.items() if want.scan]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for error in pool.map(lambda name: _wrong_value(tensors[name], name), names):
            if error is not None:
                raise error


def _wrong_value(file: MappedFile, name: str) -> CheckpointError | None:
    values = file.array(name)
    if values.dtype == np.uint8:
        if values.max() < 255:
            return None
        at = np.argwhere(values == 255)[0].tolist()
        return CheckpointError(f"{file.path}: tensor {name} should hold E8M0 scales from 0 to 254, but has "
                               f"255, which is not a number, at {at}.")
    special = (values & 0x7F80) == 0x7F80
    if not special.any():
        return None
    at = np.argwhere(special)[0].tolist()
    kind = "a NaN" if values[tuple(at)] & 0x7F else "an infinity"
    return CheckpointError(f"{file.path}: tensor {name} should hold finite numbers, but has {kind} at {at}.")


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(shown(name) for name in names[:3]) + more
