"""Models by their id on the Hugging Face hub: what is in the cache opens, offline; what is not is said in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import gptoss_native as gptoss
from gptoss_native.checkpoint.hub import find_model
from small_models import write_small

COMMIT = "6cee5e81ee83917806bbde320786a8fb61efebee"
LOAD = """
import sys, gptoss_native as gptoss
planned = gptoss.plan(sys.argv[1], max_context=64)
with gptoss.load(sys.argv[1], max_context=64) as engine:
    completion = engine.generate([1, 2], gptoss.SamplingParams(max_tokens=3, min_tokens=3))
print(len(completion.tokens), planned.path.name)
"""
EXPLAIN = """
import sys, gptoss_native as gptoss
for call in (gptoss.load, gptoss.plan):
    try:
        call(sys.argv[1])
    except gptoss.CheckpointError as error:
        print(error)
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with one model, as huggingface_hub lays it out."""
    model = tmp_path / "hub" / "models--someone--tiny-oss"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(COMMIT)
    (model / "snapshots" / COMMIT).mkdir(parents=True)
    write_small(model / "snapshots" / COMMIT)
    return tmp_path / "hub"


def run(cache: Path, code: str, model: str) -> str:
    """In a process of its own: huggingface_hub reads the environment when it is imported."""
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
                                "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, model], env=environment, text=True, capture_output=True, cwd=cache,
                          timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_model_in_the_cache_loads_offline(cache: Path) -> None:
    pytest.importorskip("huggingface_hub")
    for model in ("someone/tiny-oss", "someone/tiny-oss@main", f"someone/tiny-oss@{COMMIT}"):
        out = run(cache, LOAD, model)
        assert out == f"3 {COMMIT}"


@pytest.mark.parametrize("model", ["someone/absent", "someone/tiny-oss@v2"])
def test_a_model_that_is_not_there_is_said_in_one_line(cache: Path, model: str) -> None:
    pytest.importorskip("huggingface_hub")
    out = run(cache, EXPLAIN, model)
    lines = out.split("\n")
    assert len(lines) == 2 and all(line.startswith(f"{model}: there is no such folder here") for line in lines)
    assert "HF_HUB_OFFLINE" in lines[0] and "hf download someone/" in lines[0]


def test_without_the_extra_the_command_to_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(gptoss.CheckpointError, match=r"pip install 'gptoss-native\[hub\]'"):
        gptoss.load("openai/gpt-oss-20b")


def test_only_what_is_needed_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[SimpleNamespace] = []

    def snapshot_download(name: str, **options: object) -> str:
        asked.append(SimpleNamespace(name=name, **options))
        return str(tmp_path)

    module = ModuleType("huggingface_hub")
    module.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    assert find_model("openai/gpt-oss-20b") == tmp_path
    assert find_model("openai/gpt-oss-120b@refs/pr/1", download=False) == tmp_path
    first, second = asked
    assert (first.name, first.revision, first.local_files_only) == ("openai/gpt-oss-20b", None, False)
    assert (second.name, second.revision, second.local_files_only) == ("openai/gpt-oss-120b", "refs/pr/1", True)
    assert "original/*" in first.ignore_patterns and "metal/*" in first.ignore_patterns
    assert json.dumps(first.allow_patterns).count("safetensors") == 2


def test_a_folder_is_a_folder_whatever_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "openai" / "gpt-oss-20b").mkdir(parents=True)
    for model in ("openai/gpt-oss-20b", Path("openai/absent"), "./openai/absent", "a/b/c", "/openai/absent", "absent"):
        assert find_model(model) == Path(model)
