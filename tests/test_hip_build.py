"""The HIP plug-in's build: what clang makes of the kernels for each card, which cards, and a machine without one.

ROCm is not needed: the kernels are compiled to instructions by clang of the package ziglang, and the plug-in, host side
included, with Debian's packages (clang-19, clang-tools-19, lld-19, libamdhip64-dev, rocm-device-libs).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hip_kernel_resources
import kernel_resources
from gptoss_native import _core
from hip_compiler import ARCHITECTURES, ROOT, compile_for, needs_device_libraries, needs_ziglang, version

needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None or shutil.which("ninja") is None,
                                 reason="cmake or ninja is not installed")


@needs_ziglang
@needs_device_libraries
@pytest.mark.slow
def test_registers_and_spills_are_those_listed() -> None:
    """python tests/hip_kernel_resources.py --write, where a change is meant."""
    found = hip_kernel_resources.measure()
    print(hip_kernel_resources.text_of(found))
    kernel_resources.assert_as_listed(found, version(), hip_kernel_resources.LISTED)


def test_the_list_is_whole() -> None:
    """No kernel spills, and all fit beside one another in 64 KiB of shared memory."""
    compiler, listed = kernel_resources.listed(hip_kernel_resources.LISTED)
    assert re.fullmatch(r"\d+\.\d+\.\d+", compiler)
    for architecture in ARCHITECTURES:
        rows = {kernel: row[architecture] for kernel, row in listed.items() if architecture in row}
        assert any(kernel.startswith("attn") for kernel in rows), architecture
        for kernel, (registers, shared, stack, spilled) in rows.items():
            assert 0 < registers <= 512 and shared <= 64 * 1024, (kernel, architecture)
            assert stack == spilled == 0, (kernel, architecture)


def test_host_code_asks_how_wide_a_wave_is() -> None:
    """kWarp is a constant of the card that is compiled for; the host's pass has one of its own."""
    sources = [*(ROOT / "csrc/simt").glob("*.cpp"), *(ROOT / "hip").glob("*.cpp"), *(ROOT / "csrc/simt").glob("*.h")]
    assert len(sources) > 5
    for source in sources:
        code = re.sub(r"//.*", "", source.read_text()).replace("return kWarp;", "")  # CUDA's: 32 everywhere
        assert not re.search(r"\bk(Warp|BlockThreads)\b", code), source


INSTRUCTIONS = """
#include "amdgcn/bits.cuh"
#include "amdgcn/matrix.cuh"
using namespace gptoss::amdgcn;
#define KEPT __device__ __attribute__((used))
extern "C" {
KEPT void order() { gptoss::simt::sync_warp(); }
KEPT uint32_t permute(uint32_t high, uint32_t low, uint32_t selector) { return permute_bytes(high, low, selector); }
#if defined(__gfx950__)
KEPT uint32_t pack(float x0, float x1, float x2, float x3) { return pack_fp8(x0, x1, x2, x3); }
KEPT float unpack(uint32_t word) { return unpack_fp8<2>(word); }
KEPT Float4 scaled(Float4 d, Fp4x32 a, int a_scale, Fp8x32 b, int b_scale) {
  mfma_16x16x128_fp4_fp8(d, a, a_scale, b, b_scale);
  return d;
}
#endif
#if defined(__GFX9__)
KEPT Float4 product(Float4 d, Bf16x4 a, Bf16x4 b) { return mfma_16x16x16_bf16(d, a, b), d; }
KEPT Float16 wide(Float16 d, Bf16x4 a, Bf16x4 b) { return mfma_32x32x8_bf16(d, a, b), d; }
#elif defined(__GFX11__)
KEPT Float8 product(Float8 d, Bf16x16 a, Bf16x16 b) { return wmma_16x16x16_bf16(d, a, b), d; }
#else
KEPT Float8 product(Float8 d, Bf16x8 a, Bf16x8 b) { return wmma_16x16x16_bf16_halves(d, a, b), d; }
#endif
}
"""
CALLS = {  # of a wrapper: the instruction and its operands, %0 and on the wrapper's own
    "gfx90a": [r"mfma\.f32\.16x16x16bf16\.1k\(<4 x i16> %1, <4 x i16> %2, <4 x float> %0, i32 0, i32 0, i32 0\)",
               r"mfma\.f32\.32x32x8bf16\.1k\(<4 x i16> %1, <4 x i16> %2, <16 x float> %0, i32 0, i32 0, i32 0\)"],
    "gfx1100": [r"wmma\.f32\.16x16x16\.bf16\.v8f32\.v16i16\(<16 x i16> %1, <16 x i16> %2, <8 x float> %0\)"],
    "gfx1201": [r"wmma\.f32\.16x16x16\.bf16\.v8f32\.v8i16\(<8 x i16> %1, <8 x i16> %2, <8 x float> %0\)"],
    "gfx950": [r"%(\d+) = tail call i32 @llvm\.amdgcn\.cvt\.pk\.fp8\.f32\(float %0, float %1, i32 0, i1 false\)\s*"
               r"%\d+ = tail call (?:noundef )?i32 @llvm\.amdgcn\.cvt\.pk\.fp8\.f32\(float %2, float %3, i32 %\1, i1 true\)",
               r"cvt\.f32\.fp8\(i32 %0, i32 2\)",
               r"mfma\.scale\.f32\.16x16x128\.f8f6f4\.v\di32\.v8i32\(<\d x i32> %\w+, <8 x i32> %3, <4 x float> %0, "
               r"i32 4, i32 0, i32 0, i32 %2, i32 0, i32 %4\)"],
}
CALLS["gfx942"] = CALLS["gfx90a"]
CALLS["gfx950"] += CALLS["gfx90a"]


@needs_ziglang
@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_wrapper_passes_its_operands_in_the_instructions_order(architecture: str, tmp_path: Path) -> None:
    """The emulator's twins stand for these few lines, which it never sees."""
    source = tmp_path / "instructions.hip"
    source.write_text(INSTRUCTIONS)
    code = compile_for(architecture, source, tmp_path / "instructions.ll", libraries=False, stage=("-S", "-emit-llvm"))
    for call in [r"amdgcn\.perm\(i32 %0, i32 %1, i32 %2\)", *CALLS[architecture],
                 r'fence syncscope\("wavefront"\) release\s*(?:tail )?call void @llvm\.amdgcn\.wave\.barrier\(\)\s*'
                 r'fence syncscope\("wavefront"\) acquire']:
        assert re.search(call, code), (call, code)


@needs_ziglang
@pytest.mark.slow
def test_host_and_kernels_agree_on_the_matrix_core_and_the_wave_of_every_card(tmp_path: Path) -> None:
    """Of all architectures that hip/CMakeLists.txt knows, those included that the list of registers has not."""
    [known] = re.findall(r"set\(known (.*?)\)", (ROOT / "hip/CMakeLists.txt").read_text())
    host = re.findall(r"if \((.*)\) return \"(\w+)\";", (ROOT / "hip/matrix/kernels.cpp").read_text())
    prefixes = {prefix: core for conditions, core in host for prefix in re.findall(r'is\("(\w+)"\)', conditions)}
    assert set(prefixes.values()) == {"MFMA", "WMMA"} and len(known.split()) > 8
    source = tmp_path / "core.hip"
    source.write_text('#include "matrix/core.cuh"\n#if GPTOSS_HAS_MFMA\nconst char core[] = "MFMA";\n'
                      '#elif GPTOSS_HAS_MATRIX_CORE\nconst char core[] = "WMMA";\n#endif\n')
    for architecture in known.split():
        code = compile_for(architecture, source, tmp_path / "core.i", libraries=False, stage=("-E", "-P"))
        core = [core for prefix, core in prefixes.items() if architecture.startswith(prefix)]
        assert re.findall(r'core\[\] = "(\w+)"', code) == core, architecture
        assert re.findall(r"constexpr int kWarp = (\d+)", code) == ["64" if architecture.startswith("gfx9") else "32"], architecture


def configure(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GPTOSS_")}
    result = subprocess.run(
        ["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", "-DGPTOSS_PYTHON_MODULE=OFF", "-DGPTOSS_HIP=ON", "-DGPTOSS_CUDA=OFF",
         *arguments], env=clean | (environment or {}), capture_output=True, text=True, timeout=120)  # fmt: skip
    return " ".join((result.stdout + result.stderr).split())


@pytest.fixture(scope="module")
def hip_toolchain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a configuration says; skips where the toolchain is not installed."""
    said = configure(tmp_path_factory.mktemp("hip"), "-DGPTOSS_HIP_ARCH=gfx90a")
    if "gptoss_native: hip: built with clang" not in said:
        pytest.skip("no clang for AMD's cards with HIP's headers and library: " + said.partition("GPTOSS_HIP=ON, but ")[2])
    return said


@pytest.fixture(scope="module")
def plugin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of the module under test; without, one for one card, made beside something that is called nvcc."""
    [hip] = [entry for entry in _core.info()["devices"] if entry["name"] == "hip"]
    if hip["built"]:
        return Path(_core.__file__).parent / "devices/gptoss_device_hip.so"
    request.getfixturevalue("hip_toolchain")
    folder = tmp_path_factory.mktemp("plugin")
    nvcc = folder / "bin/nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\nexit 1\n")
    nvcc.chmod(0o755)
    said = configure(folder, "-DGPTOSS_HIP_ARCH=gfx90a", f"-DCMAKE_BUILD_TYPE={_core.info()['build_type'].partition(' (')[0]}",
                     environment={"PATH": f"{nvcc.parent}:{os.environ['PATH']}"})
    assert "for gfx90a " in said, said
    result = subprocess.run(["ninja", "-C", folder, "gptoss_device_hip"], capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "devices/gptoss_device_hip.so"


@needs_cmake
@pytest.mark.slow
def test_the_plug_in_exports_its_entry_and_is_linked_with_amds_runtime_only(plugin: Path) -> None:
    symbols = subprocess.run(["nm", "-D", "--defined-only", plugin], check=True, capture_output=True, text=True).stdout
    assert [line.split()[-1] for line in symbols.splitlines()] == ["gptoss_device"]
    needed = subprocess.run(["ldd", plugin], check=True, capture_output=True, text=True).stdout
    assert "libamdhip64" in needed and "libcuda" not in needed and "not found" not in needed


@needs_cmake
@pytest.mark.slow
def test_its_kernels_are_for_amds_cards(plugin: Path) -> None:
    """Also where an nvcc was found."""
    contents = plugin.read_bytes()
    assert b"hipv4-amdgcn-amd-amdhsa--gfx90a" in contents
    assert b"nv_fatbin" not in contents and b"nvptx" not in contents


ASK = """
import sys
import gptoss_native as gptoss
from gptoss_native import _core
if not any(entry["name"] == "hip" and entry["built"] for entry in _core.info()["devices"]):
    _core.register_device("hip", sys.argv[1])
[hip] = [entry for entry in _core.info()["devices"] if entry["name"] == "hip"]
print(hip["present"], hip["detail"])
try:
    gptoss.load(device="hip")
except gptoss.DeviceError as error:
    print(error)
"""


@needs_cmake
@pytest.mark.slow
def test_a_machine_without_a_driver_says_so(plugin: Path) -> None:
    """In a process of its own, which has this plug-in alone."""
    if Path("/dev/kfd").exists():
        pytest.skip("there is a driver")
    if "(" in _core.info()["build_type"]:
        pytest.skip("the module was built with a sanitizer, and takes no plug-in without")
    result = subprocess.run([sys.executable, "-c", ASK, plugin], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    present, error = result.stdout.splitlines()[:2]
    assert present.startswith("False no AMD GPU driver (there is no /dev/kfd). Install"), result.stdout
    assert "it is not present: no AMD GPU driver" in error, result.stdout


@needs_cmake
@pytest.mark.slow
def test_architectures_are_chosen_and_refused_by_name(hip_toolchain: str, tmp_path: Path) -> None:
    assert "for gfx90a, gfx1030" in configure(tmp_path / "two", "-DGPTOSS_HIP_ARCH=gfx90a,gfx1030")
    assert "built with clang" in hip_toolchain and "for gfx90a " in hip_toolchain
    said = configure(tmp_path / "unknown", environment={"GPTOSS_HIP_ARCH": "gfx1"})
    assert "GPTOSS_HIP=ON, but" in said and "does not compile a first program for gfx1 " in said, said
    assert "Choose others with GPTOSS_HIP_ARCH" in said
    if not Path("/dev/kfd").exists():
        assert "amdgpu-arch sees no card here" in configure(tmp_path / "native", "-DGPTOSS_HIP_ARCH=native")


@needs_cmake
@pytest.mark.slow
def test_a_compiler_that_is_none_is_told_of(tmp_path: Path) -> None:
    script = tmp_path / "clang++"
    script.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "clang version 19.1.7" && exit\necho "error: no such target" >&2; exit 1\n')
    script.chmod(0o755)
    (tmp_path / "hip").mkdir()
    (tmp_path / "hip/hip_runtime.h").touch()
    found = [f"-DGPTOSS_HIP_CLANG={script}", f"-DGPTOSS_HIP_INCLUDE={tmp_path}", f"-DGPTOSS_HIP_LIBRARY={tmp_path}/libamdhip64.so"]
    said = configure(tmp_path / "build", *found)
    assert "GPTOSS_HIP=ON, but" in said
    assert "does not compile a first program for any card (for gfx90a it says: error: no such target)" in said
    said = configure(tmp_path / "without", found[0], "-DGPTOSS_HIP_INCLUDE=", "-DGPTOSS_HIP_LIBRARY=")
    assert "there is no hip/hip_runtime.h, or no libamdhip64.so" in said and "Debian: libamdhip64-dev" in said

