"""The emulated GPU as a device of the module under test: built and registered once."""

from __future__ import annotations

import os

import pytest

from emulator_build import build_plugin, emulator_folder
from gptoss_native import _core

_registered: list[str] = []


def register_emulated(factory: pytest.TempPathFactory) -> str:
    """Its name. Builds it the first time, or takes the one at $GPTOSS_EMULATED_PLUGIN; skips where that cannot be done."""
    if not _registered and (built := os.environ.get("GPTOSS_EMULATED_PLUGIN")):
        _core.register_device("emulated", built)
        _registered.append("emulated")
    if not _registered:
        plugin = build_plugin(emulator_folder(factory), "emulated", GPTOSS_EMULATED_DEVICE="ON")
        _core.register_device("emulated", str(plugin))
        _registered.append("emulated")
    return _registered[0]
