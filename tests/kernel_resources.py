"""Registers, shared memory and spills of every GPU kernel, for every architecture: python tests/kernel_resources.py

Prints the table that ptxas gives for the files of SOURCES; --write puts it into kernel_resources.txt, which
test_cuda_build.py compares with. A cell is registers/static shared bytes/stack bytes/spilled bytes of a thread.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
LISTED = Path(__file__).parent / "kernel_resources.txt"
SOURCES = ("csrc/simt/stages.cpp", "cuda/mma/kernels.cpp", "cuda/tcgen05/kernels.cpp", "cuda/wgmma/kernels.cpp")
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a")
REGISTER_DRIFT = 8
"""What another release of the compiler may change: registers are allotted in eights."""

Cell = tuple[int, int, int, int]
Table = dict[str, dict[str, Cell]]
"""Kernel, architecture: registers, static shared memory, stack, spilled bytes."""


def find_nvcc() -> str | None:
    folders = [f"{os.environ[name]}/bin" for name in ("CUDA_HOME", "CUDA_PATH") if name in os.environ]
    return shutil.which("nvcc", path=os.pathsep.join([*folders, os.environ["PATH"], "/usr/local/cuda/bin"]))


def nvcc_version(nvcc: str) -> str:
    text = subprocess.run([nvcc, "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"V([\d.]+)", text)
    assert found, text
    return found[1]


def compile_kernels(nvcc: str, source: str, architectures: Sequence[str], output: Path) -> str:
    """Compiled as cuda/CMakeLists.txt does. What ptxas says."""
    codes = [f"-gencode=arch=compute_{name[3:]},code={name}" for name in architectures]
    result = subprocess.run(
        [nvcc, "-x", "cu", "-std=c++20", "-O3", "--fmad=false", f"-I{ROOT}/csrc", f"-I{ROOT}/cuda", *codes, "--threads=0",
         "-Xptxas=-v", "-fatbin", f"{ROOT}/{source}", "-o", str(output)],
        capture_output=True, text=True, timeout=900)  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def measure(nvcc: str) -> Table:
    table: Table = {}
    with tempfile.TemporaryDirectory() as folder:
        for source in SOURCES:
            table |= read(compile_kernels(nvcc, source, ARCHITECTURES, Path(folder) / "kernels.fatbin"))
    return table


def read(text: str) -> Table:
    """What ptxas -v says of every kernel; lines of device functions that were not inlined are passed over."""
    table: Table = {}
    entry = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
    kernel, stack, spilled = None, 0, 0
    for line in text.splitlines():
        if found := entry.search(line):
            kernel = found.groups()
        elif found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            stack, spilled = int(found[1]), int(found[2]) + int(found[3])
        elif kernel and (found := re.search(r"Used (\d+) registers", line)):
            shared = re.search(r"(\d+) bytes smem", line)
            cell = (int(found[1]), int(shared[1]) if shared else 0, stack, spilled)
            table.setdefault(plain_name(kernel[0]), {})[kernel[1]] = cell
            kernel = None
    return table


def plain_name(mangled: str) -> str:
    """attn<float> for _ZN6gptoss4simt4attnIfEEvNS_13AttentionArgsE"""
    text = subprocess.run(["c++filt", mangled], check=True, capture_output=True, text=True).stdout
    return re.sub(r"^void |gptoss::(simt|cuda::tcgen05|cuda::wgmma|cuda|hip)::|\(.*\n", "", text).strip()


def write(table: Table, version: str, compiler: str = "nvcc", architectures: Sequence[str] = ARCHITECTURES) -> str:
    """A kernel need not be there for every architecture."""
    lines = [f"# {compiler} {version}; registers/static shared bytes/stack bytes/spilled bytes"]
    width = max(map(len, table))
    lines.append(" ".join(["kernel".ljust(width), *(f"{name:>12}" for name in architectures)]))
    for kernel in sorted(table):
        cells = ["/".join(map(str, table[kernel].get(name, "-"))) for name in architectures]
        lines.append(" ".join([kernel.ljust(width), *(f"{cell:>12}" for cell in cells)]))
    return "\n".join(lines) + "\n"


def listed(path: Path = LISTED) -> tuple[str, Table]:
    """The compiler's version and the table that was committed."""
    first, header, *rows = path.read_text().splitlines()
    names = header.split()[1:]
    table: Table = {}
    for row in rows:
        kernel, *cells = row.rsplit(maxsplit=len(names))
        table[kernel] = {name: _cell(cell) for name, cell in zip(names, cells, strict=True) if cell != "-"}
    return first.split()[2].rstrip(";"), table


def _cell(text: str) -> Cell:
    registers, shared, stack, spilled = map(int, text.split("/"))
    return registers, shared, stack, spilled


def assert_as_listed(found: Table, version: str, path: Path) -> None:
    """The very same from the compiler of the list; from another one no more registers than it may add, and no new spills."""
    listed_version, table = listed(path)
    assert {kernel: row.keys() for kernel, row in found.items()} == {kernel: row.keys() for kernel, row in table.items()}
    if version == listed_version:
        assert found == table
        return
    for kernel, row in table.items():
        for architecture, (registers, shared, _, spilled) in row.items():
            now = found[kernel][architecture]
            where = f"{kernel}, {architecture}: {now}, listed {row[architecture]} by {listed_version}"
            assert now[0] <= registers + REGISTER_DRIFT, where
            assert now[1] == shared, where
            assert now[3] == 0 or spilled > 0, where


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    nvcc = find_nvcc()
    if nvcc is None:
        parser.error("no nvcc was found; put it on PATH, or set CUDA_HOME")
    text = write(measure(nvcc), nvcc_version(nvcc))
    print(text, end="")
    if arguments.write:
        LISTED.write_text(text)


if __name__ == "__main__":
    main()
