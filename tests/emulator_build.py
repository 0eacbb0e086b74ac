"""The build of the emulator: one folder for all tests and workers of a run, configured again by those that need more of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gptoss_native import _core
from native_build import ROOT
from shared_build import building, shared_folder


def emulator_folder(factory: pytest.TempPathFactory) -> Path:
    return shared_folder(factory, "emulator")


def build(folder: Path, *targets: str, **settings: str) -> Path:
    """Configures a build in `folder` and makes the targets; skips where the tools for that are missing."""
    missing = [tool for tool in ("cmake", "ninja", "c++") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    defaults = {"CMAKE_BUILD_TYPE": _core.info()["build_type"].partition(" (")[0], "GPTOSS_PYTHON_MODULE": "OFF",
                "GPTOSS_EMULATOR_TESTS": "ON", "GPTOSS_SANITIZE": "", "GPTOSS_CUDA": "OFF", "GPTOSS_HIP": "OFF",
                "GPTOSS_METAL": "OFF", "Python3_EXECUTABLE": sys.executable}
    defines = [f"-D{name}={value}" for name, value in (defaults | settings).items()]
    with building(folder):
        _succeed("cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", *defines)
        _succeed("ninja", "-C", str(folder), *targets)
    return folder


def rebuild(folder: Path, target: str) -> None:
    """After a change to a source."""
    with building(folder):
        _succeed("ninja", "-C", str(folder), target)


def _succeed(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr


def build_plugin(folder: Path, name: str, **settings: str) -> Path:
    """The plug-in `name` for the module under test; skips where that would not take it."""
    if "(" in _core.info()["build_type"]:
        pytest.skip("the emulator's detector is its own, and no sanitizer's")
    build(folder, f"gptoss_device_{name}", **settings)
    if _core.info()["compiler"] not in (folder / "generated/build_info.h").read_text():
        pytest.skip("the module was built by another compiler than the one here")
    return folder / f"devices/gptoss_device_{name}.so"
