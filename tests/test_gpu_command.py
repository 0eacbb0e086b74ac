""".ci/gpu, the one command for a machine with a card: what it keeps of parts that end, fail, hang, or are cut off, and that
its parts name what is there. The parts themselves need a card."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
COMMAND = ROOT / ".ci/gpu"
pytestmark = pytest.mark.skipif(not COMMAND.exists(), reason=".ci is not part of this copy of the sources")

STEP = {"model": "20b", "layers": 6, "precision": "fast", "without": "wgmma", "name": "decode, 0 cached",
        "seconds": {"median": 0.002}, "tokens_per_second": 500.0, "percent_of_read": 61.5}
KERNEL = {"name": "moe_up", "settings": {"tokens": 1, "experts": 32}, "seconds": {"median": 2e-5},
          "cost": {"bytes": 30_000_000, "flops": 10_000_000}, "percent": {"median": 50.0}, "nearer": "read"}


def gpu_command() -> ModuleType:
    loader = SourceFileLoader("gpu_command", str(COMMAND))
    spec = importlib.util.spec_from_loader("gpu_command", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_command"] = module  # where dataclasses look
    loader.exec_module(module)
    return module


def writes(path: Path, text: str) -> list[str]:
    return [sys.executable, "-c", f"open({str(path)!r}, 'a').write({text!r})"]


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, parts: list[Any], *options: str) -> tuple[int, dict[str, Any], str]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["gpu", str(tmp_path / "out"), *options])
    before = signal.getsignal(signal.SIGTERM)
    try:
        status = gpu_command().main(lambda work: parts)
    finally:
        signal.signal(signal.SIGTERM, before)
    return status, json.loads((tmp_path / "out/gpu.json").read_text()), (tmp_path / "out/gpu.md").read_text()


def test_each_part_says_what_became_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    part = gpu_command().Part
    timing, kernels, junit = tmp_path / "timing.jsonl", tmp_path / "kernels.json", tmp_path / "tests.xml"
    junit.write_text("of an earlier run")
    timing.write_text("of an earlier run")
    cases = ('<testcase classname="tests.test_a" name="good"/><testcase classname="tests.test_a" name="bad"><failure/></testcase>'
             '<testcase classname="tests.test_a" name="left"><skipped/></testcase>')
    parts = [
        part("steps", writes(timing, json.dumps(STEP) + "\n"), 20, results={"timing": timing}),
        part("kernels", writes(kernels, json.dumps({"rows": [KERNEL]})), 20, results={"kernels": kernels}),
        part("tests", writes(junit, f'<testsuites><testsuite tests="3" skipped="1">{cases}</testsuite></testsuites>'), 20, junit=junit),
        part("bad", [sys.executable, "-c", "raise SystemExit(3)"], 20),
        part("hangs", [sys.executable, "-c", "import time; time.sleep(60)"], 1),
        part("absent", ["compute-sanitizer-of-nobody"], 20),
    ]
    status, results, text = run(monkeypatch, tmp_path, parts)
    assert status == 1
    assert {row["part"]: row["status"] for row in results["parts"]} == {
        "steps": "ok", "kernels": "ok", "tests": "ok", "bad": "exit status 3", "hangs": "longer than 1 s",
        "absent": "left out: compute-sanitizer-of-nobody is not installed"}
    assert results["timing"] == [STEP] and results["kernels"]["rows"] == [KERNEL]
    assert results["parts"][2]["tests"] == {"passed": 1, "failed": 1, "skipped": 1, "which failed": ["tests.test_a::bad"]}
    assert "| 20b | 6 | fast | wgmma | decode, 0 cached | 2.000 | 500.0 | 61.5 % |" in text
    assert "| moe_up | 1 | 32 |  | 20.0 | 1500 | 0.500 | 50 % read |" in text
    assert "- failed: tests.test_a::bad" in text and "| hangs |" in text


def test_all_parts_together_have_a_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = gpu_command()
    sleeps = [sys.executable, "-c", "import time; time.sleep(60)"]
    begun = time.monotonic()
    status, results, _ = run(monkeypatch, tmp_path, [module.Part("first", sleeps, 50), module.Part("second", sleeps, 50)],
                             "--seconds", "6")
    assert status == 1 and time.monotonic() - begun < 20
    assert [row["status"] for row in results["parts"]] == ["longer than 6 s", "left out: no time"]


def test_a_part_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path, [gpu_command().Part("info", ["true"], 5)], "--only", "info,speed")
    assert "there is no part speed; there are info" in capsys.readouterr().err


def test_who_ends_it_early_has_what_there_was(tmp_path: Path) -> None:
    """Of the part that was running, too, and that ends with it."""
    timing, pid = tmp_path / "timing.jsonl", tmp_path / "pid"
    hangs = textwrap.dedent(f"""
        import json, os, time
        open({str(timing)!r}, "a").write({json.dumps(STEP)!r} + "\\n")
        open({str(pid)!r}, "w").write(str(os.getpid()))
        time.sleep(60)""")
    script = textwrap.dedent(f"""
        import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); sys.argv = ["gpu", {str(tmp_path / "out")!r}]
        from pathlib import Path
        from test_gpu_command import gpu_command
        module = gpu_command()
        sys.exit(module.main(lambda work: [module.Part("first", [sys.executable, "-c", ""], 20),
            module.Part("hangs", [sys.executable, "-c", {hangs!r}], 50, results={{"timing": Path({str(timing)!r})}})]))""")
    process = subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"TMPDIR": str(tmp_path)})
    deadline = time.monotonic() + 30
    while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=20) == 128 + signal.SIGTERM
    results = json.loads((tmp_path / "out/gpu.json").read_text())
    assert [row["part"] for row in results["parts"]] == ["first"] and results["timing"] == [STEP]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_its_parts_name_what_is_there(tmp_path: Path) -> None:
    """Files, modules of the package and of bench/, and each of them once."""
    parts = gpu_command().parts(tmp_path)
    assert len({part.name for part in parts}) == len(parts)
    for part in parts:
        for word in part.command:
            if word.startswith("tests/"):
                assert (ROOT / word).exists(), word
        if part.command[1:2] == ["-m"] and part.command[2].startswith("bench."):
            assert (ROOT / f"{part.command[2].replace('.', '/')}.py").exists(), part.name


@pytest.mark.slow
def test_its_selections_select_something(tmp_path: Path) -> None:
    """Of each file; words with "or" between them, as pytest takes them: any of them in the file's name or the test's."""
    selecting = [part for part in gpu_command().parts(tmp_path) if "-k" in part.command]
    files = {part.name: [word for word in part.command if word.startswith("tests/")] for part in selecting}
    result = subprocess.run([sys.executable, "-m", "pytest", "--collect-only", "-q", *{file for each in files.values() for file in each}],
                            cwd=ROOT, env=os.environ | {"GPTOSS_BACKEND": "cuda", "PYTEST_ADDOPTS": ""}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    tests = result.stdout.splitlines()
    for part in selecting:
        words = part.command[part.command.index("-k") + 1].split(" or ")
        for file in files[part.name]:
            assert any(line.startswith(f"{file}::") and any(word in line for word in words) for line in tests), f"{part.name}: {file}"
