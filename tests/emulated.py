"""The emulated GPU as a device of the module under test: built and registered once.

Three of them: `emulated` with CUDA's runtime, `emulated_wave64` and `emulated_wave32` with HIP's and waves of that size.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gptoss_native import _core
from native_build import ROOT

EMULATED = ("emulated", "emulated_wave64", "emulated_wave32")

_folders: list[Path] = []
_registered: set[str] = set()


def register_emulated(factory: pytest.TempPathFactory, name: str = "emulated") -> str:
    """Its name. Builds it the first time, or takes those of the folder $GPTOSS_EMULATED_PLUGINS; skips where that cannot be
    done."""
    if name not in _registered:
        if not _folders:
            _folders.append(_configure(factory))
        _build(_folders[0], name)
        _registered.add(name)
    return name


def _run(*command: str | Path) -> None:
    result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr


def _configure(factory: pytest.TempPathFactory) -> Path:
    """A folder for builds, or of those there are."""
    if built := os.environ.get("GPTOSS_EMULATED_PLUGINS"):
        return Path(built)
    missing = [tool for tool in ("cmake", "ninja", "c++") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    build_type, _, sanitizer = _core.info()["build_type"].partition(" (")
    if sanitizer:
        pytest.skip("the emulator's detector is its own, and no sanitizer's")
    folder = factory.mktemp("emulated")
    settings = {"CMAKE_BUILD_TYPE": build_type, "GPTOSS_PYTHON_MODULE": "OFF", "GPTOSS_EMULATED_DEVICE": "ON",
                "GPTOSS_CUDA": "OFF", "GPTOSS_HIP": "OFF", "GPTOSS_METAL": "OFF"}
    defines = [f"-D{name}={value}" for name, value in settings.items()]
    _run("cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", *defines)
    if _core.info()["compiler"] not in (folder / "generated/build_info.h").read_text():
        pytest.skip("the module was built by another compiler than the one here")
    return folder


def _build(folder: Path, name: str) -> None:
    plugin = folder / f"devices/gptoss_device_{name}.so"
    if "GPTOSS_EMULATED_PLUGINS" not in os.environ:
        _run("ninja", "-C", folder, f"gptoss_device_{name}")
    _core.register_device(name, str(plugin))
