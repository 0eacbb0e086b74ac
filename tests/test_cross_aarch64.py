"""The kernels of every instruction set, on processors that this machine may not have.

tests/native/kernels_test.cpp is cross-built for aarch64 and run under qemu, and the build for x86-64 is run on
emulated processors without AVX and without AVX-512. An illegal instruction would end the program.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from native_build import native_build

ROOT = Path(__file__).parents[1]
X86 = platform.machine() in ("x86_64", "AMD64")

pytestmark = pytest.mark.slow


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def run(*command: str | Path, isa: str | None = None) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "GPTOSS_CPU_ISA"}
    if isa is not None:
        environment["GPTOSS_CPU_ISA"] = isa
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, f"exit status {result.returncode}\n{result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def aarch64_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("aarch64")
    configure = ["cmake", "-S", ROOT, "-B", tmp_path, "-G", "Ninja", "-DGPTOSS_PYTHON_MODULE=OFF",
                 "-DGPTOSS_NATIVE_TESTS=ON", f"-DCMAKE_TOOLCHAIN_FILE={ROOT}/cmake/aarch64-linux-gnu.cmake"]  # fmt: skip
    for command in (configure, ["ninja", "-C", tmp_path, "kernels_test"]):
        result = subprocess.run(command, capture_output=True, text=True, timeout=900)
        assert result.returncode == 0, result.stdout + result.stderr
    return tmp_path / "kernels_test"


@needs("cmake", "ninja", "aarch64-linux-gnu-g++", "qemu-aarch64")
@pytest.mark.parametrize(("processor", "isa"), [("max", "neon_bf16"), ("cortex-a72", "neon")])
def test_an_emulated_aarch64_picks_what_it_has_and_its_kernels_are_right(
    aarch64_program: Path, processor: str, isa: str
) -> None:
    output = run("qemu-aarch64", "-cpu", processor, "-L", "/usr/aarch64-linux-gnu", aarch64_program).splitlines()
    assert f"chosen: {isa}" in output and f"testing: {isa}, 4 lanes" in output
    assert ("skipped: neon_bf16: this processor, or the system, does not have it" in output) == (isa == "neon")


@pytest.fixture(scope="module")
def x86_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return native_build(tmp_path_factory).folder / "kernels_test"


@pytest.mark.skipif(not X86, reason="not an x86-64 machine")
@needs("cmake", "ninja", "qemu-x86_64")
@pytest.mark.parametrize(("processor", "isa"), [("Nehalem", "baseline"), ("Haswell", "avx2")])
def test_an_older_x86_picks_what_it_has_and_runs_it(x86_program: Path, processor: str, isa: str) -> None:
    output = run("qemu-x86_64", "-cpu", processor, x86_program)
    assert f"chosen: {isa}" in output.splitlines()


@pytest.mark.skipif(not X86, reason="not an x86-64 machine")
@needs("cmake", "ninja", "nm")
def test_isa_files_leave_nothing_for_the_linker_to_pick(x86_program: Path) -> None:
    """An inline function compiled with AVX-512 flags could be the copy that the linker keeps for all callers."""
    objects = sorted(x86_program.parent.rglob("kernels_*.cpp.o"))
    isa_objects = [path for path in objects if "kernels_test" not in path.name]
    assert len(isa_objects) >= 3
    for path in isa_objects:
        symbols = subprocess.run(["nm", "--defined-only", path], check=True, capture_output=True, text=True)
        shared = [line for line in symbols.stdout.splitlines() if line.split()[-2] in "WVu"]
        assert shared == [], path.name
