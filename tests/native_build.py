"""One build of the native tests and the test device, as the module under test was built; made once."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from gptoss_native import _core
from shared_build import building, shared_folder

ROOT = Path(__file__).parents[1]
TESTS = sorted(path.stem for path in (ROOT / "tests/native").glob("*_test.cpp"))


@dataclass(frozen=True)
class NativeBuild:
    folder: Path
    compiler: str
    """The C++ compiler that CMake took."""
    same_abi: bool
    """Whether the module under test takes plug-ins of this build."""
    difference: str
    """Why it does not."""


_made: list[NativeBuild] = []


def native_build(factory: pytest.TempPathFactory) -> NativeBuild:
    """Configure and build, the first time. Skips where cmake, ninja or a compiler is missing."""
    if not _made:
        _made.append(_build(factory))
    return _made[0]


def _build(factory: pytest.TempPathFactory) -> NativeBuild:
    missing = [tool for tool in ("cmake", "ninja") if shutil.which(tool) is None]
    if not any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++")):
        missing.append("a C++ compiler")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    folder = shared_folder(factory, "native")
    build_type, _, sanitizer = _core.info()["build_type"].partition(" (")
    settings = {
        "CMAKE_BUILD_TYPE": build_type, "GPTOSS_SANITIZE": sanitizer.partition(" ")[0],
        "GPTOSS_PYTHON_MODULE": "OFF", "GPTOSS_NATIVE_TESTS": "ON", "GPTOSS_TEST_DEVICE": "ON",
        "GPTOSS_CUDA": "OFF", "GPTOSS_HIP": "OFF", "GPTOSS_METAL": "OFF"}
    defines = [f"-D{name}={value}" for name, value in settings.items()]
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", *defines]
    with building(folder):
        for command in (configure, ["ninja", "-C", str(folder)]):
            result = subprocess.run(command, capture_output=True, text=True, timeout=900)
            assert result.returncode == 0, result.stdout + result.stderr

    cache = (folder / "CMakeCache.txt").read_text()
    compiler = re.search(r"^CMAKE_CXX_COMPILER:\w+=(.*)$", cache, re.MULTILINE)
    made_by = re.search(r'kCompiler\[\] = "(.*)"', (folder / "generated/build_info.h").read_text())
    assert compiler and made_by
    difference = f"the module was built by {_core.info()['compiler']}, the compiler here is {made_by[1]}"
    return NativeBuild(folder, compiler[1], made_by[1] == _core.info()["compiler"], difference)
