"""safetensors files as read-only maps: a header parser that trusts nothing, arrays that copy nothing.

Format: https://huggingface.co/docs/safetensors - 8 bytes little-endian header length, a JSON object
{name: {dtype, shape, data_offsets}}, then the data, which the tensors cover without gap or overlap.
"""

from __future__ import annotations

import errno
import mmap
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gptoss_native.config.strict_json import MAX_BYTES, counted, parse_object, shown
from gptoss_native.errors import CheckpointError, OutOfMemory

_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "U16": 2, "I16": 2, "F16": 2,
    "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}
_NUMPY: dict[str, np.dtype[Any]] = {"U8": np.dtype(np.uint8), "BF16": np.dtype("<u2")}
_LARGEST = 2**63 - 1
_MAX_AXES = 16


@dataclass(frozen=True)
class Entry:
    """One tensor of a header. `begin` and `end` are byte offsets from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class MappedFile:
    """A safetensors file and its map, which lives as long as any array made from it."""

    path: Path
    entries: dict[str, Entry]
    data: npt.NDArray[np.uint8] = field(repr=False)

    def array(self, name: str) -> npt.NDArray[Any]:
        """A read-only view of a U8 or BF16 tensor, the latter as uint16; a copy only from an odd address."""
        entry = self.entries[name]
        dtype = _NUMPY[entry.dtype]
        view = self.data[entry.begin:entry.end]
        if entry.begin % dtype.itemsize:
            view = view.copy()
            view.flags.writeable = False
        return view.view(dtype).reshape(entry.shape)


def map_file(path: Path) -> MappedFile:
    """Map a safetensors file and check its header; nothing else of it is read.

    Renaming another file over it leaves the map as it is; writing into it changes the arrays, and shortening
    it ends the process with SIGBUS when they are read. CheckpointError names file and tensor.
    """
    data = _map(path)
    length = header_length(data[:64].tobytes(), len(data), str(path))
    return MappedFile(path, parse_header(data[8:8 + length].tobytes(), len(data), str(path)), data)


def _map(path: Path) -> npt.NDArray[np.uint8]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for a writer
            raise CheckpointError(f"{path}: a safetensors file is expected, but it is not a regular file.")
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size < 8:
                raise CheckpointError(f"{path}: {size} bytes are too few for a safetensors file; "
                                      "download it again.")
            return np.frombuffer(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ), dtype=np.uint8)
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise OutOfMemory(f"{path}: no room in the address space to map its {status.st_size:,} bytes; "
                              "raise the limit (ulimit -v).") from None
        raise CheckpointError(f"{path}: cannot be opened ({error.strerror or error}).") from None


def header_length(start: bytes, file_bytes: int, source: str) -> int:
    """Bytes of the JSON header, from the first bytes of a file (8 are needed)."""
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{source}: a Git LFS pointer instead of the file itself; run `git lfs pull`.")
    length = int.from_bytes(start[:8], "little")
    most = min(file_bytes - 8, MAX_BYTES)
    if length > most:
        raise CheckpointError(f"{source}: a header of at most {most:,} bytes is expected, but it should have "
                              f"{length:,}; the file is truncated, damaged or not safetensors.")
    return length


def parse_header(header: bytes, file_bytes: int, source: str) -> dict[str, Entry]:
    """The tensors of a header, which together fill a file of `file_bytes`, in order of their data."""
    if header[:1] in (b" ", b"\t", b"\n", b"\r"):
        raise CheckpointError(f"{source}: the header should begin with '{{', but begins with {header[:1]!r}; "
                              "download the file again.")
    parsed = parse_object(header, f"{source}: header")
    metadata = parsed.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{source}: __metadata__ should map strings to strings: {shown(metadata)}.")
    base = 8 + len(header)
    entries = {name: _entry(value, base, f"{source}: tensor {shown(name)}") for name, value in parsed.items()}
    promised = max((entry.end for entry in entries.values()), default=base)
    if promised > file_bytes:
        raise CheckpointError(f"{source}: {promised:,} bytes are promised by the header, but the file has "
                              f"{file_bytes:,}; it is truncated or damaged, download it again.")
    ordered = sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end))
    position = base
    for name, entry in ordered:
        if entry.begin != position:
            trouble = "overlap the tensor before" if entry.begin < position else "leave a gap"
            raise CheckpointError(f"{source}: data_offsets of tensor {shown(name)} should begin at "
                                  f"{position - base}, but begin at {entry.begin - base} and {trouble}.")
        position = entry.end
    if position != file_bytes:
        raise CheckpointError(f"{source}: the file should end with its last tensor, but "
                              f"{counted(file_bytes - position, 'more byte')} "
                              f"{'follows' if file_bytes - position == 1 else 'follow'}; download it again.")
    return dict(ordered)


def _entry(value: object, base: int, where: str) -> Entry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{where} should have dtype, shape and data_offsets, but has {shown(value)}.")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise CheckpointError(f"{where}: dtype should be BF16 or U8, but is {shown(dtype)}.")
    if not _are_sizes(shape) or len(shape) > _MAX_AXES:
        raise CheckpointError(f"{where}: shape should be a list of sizes, but is {shown(shape)}.")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{where}: data_offsets should be [begin, end], but are {shown(offsets)}.")
    size = _ITEM_BYTES[dtype]
    for length in shape:
        size *= length
        if size > _LARGEST:
            raise CheckpointError(f"{where}: shape {shown(shape)} is larger than any file.")
    if size != offsets[1] - offsets[0]:
        raise CheckpointError(f"{where}: {dtype} of shape {shown(shape)} takes {size:,} bytes, but "
                              f"data_offsets {offsets} hold {offsets[1] - offsets[0]:,}.")
    return Entry(dtype, tuple(shape), base + offsets[0], base + offsets[1])


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= _LARGEST for item in value)
