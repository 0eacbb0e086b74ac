"""The CMake build: optional devices, the ABI hash of plug-ins, and what a plug-in exports.

Each test configures a copy of the sources in which the optional device folders are as the test wants them, so the
cases stay true when a device gets its sources.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NO_TOOLCHAINS = ("-DGPTOSS_NVCC=", "-DGPTOSS_HIP_CLANG=", "-DGPTOSS_METAL_FRAMEWORK=")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed"),
    pytest.mark.skipif(shutil.which("ninja") is None, reason="ninja is not installed"),
]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    tree = tmp_path / "sources"
    for folder in ("csrc", "cmake"):
        shutil.copytree(ROOT / folder, tree / folder)
    shutil.copy(ROOT / "CMakeLists.txt", tree)
    package = tree / "python/gptoss_native"
    package.mkdir(parents=True)
    shutil.copy(ROOT / "python/gptoss_native/__init__.py", package)
    return tree


def configure(
    sources: Path, *arguments: str, environment: dict[str, str] | None = None, build: str = "build"
) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GPTOSS_")}
    return subprocess.run(
        ["cmake", "-S", sources, "-B", sources.parent / build, "-G", "Ninja", "-DGPTOSS_PYTHON_MODULE=OFF",
         *NO_TOOLCHAINS, *arguments],
        env=clean | (environment or {}), capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def said(result: subprocess.CompletedProcess[str]) -> str:
    """What CMake printed, its line breaks undone: it wraps messages to the terminal."""
    return " ".join((result.stdout + result.stderr).split())


def build_info(sources: Path, build: str = "build") -> str:
    return (sources.parent / build / "generated/build_info.h").read_text()


def fake_nvcc(folder: Path) -> str:
    script = folder / "nvcc"
    script.write_text('#!/bin/sh\necho "Cuda compilation tools, release 13.0, V13.0.88"\n')
    script.chmod(0o755)
    return f"-DGPTOSS_NVCC={script}"


@pytest.mark.parametrize(
    ("device", "remedy"),
    [
        ("CUDA", "Install the CUDA toolkit"),
        ("HIP", "Install ROCm"),
        ("METAL", "Metal needs macOS"),
    ],
)
@pytest.mark.parametrize("has_sources", [False, True])
def test_on_without_a_toolchain_fails_with_the_remedy(
    sources: Path, device: str, remedy: str, has_sources: bool
) -> None:
    if has_sources:
        (sources / device.lower()).mkdir()
        (sources / device.lower() / "CMakeLists.txt").touch()
    result = configure(sources, f"-DGPTOSS_{device}=ON")
    assert result.returncode != 0
    assert f"GPTOSS_{device}=ON, but" in said(result)
    assert remedy in said(result)
    assert f"set GPTOSS_{device}=OFF" in said(result)


def test_on_with_a_toolchain_but_without_sources_says_so(sources: Path) -> None:
    result = configure(sources, "-DGPTOSS_CUDA=ON", fake_nvcc(sources))
    assert result.returncode != 0
    assert "no cuda sources yet (the toolchain is here: nvcc 13.0.88)" in said(result)


def test_auto_says_what_it_left_out_and_why(sources: Path) -> None:
    result = configure(sources, fake_nvcc(sources))
    assert result.returncode == 0, said(result)
    facts = build_info(sources)
    for device, reason in [
        ("cuda", "the toolchain is here: nvcc 13.0.88"),
        ("hip", "no clang++ was found"),
        ("metal", "no Metal.framework was found"),
    ]:
        pattern = rf'{{"{device}", false, "left out by GPTOSS_{device.upper()}=AUTO: .*{re.escape(reason)}.*"}},'
        assert re.search(pattern, facts)
        assert f"gptoss_native: {device}: left out by" in said(result)


def test_off_is_off_even_where_the_toolchain_and_the_sources_are(sources: Path) -> None:
    (sources / "cuda").mkdir()
    (sources / "cuda/CMakeLists.txt").write_text('message(FATAL_ERROR "entered")\n')
    result = configure(sources, "-DGPTOSS_CUDA=OFF", fake_nvcc(sources))
    assert result.returncode == 0, said(result)
    assert '{"cuda", false, "left out: built with GPTOSS_CUDA=OFF"}' in build_info(sources)


def test_the_environment_chooses_and_a_define_beats_it(sources: Path) -> None:
    environment = {"GPTOSS_CUDA": "ON", "GPTOSS_HIP": "OFF"}
    assert "GPTOSS_CUDA=ON, but" in said(configure(sources, environment=environment))
    result = configure(sources, "-DGPTOSS_CUDA=AUTO", environment=environment)
    assert result.returncode == 0, said(result)
    assert "left out by GPTOSS_CUDA=AUTO" in build_info(sources)
    assert "built with GPTOSS_HIP=OFF" in build_info(sources)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("-DGPTOSS_HIP=maybe", 'GPTOSS_HIP is "maybe"; expected AUTO, ON or OFF.'),
        ("-DGPTOSS_SANITIZE=memory", 'GPTOSS_SANITIZE is "memory"; expected address, thread or nothing.'),
    ],
)
def test_a_value_that_does_not_exist_is_refused(sources: Path, argument: str, message: str) -> None:
    result = configure(sources, argument)
    assert result.returncode != 0
    assert message in said(result)


def test_a_device_with_sources_and_a_toolchain_is_built_and_exports_its_entry_only(sources: Path) -> None:
    (sources / "cuda").mkdir()
    (sources / "cuda/CMakeLists.txt").write_text("gptoss_add_device(cuda device.cpp)\n")
    # The map brings templates of the standard library, which hidden visibility alone would leave exported.
    (sources / "cuda/device.cpp").write_text(
        "#include <map>\n#include <string>\n"
        "std::map<std::string, int> shared;\n"
        'extern "C" __attribute__((visibility("default"))) int gptoss_test_entry() {\n'
        '  return shared["a"];\n}\n'
    )
    for engine_file in (sources / "csrc").rglob("*.cpp"):
        engine_file.write_text("")  # compiling the engine is not what is tested here, and takes long
    result = configure(sources, fake_nvcc(sources))
    assert result.returncode == 0, said(result)
    assert '{"cuda", true, "built with nvcc 13.0.88"}' in build_info(sources)

    build = sources.parent / "build"
    subprocess.run(["ninja", "-C", build, "gptoss_device_cuda"], check=True)
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", build / "devices/gptoss_device_cuda.so"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert [line.split()[-1] for line in symbols.stdout.splitlines()] == ["gptoss_test_entry"]


def abi_hash(sources: Path, *arguments: str) -> str:
    result = configure(sources, *arguments)
    assert result.returncode == 0, said(result)
    found = re.search(r"kAbiHash = (0x[0-9a-f]{16})ull", build_info(sources))
    assert found
    return found[1]


def test_the_abi_hash_follows_the_shared_headers_and_the_build_type(sources: Path) -> None:
    first = abi_hash(sources)
    assert abi_hash(sources) == first

    private = sources / "csrc/forward.cpp"
    private.write_text(private.read_text() + "// changed\n")
    assert abi_hash(sources) == first

    seen = {first}
    for header in ("backend.h", "model.h", "tensor.h", "sampling.h"):
        path = sources / "csrc" / header
        path.write_text(path.read_text() + "// changed\n")
        seen.add(abi_hash(sources))
    seen.add(abi_hash(sources, "-DCMAKE_BUILD_TYPE=Debug"))
    seen.add(abi_hash(sources, "-DGPTOSS_SANITIZE=address"))
    assert len(seen) == 7

    # A header that a shared one includes counts too.
    (sources / "csrc/new.h").write_text("#pragma once\n")
    tensor = sources / "csrc/tensor.h"
    tensor.write_text('#include "new.h"\n' + tensor.read_text())
    seen.add(abi_hash(sources))
    (sources / "csrc/new.h").write_text("#pragma once\n// changed\n")
    seen.add(abi_hash(sources))
    assert len(seen) == 9
