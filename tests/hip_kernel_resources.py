"""Registers, shared memory and spills of every kernel of the HIP device: python tests/hip_kernel_resources.py

As kernel_resources.py for CUDA, from what clang writes beside the instructions. Registers are vector registers of a lane,
accumulation registers included; stack bytes a lane's scratch memory; spilled counts vector registers (scalar ones spill
into lanes of vector registers).
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

import hip_compiler
from kernel_resources import Table, plain_name, write

LISTED = Path(__file__).parent / "hip_kernel_resources.txt"
SOURCES = [hip_compiler.ROOT / "csrc/simt/stages.cpp", hip_compiler.ROOT / "hip/matrix/kernels.cpp"]


def measure() -> Table:
    """Compiled for every architecture in turn."""
    table: Table = {}
    with tempfile.TemporaryDirectory() as folder:
        for architecture in hip_compiler.ARCHITECTURES:
            for source in SOURCES:
                assembly = hip_compiler.compile_for(architecture, source, Path(folder) / f"{source.stem}.s")
                read(assembly, architecture, table)
                if source.parent.name == "matrix":
                    instruction = "v_mfma_f32_16x16x16" if architecture.startswith("gfx9") else "v_wmma_f32_16x16x16_bf16"
                    assert instruction in assembly and "v_perm_b32" in assembly, architecture
                    assert ("v_mfma_scale_f32_16x16x128_f8f6f4" in assembly) == (architecture == "gfx950"), architecture
    return table


def read(assembly: str, architecture: str, table: Table) -> None:
    """Adds the cells of all kernels."""
    [notes] = re.findall(r"\.amdgpu_metadata\n(.*)\.end_amdgpu_metadata", assembly, re.DOTALL)
    for kernel in re.split(r"^  - (?=\.)", notes, flags=re.MULTILINE)[1:]:
        number = {key: int(value) for key, value in re.findall(r"^\s*\.(\w+):\s+(\d+)$", kernel, re.MULTILINE)}
        name = re.search(r"^\s*\.name:\s+(\w+)$", kernel, re.MULTILINE)
        assert name, kernel
        if plain_name(name[1]) == "linear":  # four waves, as kernels count their lanes and as the card has them
            assert number["max_flat_workgroup_size"] == 4 * number["wavefront_size"], architecture
        table.setdefault(plain_name(name[1]), {})[architecture] = (
            number["vgpr_count"], number["group_segment_fixed_size"], number["private_segment_fixed_size"],
            number["vgpr_spill_count"])


def text_of(table: Table) -> str:
    return write(table, hip_compiler.version(), "clang", tuple(hip_compiler.ARCHITECTURES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    text = text_of(measure())
    print(text, end="")
    if arguments.write:
        LISTED.write_text(text)


if __name__ == "__main__":
    main()
