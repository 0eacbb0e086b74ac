"""The workflows for public runners: their syntax, and that they say what the package says. Running them takes the runners."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from native_build import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
BROKEN = """
on: push
jobs:
  test:
    runs-on: ubuntu-24.04
    stepz:
      - run: make
"""

if not WORKFLOWS:
    pytest.skip("no workflows beside these tests", allow_module_level=True)


def checker() -> list[str]:
    """The command of a tool that reads workflows: actionlint, which knows most, or the published schema."""
    if shutil.which("actionlint"):
        return ["actionlint"]
    if importlib.util.find_spec("check_jsonschema"):
        return [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    pytest.skip("neither actionlint nor check-jsonschema is installed")


def check(*paths: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*checker(), *map(str, paths)], capture_output=True, text=True, timeout=120)


def test_workflows_are_valid() -> None:
    result = check(*WORKFLOWS)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_broken_workflow_is_not(tmp_path: Path) -> None:
    path = tmp_path / "broken.yml"
    path.write_text(BROKEN)
    assert check(path).returncode != 0


def project() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 or later")
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return found


def test_wheels_are_built_for_the_pythons_that_the_package_names() -> None:
    metadata = project()
    named = re.findall(r"Python :: 3\.(\d+)", " ".join(metadata["project"]["classifiers"]))
    assert metadata["tool"]["cibuildwheel"]["build"] == [f"cp3{minor}-*" for minor in named]
    tested = re.findall(r'"3\.(\d+)"', (ROOT / ".github/workflows/test.yml").read_text())
    assert {named[0], named[-1]} <= set(tested) <= set(named)


@pytest.mark.parametrize(("platform", "architecture"), [("linux", "x86_64"), ("linux", "aarch64"), ("macos", "arm64")])
def test_cibuildwheel_takes_its_settings(platform: str, architecture: str) -> None:
    if importlib.util.find_spec("cibuildwheel") is None:
        pytest.skip("cibuildwheel is not installed")
    result = subprocess.run([sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", platform, "--archs",
                             architecture, str(ROOT)], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    wanted = [build.removesuffix("-*") for build in project()["tool"]["cibuildwheel"]["build"]]
    assert [line.partition("-")[0] for line in result.stdout.split()] == wanted


def test_every_job_runs_the_self_test_or_the_whole_check_and_those_on_a_mac_have_metal() -> None:
    test, wheels = (next(path.read_text() for path in WORKFLOWS if path.stem == stem) for stem in ("test", "wheels"))
    assert "gptoss-native selftest" in test and ".ci/run" in test
    assert 'metal: "ON"' in test and "GPTOSS_METAL: ${{ matrix.metal" in test
    assert project()["tool"]["cibuildwheel"]["macos"]["environment"]["GPTOSS_METAL"] == "ON"
    assert "cibuildwheel" in wheels and "gptoss-native selftest" in project()["tool"]["cibuildwheel"]["test-command"]
