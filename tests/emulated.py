"""The emulated GPU as a device of the module under test: built and registered once.

Three of them: `emulated` with CUDA's runtime, `emulated_wave64` and `emulated_wave32` with HIP's and waves of that size.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emulator_build import build_plugin, emulator_folder
from gptoss_native import _core

EMULATED = ("emulated", "emulated_wave64", "emulated_wave32")

_registered: set[str] = set()


def register_emulated(factory: pytest.TempPathFactory, name: str = "emulated") -> str:
    """Its name. Builds it the first time, or takes those of the folder $GPTOSS_EMULATED_PLUGINS; skips where that cannot be
    done."""
    if name not in _registered:
        built = os.environ.get("GPTOSS_EMULATED_PLUGINS")
        plugin = Path(built) / f"devices/gptoss_device_{name}.so" if built else \
            build_plugin(emulator_folder(factory), name, GPTOSS_EMULATED_DEVICE="ON")
        _core.register_device(name, str(plugin))
        _registered.add(name)
    return name
