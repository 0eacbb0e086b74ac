"""Which files make up a checkpoint: the folder with the weights, its shards, what lies beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gptoss_native.checkpoint.safetensors_map import MappedFile, map_file
from gptoss_native.config.strict_json import read_object, shown
from gptoss_native.errors import CheckpointError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_NUMBERED = re.compile(r"model--(\d{5})-of-(\d{5})\.safetensors")


@dataclass(frozen=True)
class WeightFiles:
    """Safetensors files by name, and where there is an index, the file of each tensor."""

    folder: Path
    names: list[str]
    index: dict[str, str] | None


def find_weights(path: Path) -> WeightFiles:
    """Look in `path`, or in `path`/original where only that holds weights.

    Several files need an index, except those of original/, whose names say how many there are.
    """
    listing = _listing(path)
    if not _has_weights(listing) and "original" in listing:
        path = path / "original"
        listing = _listing(path)
    if INDEX in listing:
        index = parse_index(read_object(path / INDEX), listing, str(path / INDEX))
        return WeightFiles(path, sorted(set(index.values())), index)
    names = sorted(name for name in listing if name.endswith(".safetensors"))
    if not names:
        hint = " (in a cache of the Hugging Face hub, one under snapshots/)" if "snapshots" in listing else ""
        raise CheckpointError(f"{path}: no .safetensors file; give the folder of a gpt-oss checkpoint{hint}.")
    if SINGLE in names:
        return WeightFiles(path, [SINGLE], None)
    counts = [int(match[2]) for name in names if (match := _NUMBERED.fullmatch(name))]
    if counts:
        names = [f"model--{i:05d}-of-{counts[-1]:05d}.safetensors" for i in range(1, counts[-1] + 1)]
        for name in names:
            if name not in listing:
                raise CheckpointError(f"{path}: {name} is missing; finish the download.")
    elif len(names) > 1:
        raise CheckpointError(f"{path}: {len(names)} .safetensors files, but no {INDEX} that says what is in "
                              "which; download it too.")
    return WeightFiles(path, names, None)


def parse_index(data: Mapping[str, object], listing: set[str], source: str) -> dict[str, str]:
    """The weight_map of an index, tensor -> file name; `listing`: the names in its folder."""
    weight_map = data.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{source}: weight_map should map tensors to files: {shown(weight_map)}.")
    for tensor, file in weight_map.items():
        if not isinstance(file, str) or not file.endswith(".safetensors"):
            trouble = "; the name of a .safetensors file is expected"
        elif "/" in file or "\\" in file:
            trouble = "; a file of the same folder is expected, not a path"
        elif file not in listing:
            trouble = ", which is not in the folder; finish the download"
        else:
            continue
        raise CheckpointError(f"{source}: tensor {shown(tensor)} should be in {shown(file)}{trouble}.")
    return weight_map


def map_tensors(weights: WeightFiles) -> dict[str, MappedFile]:
    """Tensor name -> the mapped file that holds it. Index and files have to agree exactly."""
    tensors: dict[str, MappedFile] = {}
    index = weights.index
    for file_name in weights.names:
        file = map_file(weights.folder / file_name)
        for name in file.entries:
            if name in tensors:
                raise CheckpointError(f"{file.path}: tensor {shown(name)} is expected once, but is in "
                                      f"{tensors[name].path} too.")
            if index is not None and index.get(name) != file_name:
                place = f"places it in {shown(index[name])}" if name in index else "does not list it"
                raise CheckpointError(f"{file.path}: holds tensor {shown(name)}, but {INDEX} {place}.")
            tensors[name] = file
    for name, file_name in (index or {}).items():
        if name not in tensors:
            raise CheckpointError(f"{weights.folder / file_name}: {INDEX} places tensor {shown(name)} here, "
                                  "but the file does not hold it.")
    return tensors


def side_file(folder: Path, name: str) -> Path | None:
    """A file beside the weights or, for original/, in the folder above."""
    places = [folder, folder.parent] if folder.name == "original" else [folder]
    return next((place / name for place in places if os.path.exists(place / name)), None)


def _listing(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in folder.iterdir()}
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: no such folder; give that of a gpt-oss checkpoint.") from None
    except NotADirectoryError:
        raise CheckpointError(f"{folder}: a file; give the folder that holds it and config.json.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"{folder}: cannot be listed ({reason}).") from None


def _has_weights(listing: set[str]) -> bool:
    return INDEX in listing or any(name.endswith(".safetensors") for name in listing)
