"""Folders to build in that the workers of one run share, and the turn to do so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock


def shared_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """The same for all workers of pytest-xdist."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared-{name}"
    folder.mkdir(exist_ok=True)
    return folder


def building(folder: Path) -> FileLock:
    """To hold while something is built there: `with building(folder): ...`."""
    return FileLock(folder.parent / f"{folder.name}.lock")
