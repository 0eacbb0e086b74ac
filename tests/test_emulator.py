"""The GPU emulator of tests/emulator: its programs here, with AddressSanitizer, and on aarch64 under qemu.

And that what it runs is what the vendors' compilers compile: the same kernels through nvcc and clang, and for each
wrapper of an instruction a twin with the same arguments.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator_build import build, emulator_folder
from hip_compiler import compile_for, needs_ziglang

ROOT = Path(__file__).parents[1]
EMULATOR = ROOT / "tests/emulator"
PROGRAMS = ["simt_test", "tensor_core_test", "hopper_test", "host_test", "instruction_test", "wave64_test", "wave32_test",
            "mma_product_test", "mma_few_test", "mma_attention_test", "wgmma_product_test", "wgmma_attention_test",
            *(f"{core}_{kernel}_test" for core in ("mfma", "wmma", "wmma_gfx12") for kernel in ("product", "attention"))]
BACKENDS = {"gpu_backend_test": 2, "gpu_backend_wave64_test": 1, "gpu_backend_wave32_test": 1}
"""And how many seeds they run with."""

pytestmark = pytest.mark.slow


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=900)


def passed(result: subprocess.CompletedProcess[str]) -> tuple[int, int]:
    """How many clean runs and planted faults there were."""
    assert result.returncode == 0, result.stdout + result.stderr
    summary = re.search(r"(\d+) clean runs, (\d+) planted faults caught, 0 checks FAILED", result.stdout)
    assert summary, result.stdout
    return int(summary[1]), int(summary[2])


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield build(emulator_folder(tmp_path_factory), *PROGRAMS)


@pytest.fixture(scope="module")
def caught() -> dict[str, int]:
    """The planted faults that each program caught, filled as they run."""
    return {}


@needs("cmake", "ninja", "c++", "addr2line")
@pytest.mark.parametrize("name", PROGRAMS)
def test_clean_kernels_are_silent_and_planted_faults_are_caught(programs: Path, caught: dict[str, int], name: str) -> None:
    clean, caught[name] = passed(run(programs / name))
    assert clean > 0 and caught[name] > 0


@needs("cmake", "ctest", "ninja", "c++")
def test_no_program_is_forgotten(programs: Path) -> None:
    """Of those that CMake knows: the backend's run below, Metal's in test_metal.py."""
    listed = run("ctest", "--test-dir", programs, "--show-only")
    known = set(re.findall(r"Test +#\d+: (\w+)", listed.stdout))
    assert known - {"metal_twins_test"} == {*PROGRAMS, *BACKENDS}, listed.stdout


@needs("cmake", "ninja", "c++", "addr2line")
def test_the_list_of_planted_faults_is_long(programs: Path, caught: dict[str, int]) -> None:
    for name in PROGRAMS:
        if name not in caught:  # where this test was asked for alone
            caught[name] = passed(run(programs / name))[1]
    assert sum(caught.values()) >= 230


@needs("cmake", "ninja", "c++")
@pytest.mark.parametrize(("name", "seeds"), BACKENDS.items())
def test_the_gpu_backend_against_the_cpu(programs: Path, name: str, seeds: int) -> None:
    """Eager steps, captured and replayed ones, with CUDA's headers and with HIP's and waves of 64 and of 32."""
    build(programs, name)
    result = run(programs / name, GPTOSS_EMULATOR_SEEDS=str(seeds))
    assert result.returncode == 0 and "passed" in result.stdout, result.stdout + result.stderr


@needs("cmake", "ninja", "c++")
def test_the_same_seed_makes_the_same_report(programs: Path) -> None:
    outputs = {run("setarch", "-R", programs / "tensor_core_test").stdout for _ in range(2)}
    assert len(outputs) == 1


@needs("cmake", "ninja", "c++")
def test_with_address_sanitizer(tmp_path: Path) -> None:
    """Where kernels have AddressSanitizer's checks instead of the emulator's: it knows the same bounds."""
    build(tmp_path, "simt_test", GPTOSS_SANITIZE="address", CMAKE_BUILD_TYPE="RelWithDebInfo")
    passed(run(tmp_path / "simt_test", GPTOSS_EMULATOR_SEEDS="3"))
    for case, line in (("reduce: one element too far", "reduce.cuh:"), ("transpose: a bound forgotten", "transpose.cuh:"),
                       ("reduce: memory that was freed", "reduce.cuh:")):
        result = run(tmp_path / "simt_test", "--only", case)
        assert result.returncode != 0
        assert "AddressSanitizer: use-after-poison" in result.stderr and line in result.stderr, result.stderr


@needs("cmake", "ninja", "aarch64-linux-gnu-g++", "qemu-aarch64")
def test_on_an_emulated_aarch64(tmp_path: Path) -> None:
    names = ["hopper_test", "wave64_test"]
    build(tmp_path, *names, CMAKE_TOOLCHAIN_FILE=str(ROOT / "cmake/aarch64-linux-gnu.cmake"))
    for name in names:
        passed(run("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", tmp_path / name, GPTOSS_EMULATOR_SEEDS="3"))


@needs("nvcc")
@pytest.mark.parametrize(("source", "architecture"), [("kernels_sm80.cu", "80"), ("kernels_sm80.cu", "90a"), ("kernels_sm90a.cu", "90a"),
                                                      ("kernels_sm120a.cu", "120a")])
def test_nvcc_compiles_the_same_kernels(source: str, architecture: str, tmp_path: Path) -> None:
    result = run("nvcc", "-std=c++20", "-Werror", "all-warnings", "-gencode",
                 f"arch=compute_{architecture},code=sm_{architecture}", "-I", ROOT / "csrc", "-I", ROOT / "cuda", "-I",
                 EMULATOR, "-c", EMULATOR / "compilers" / source, "-o", tmp_path / "kernels.o")
    assert result.returncode == 0, result.stdout + result.stderr


@needs("nvcc")
@pytest.mark.parametrize(("source", "architecture"), [("csrc/simt/stages.cpp", "80"), ("cuda/mma/kernels.cpp", "80"),
                                                     ("cuda/wgmma/kernels.cpp", "80"), ("cuda/wgmma/kernels.cpp", "90a")])
def test_nvcc_compiles_the_kernels_of_the_device(source: str, architecture: str, tmp_path: Path) -> None:
    result = run("nvcc", "-std=c++20", "-Werror", "all-warnings", "--fmad=false", "-gencode",
                 f"arch=compute_{architecture},code=sm_{architecture}", "-x", "cu", "-I", ROOT / "csrc", "-I", ROOT / "cuda", "-c", ROOT / source, "-o", tmp_path / "kernels.o")
    assert result.returncode == 0, result.stdout + result.stderr


@needs_ziglang
@pytest.mark.parametrize(("device", "instructions"), [
    ("gfx90a", ["v_mfma_f32_16x16x16", "v_mfma_f32_32x32x8"]), ("gfx942", ["v_mfma_f32_16x16x16", "v_mfma_f32_32x32x8"]),
    ("gfx950", ["v_mfma_f32_16x16x16", "v_mfma_f32_32x32x8"]), ("gfx1100", ["v_wmma_f32_16x16x16_bf16"]), ("gfx1201", [])])
def test_clang_compiles_the_same_kernels(device: str, instructions: list[str], tmp_path: Path) -> None:
    assembly = compile_for(device, EMULATOR / "compilers/kernels.hip", tmp_path / "kernels.s", EMULATOR, libraries=False)
    assert "reduce_rows" in assembly
    for instruction in instructions:
        assert instruction in assembly


def signatures(path: Path, marker: str) -> dict[str, list[str]]:
    """The functions of a header, and their parameters without the emulator's hidden one."""
    text = re.sub(r"//.*", "", path.read_text())
    found: dict[str, list[str]] = {}
    for name, parameters in re.findall(marker + r"\s*(?:void|bool|float|u\w+) (\w+)\(((?:[^()]|\([^()]*\))*)\)\s*[;{]", text):
        found.setdefault(name, []).append(", ".join(
            part.strip() for part in parameters.split(",") if part.strip() and not part.strip().startswith("Site ")))
    return found


@pytest.mark.parametrize(("wrappers", "twins", "marker"), [
    *((path, EMULATOR / "cuda/emulated" / path.name, "GPTOSS_PTX") for path in sorted((ROOT / "cuda/ptx").glob("*.cuh"))),
    *((path, EMULATOR / "hip/emulated" / path.name, "GPTOSS_AMDGCN") for path in sorted((ROOT / "hip/amdgcn").glob("*.cuh")))], ids=lambda value: getattr(value, "name", ""))
def test_every_instruction_has_a_twin(wrappers: Path, twins: Path, marker: str) -> None:
    real, emulated = signatures(wrappers, marker), signatures(twins, r"")
    real.pop("product", None)  # of struct Wgmma: not an instruction of its own
    if wrappers.name == "wgmma.cuh":
        real.pop("wgmma_descriptor_128b")  # shared by both
    assert real
    for name, parameters in real.items():
        assert set(parameters) <= set(emulated.get(name, [])), name
