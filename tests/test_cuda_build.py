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
from kernel_resources import ARCHITECTURES
from native_build import ROOT

NVCC = kernel_resources.find_nvcc()
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")


@needs_nvcc
@pytest.mark.slow
def test_registers_and_spills_are_those_listed() -> None:
    """python tests/kernel_resources.py --write, where a change is meant."""
    assert NVCC is not None
    version, found = kernel_resources.nvcc_version(NVCC), kernel_resources.measure(NVCC)
    print(kernel_resources.write(found, version))
    kernel_resources.assert_as_listed(found, version, kernel_resources.LISTED)


SASS = {
    "cuda/mma/kernels.cpp": {
        "mma_product": ["HMMA.16816.F32.BF16", "LDGSTS.E.BYPASS.128", "HMUL2.BF16|HFMA2.BF16"],
        "attn_decode": ["HMMA.16816.F32.BF16", "LDGSTS.E.BYPASS.128", "LDSM.16.MT88.4", "MOVM.16.MT88"],
        "attn_prefill": ["HMMA.16816.F32.BF16", "LDGSTS.E.BYPASS.128", "LDSM.16.MT88.4", "MOVM.16.MT88"],
    },
    "cuda/wgmma/kernels.cpp": {
        "wgmma_product": ["HGMMA.64x128x16.F32.BF16", "HGMMA.64x64x16.F32.BF16", "UBLKCP", "UTMALDG.2D|LDGSTS.E.BYPASS.128", "USETMAXREG",
                          "HMUL2.BF16|HFMA2.BF16"],
        "wgmma_attn_prefill": ["HGMMA.64x64x16.F32.BF16", ".tnspB", "UTMALDG.2D", "USETMAXREG", "F2FP.BF16.F32.PACK_AB", "MUFU.EX2"],
    },
}
BLOCK_SCALED = {
    "mma_product<Scaled": ["QMMA.SF.16832.F32.E2M1.E4M3.E8", "LDGSTS.E.BYPASS.128"],
    "quantize_mxfp8": ["F2FP.SATFINITE.E4M3.F32.PACK_AB_MERGE_C"],
}
"""What kernels are meant to be made of: their products, their copies, and what feeds them."""


def disassembled(source: str, architecture: str, output: Path) -> dict[str, str]:
    """Kernel, what it is made of."""
    assert NVCC is not None
    disassembler = Path(NVCC).resolve().parent / "cuobjdump"
    found = shutil.which("cuobjdump") or (str(disassembler) if disassembler.exists() else None)
    if found is None:
        pytest.skip("cuobjdump is not installed")
    if shutil.which("nvdisasm") is None and not (Path(found).parent / "nvdisasm").exists():
        pytest.skip("nvdisasm, which cuobjdump calls, is not installed")
    said = kernel_resources.compile_kernels(NVCC, source, [architecture], output)
    assert "serialized" not in said, said  # what ptxas says of a wgmma that it has to wait for
    text = subprocess.run([found, "-sass", output], check=True, capture_output=True, text=True).stdout
    return {kernel_resources.plain_name(name): body for name, body in
            re.findall(r"Function : (\w+)\n(.*?)(?=Function :|\Z)", text, re.DOTALL)}


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize(("source", "architecture"), [("cuda/mma/kernels.cpp", "sm_80"), ("cuda/mma/kernels.cpp", "sm_90a"),
                                                      ("cuda/mma/kernels.cpp", "sm_120a"), ("cuda/wgmma/kernels.cpp", "sm_90a")])
def test_kernels_are_made_of_the_instructions_that_were_meant(source: str, architecture: str, tmp_path: Path) -> None:
    functions = disassembled(source, architecture, tmp_path / "kernels.fatbin")
    scaled = {name for name in functions if name.startswith(tuple(BLOCK_SCALED))}
    assert bool(scaled) == (source == "cuda/mma/kernels.cpp")
    for kernel, instructions in (SASS[source] | (BLOCK_SCALED if architecture == "sm_120a" else {})).items():
        bodies = {name: body for name, body in functions.items()
                  if name.startswith(kernel) and (name in scaled) == (kernel in BLOCK_SCALED)}
        assert bodies, kernel
        for name, body in bodies.items():
            assert not re.search(r"\b(LDL|STL)\b", body), f"{name} keeps something in local memory"
            if architecture != "sm_80":
                assert "ACQBULK" in body, f"{name} does not wait for its predecessors"
            for instruction in instructions:
                if "HMUL2" in instruction and "Mxfp4" not in name:
                    continue
                assert any(one in body for one in instruction.split("|")), f"{instruction} in {name}"


@needs_nvcc
@pytest.mark.slow
def test_weights_are_made_while_tensor_cores_multiply(tmp_path: Path) -> None:
    """All 32 exponentials of a thread lie between the wait for a page's scores and that for the products of the page before,
    behind four products each: ptxas would put some behind the second wait."""
    functions = disassembled("cuda/wgmma/kernels.cpp", "sm_90a", tmp_path / "kernels.fatbin")
    [body] = [body for name, body in functions.items() if name.startswith("wgmma_attn_prefill")]
    lines = [line.split("*/")[1] for line in body.splitlines() if re.match(r"\s+/\*[0-9a-f]{4,}\*/", line)]
    [first] = [i for i, line in enumerate(lines) if "WARPGROUP.DEPBAR.LE gsb0, 0x1" in line]
    start = max(i for i, line in enumerate(lines[:first]) if "WARPGROUP.ARRIVE" in line)
    second = next(i for i, line in enumerate(lines[first:], first) if "WARPGROUP.DEPBAR.LE gsb0, 0x0" in line)
    products = [line for line in lines[start:first] if "HGMMA" in line]
    assert len(products) == 8 and all(".tnspB" in line and re.search(r"F32.BF16 R\d+, R\d+, gdesc", line) for line in products), products
    assert sum("MUFU.EX2" in line for line in lines[first:second]) >= 32


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
