"""The emulated GPU as a device of the module under test: built and registered once."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from gptoss_native import _core
from native_build import ROOT

_registered: list[str] = []


def register_emulated(factory: pytest.TempPathFactory) -> str:
    """Its name. Builds it the first time, or takes the one at $GPTOSS_EMULATED_PLUGIN; skips where that cannot be done."""
    if not _registered and (built := os.environ.get("GPTOSS_EMULATED_PLUGIN")):
        _core.register_device("emulated", built)
        _registered.append("emulated")
    if not _registered:
        _registered.append(_build(factory))
    return _registered[0]


def _build(factory: pytest.TempPathFactory) -> str:
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
    for command in (["cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", *defines],
                    ["ninja", "-C", str(folder), "gptoss_device_emulated"]):
        result = subprocess.run(command, capture_output=True, text=True, timeout=900)
        assert result.returncode == 0, result.stdout + result.stderr
    if _core.info()["compiler"] not in (folder / "generated/build_info.h").read_text():
        pytest.skip("the module was built by another compiler than the one here")
    _core.register_device("emulated", str(folder / "devices/gptoss_device_emulated.so"))
    return "emulated"
