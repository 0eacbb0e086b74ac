"""The Metal device over a fake of Metal's runtime, as a device of the module under test: built and registered once.

It needs metal-cpp, Apple's headers, and a Clang, which alone knows the blocks in them. The headers are those of
GPTOSS_METAL_CPP, of an installed mlx-metal, or of its wheel for macOS from PyPI, which is fetched once for a machine.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from emulator_build import build, build_plugin, emulator_folder
from gptoss_native import _core
from native_build import ROOT

WHEEL = "mlx-metal==0.32.4"
_registered: list[Path] = []


def metal_cpp() -> Path:
    """The folder that holds Metal/Metal.hpp; skips where there is none and none can be fetched."""
    given = os.environ.get("GPTOSS_METAL_CPP")
    for folder in [Path(given)] if given else [Path(sysconfig.get_path("purelib")) / "mlx/include/metal_cpp", _fetched()]:
        if (folder / "Metal/Metal.hpp").exists():
            return folder
    pytest.skip("not here: metal-cpp (Metal/Metal.hpp); set GPTOSS_METAL_CPP to its folder")


def _fetched() -> Path:
    folder = Path(tempfile.gettempdir()) / f"gptoss-{WHEEL.replace('==', '-')}"
    headers = folder / "mlx/include/metal_cpp"
    if headers.exists():
        return headers
    with tempfile.TemporaryDirectory() as download:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "--platform",
                   "macosx_14_0_arm64", "--dest", download, WHEEL]
        if subprocess.run(command, capture_output=True, timeout=300).returncode != 0:
            return headers
        unpacked = Path(tempfile.mkdtemp(dir=folder.parent))
        for wheel in Path(download).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(unpacked, [name for name in archive.namelist() if "/metal_cpp/" in name])
        if not folder.exists():
            unpacked.rename(folder)
    return headers


def clang() -> list[str] | None:
    """The command of a Clang, or None."""
    for name in ("clang++", *(f"clang++-{version}" for version in range(21, 13, -1))):
        if path := shutil.which(name):
            return [path]
    zig = find_spec("ziglang")
    if zig is None or zig.origin is None:
        return None
    return [sys.executable, "-m", "ziglang", "clang", "--driver-mode=g++", f"--target={platform.machine()}-linux-gnu",
            "-idirafter", str(Path(zig.origin).parent / "lib/include")]


def needs_clang() -> list[str]:
    command = clang()
    if command is None:
        pytest.skip("not installed: clang++, or the package ziglang")
    return command


def _settings(folder: Path) -> dict[str, str]:
    """Kernels and runtime are those of a copy of metal/, `folder`/program, in which tests plant faults."""
    if not (folder / "program").exists():
        shutil.copytree(ROOT / "metal", folder / "program")
    return {"GPTOSS_METAL_PROGRAM": str(folder / "program")}


def _host_settings(folder: Path) -> dict[str, str]:
    """And metal-cpp, and what compiles it."""
    return {"GPTOSS_EMULATED_METAL": str(metal_cpp()), "GPTOSS_CLANG": ";".join(needs_clang())} | _settings(folder)


def register_emulated_metal(factory: pytest.TempPathFactory) -> str:
    """Its name, `metal`. Builds it the first time; GPTOSS_EMULATED_METAL_BUILD names a folder that has it already."""
    if not _registered:
        if ready := os.environ.get("GPTOSS_EMULATED_METAL_BUILD"):
            plugin = Path(ready) / "devices/gptoss_device_emulated_metal.so"
        else:
            folder = emulator_folder(factory)
            plugin = build_plugin(folder, "emulated_metal", **_host_settings(folder))
        _core.register_device("metal", str(plugin))
        _registered.append(plugin)
    return "metal"


def build_twins(factory: pytest.TempPathFactory) -> Path:
    """The folder with metal_twins_test and the copy of the kernels, which it is built from."""
    ready = os.environ.get("GPTOSS_EMULATED_METAL_BUILD")
    folder = Path(ready) if ready else emulator_folder(factory)
    return build(folder, "metal_twins_test", **_settings(folder))


def build_runtime_test(factory: pytest.TempPathFactory) -> Path:
    """The folder with metal_runtime_test and the copy of metal/runtime, which it is built from."""
    ready = os.environ.get("GPTOSS_EMULATED_METAL_BUILD")
    folder = Path(ready) if ready else emulator_folder(factory)
    return build(folder, "metal_runtime_test", **_host_settings(folder))


def plugin_of_emulated_metal() -> Path:
    """The file, once it is registered."""
    return _registered[0]
