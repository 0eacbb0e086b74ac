"""The C++ programs of tests/native, built and run."""

from __future__ import annotations

import os
import subprocess

import pytest

from gptoss_native import _core
from native_build import TESTS, native_build

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", TESTS)
def test_native_program(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    program = native_build(tmp_path_factory).folder / name
    environment = {key: value for key, value in os.environ.items() if key != "GPTOSS_CPU_ISA"}
    result = subprocess.run([program], env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    if name == "kernels_test":
        lines = [line for line in result.stdout.splitlines() if line.startswith("testing: ")]
        tested = [line.partition(": ")[2].split(",")[0] for line in lines]
        assert tested == [isa["name"] for isa in _core.info()["cpu_isas"] if isa["usable"]]
