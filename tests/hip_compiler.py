"""A compiler for AMD's cards where there is no ROCm: clang of the package ziglang, a stand-in for ROCm's header, and the
device libraries (Debian: rocm-device-libs), which are bitcode that any later clang reads.

Kernels become instructions, with what the compiler says of their registers; nothing is linked for a card and nothing runs.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAND_IN = ROOT / "tests/emulator/compilers/stand_in"
ARCHITECTURES = {"gfx90a": 9010, "gfx942": 9402, "gfx950": 9500, "gfx1100": 11000, "gfx1201": 12001}
"""And how the device libraries number them."""

needs_ziglang = pytest.mark.skipif(find_spec("ziglang") is None,
                                   reason="not installed: ziglang, for a clang with the AMDGPU target")


def device_libraries() -> Path | None:
    """The folder with ocml.bc."""
    places = [Path(os.environ.get("ROCM_PATH", "/opt/rocm")) / "amdgcn/bitcode",
              Path(f"/usr/lib/{platform.machine()}-linux-gnu/amdgcn/bitcode")]
    return next((place for place in places if (place / "ocml.bc").exists()), None)


needs_device_libraries = pytest.mark.skipif(device_libraries() is None,
                                            reason="not installed: ocml.bc, of Debian's rocm-device-libs or of ROCm")


def zig_clang(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ziglang", "clang", *arguments], capture_output=True, text=True, timeout=600)


def version() -> str:
    return zig_clang("--version").stdout.split("version ")[1].split()[0]


def choices(architecture: str, folder: Path) -> Path:
    """The constants that ROCm's driver gives the device libraries: exact arithmetic, denormals kept, and the card.

    As files of their own they exist for the cards of one release only; each is a single number.
    """
    wave_of_64 = not architecture.startswith(("gfx11", "gfx12"))
    values = {"finite_only_opt": ("i8", 0), "unsafe_math_opt": ("i8", 0), "daz_opt": ("i8", 0),
              "correctly_rounded_sqrt32": ("i8", 1), "wavefrontsize64": ("i8", int(wave_of_64)),
              "ISA_version": ("i32", ARCHITECTURES[architecture]), "ABI_version": ("i32", 500)}
    text = 'target triple = "amdgcn-amd-amdhsa"\n' + "".join(
        f"@__oclc_{name} = linkonce_odr protected local_unnamed_addr addrspace(4) constant {kind} {value}\n"
        for name, (kind, value) in values.items())
    source, bitcode = folder / f"choices_{architecture}.ll", folder / f"choices_{architecture}.bc"
    source.write_text(text)
    result = zig_clang("-target", "amdgcn-amd-amdhsa", "-nogpulib", "-x", "ir", "-c", "-emit-llvm", source, "-o", bitcode)
    assert result.returncode == 0, result.stderr
    return bitcode


def compile_for(architecture: str, source: Path, output: Path, *include: Path, libraries: bool = True,
                stage: tuple[str, ...] = ("-S",)) -> str:
    """The assembly, or what `stage` asks for. As hip/CMakeLists.txt does, but for the header and the libraries."""
    import ziglang

    bitcode: list[str | Path] = []
    folder = device_libraries()
    if libraries:
        assert folder is not None
        for library in (folder / "ocml.bc", folder / "ockl.bc", choices(architecture, output.parent)):
            bitcode += ["-Xclang", "-mlink-builtin-bitcode", "-Xclang", library]
    includes = [f"-I{path}" for path in (STAND_IN, ROOT / "csrc", ROOT / "hip", *include)]
    result = zig_clang(
        "-target", f"{platform.machine()}-linux-gnu", "-resource-dir", Path(ziglang.__file__).parent / "lib", "-O3", "-std=c++20",
        "-x", "hip", "-include", "hip/hip_runtime.h", "--offload-device-only", *stage, f"--offload-arch={architecture}", "-nogpulib",
        "-nogpuinc", "-fms-extensions", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-unused-command-line-argument",
        *includes, *bitcode, "-o", output, source)  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return output.read_text()
