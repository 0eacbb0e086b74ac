"""The HIP plug-in's build: what clang makes of the kernels for each card, which cards, and a machine without one.

ROCm is not needed: the kernels are compiled to instructions by clang of the package ziglang, and the plug-in, host side
included, with Debian's packages (clang-19, clang-tools-19, lld-19, libamdhip64-dev, rocm-device-libs).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import gptoss_native as gptoss
import hip_kernel_resources
import kernel_resources
from gptoss_native import _core
from hip_compiler import ARCHITECTURES, ROOT, needs_device_libraries, needs_ziglang, version

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


@needs_cmake
@pytest.mark.slow
def test_beside_an_nvcc_it_builds_for_amd(hip_toolchain: str, tmp_path: Path) -> None:
    nvcc = tmp_path / "bin/nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\nexit 1\n")
    nvcc.chmod(0o755)
    said = configure(tmp_path / "build", "-DGPTOSS_HIP_ARCH=gfx90a", environment={"PATH": f"{nvcc.parent}:{os.environ['PATH']}"})
    assert "for gfx90a " in said, said
    [stages] = re.findall(r"COMMAND = .*/csrc/simt/stages\.cpp .*", (tmp_path / "build/build.ninja").read_text())
    assert "clang++" in stages and "--offload-arch=gfx90a" in stages


def built_plugin() -> Path:
    [hip] = [entry for entry in _core.info()["devices"] if entry["name"] == "hip"]
    if not hip["built"]:
        pytest.skip(f"hip: {hip['detail']}")
    return Path(_core.__file__).parent / "devices/gptoss_device_hip.so"


def test_the_plug_in_exports_its_entry_and_is_linked_with_amds_runtime_only() -> None:
    plugin = built_plugin()
    symbols = subprocess.run(["nm", "-D", "--defined-only", plugin], check=True, capture_output=True, text=True).stdout
    assert [line.split()[-1] for line in symbols.splitlines()] == ["gptoss_device"]
    needed = subprocess.run(["ldd", plugin], check=True, capture_output=True, text=True).stdout
    assert "libamdhip64" in needed and "libcuda" not in needed and "not found" not in needed


def test_a_machine_without_a_driver_says_so() -> None:
    built_plugin()
    [hip] = [entry for entry in _core.info()["devices"] if entry["name"] == "hip"]
    if hip["present"] or Path("/dev/kfd").exists():
        pytest.skip("there is a card, or a driver")
    assert hip["detail"].startswith("no AMD GPU driver (there is no /dev/kfd). Install")
    with pytest.raises(gptoss.DeviceError, match="it is not present: no AMD GPU driver"):
        gptoss.load(device="hip")


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

