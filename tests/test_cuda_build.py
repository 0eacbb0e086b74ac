"""The CUDA plug-in's build: what the compiler makes of the kernels, which architectures, and a machine without a driver."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import kernel_resources
from gptoss_native import _core
from kernel_resources import ARCHITECTURES, REGISTER_DRIFT
from native_build import ROOT

NVCC = kernel_resources.find_nvcc()
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")


@needs_nvcc
@pytest.mark.slow
def test_registers_and_spills_are_those_listed() -> None:
    """python tests/kernel_resources.py --write, where a change is meant."""
    assert NVCC is not None
    version, listed = kernel_resources.listed()
    found = kernel_resources.measure(NVCC)
    print(kernel_resources.write(found, kernel_resources.nvcc_version(NVCC)))
    assert found.keys() == listed.keys()
    if kernel_resources.nvcc_version(NVCC) == version:
        assert found == listed
        return
    for kernel, row in listed.items():
        for architecture, (registers, shared, _, spilled) in row.items():
            now = found[kernel][architecture]
            where = f"{kernel}, {architecture}: {now}, listed {row[architecture]} by nvcc {version}"
            assert now[0] <= registers + REGISTER_DRIFT, where
            assert now[1] == shared, where
            assert now[3] == 0 or spilled > 0, where


def test_the_list_is_whole() -> None:
    version, listed = kernel_resources.listed()
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    for kernel, row in listed.items():
        assert tuple(row) == ARCHITECTURES, kernel
        for architecture, (registers, shared, _, _) in row.items():
            assert 0 < registers <= 255 and shared <= 48 * 1024, (kernel, architecture)
    assert any(kernel.startswith("attn") for kernel in listed)


def configure(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GPTOSS_")}
    result = subprocess.run(
        ["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", "-DGPTOSS_PYTHON_MODULE=OFF", "-DGPTOSS_CUDA=ON", *arguments],
        env=clean | (environment or {}), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return " ".join((result.stdout + result.stderr).split())


needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None or shutil.which("ninja") is None,
                                 reason="cmake or ninja is not installed")


@needs_nvcc
@needs_cmake
@pytest.mark.slow
def test_the_architectures_may_be_chosen(tmp_path: Path) -> None:
    def codes(name: str, *arguments: str, environment: dict[str, str] | None = None) -> list[str]:
        said = configure(tmp_path / name, *arguments, environment=environment)
        assert "gptoss_native: cuda: built with nvcc" in said, said
        [flags] = [line for line in (tmp_path / name / "build.ninja").read_text().split("build ")
                   if "gptoss_device_cuda.dir" in line.split(":")[0] and "stages.cpp" in line.split(":")[0]]
        return sorted(set(re.findall(r",code=\[?([\w,]+)\]?", flags)))

    default = codes("default")
    assert default == sorted(["compute_75,sm_75", *ARCHITECTURES[1:]]), "machine code for the list, and PTX for later cards"
    assert codes("defined", "-DGPTOSS_CUDA_ARCH=90a-real,80-real") == ["sm_80", "sm_90a"]
    assert codes("by_environment", environment={"GPTOSS_CUDA_ARCH": "90a-real"}) == ["sm_90a"]


@needs_cmake
@pytest.mark.slow
def test_a_compiler_that_compiles_nothing_is_told_of(tmp_path: Path) -> None:
    script = tmp_path / "nvcc"
    script.write_text('#!/bin/sh\necho "Cuda compilation tools, release 13.0, V13.0.88"\n')
    script.chmod(0o755)
    said = configure(tmp_path / "build", f"-DGPTOSS_NVCC={script}")
    assert "GPTOSS_CUDA=ON, but" in said
    assert "has no libcudart_static.a beside it" in said
    assert "set GPTOSS_CUDA=OFF" in said


def test_a_machine_without_a_driver_says_so() -> None:
    [cuda] = [entry for entry in _core.info()["devices"] if entry["name"] == "cuda"]
    if not cuda["built"]:
        pytest.skip(f"cuda: {cuda['detail']}")
    if cuda["present"] or Path("/dev/nvidiactl").exists():
        pytest.skip("there is a card, or a driver")
    assert cuda["detail"].startswith("no NVIDIA driver. Install one for CUDA ")
