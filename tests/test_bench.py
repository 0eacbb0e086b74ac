"""The bench: its form, on a tiny checkpoint, and its bytes, against the published sizes. No time is judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gptoss_native import Config
from make_checkpoint import PRESETS, hf_config
from shapes import DEFAULT

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench.costs import Cost, Model  # noqa: E402
from bench.measure import Ceilings, Spread, compare  # noqa: E402

QUICK = ("--rounds", "2", "--tokens", "1,8", "--prefill", "16", "--contexts", "0,40", "--batches", "1,3", "--probe-megabytes", "4",
         "--probe-seconds", "0.001")


def model(preset: str) -> Model:
    return Model(Config.from_hf(hf_config(**PRESETS[preset]), "a preset"))


@pytest.mark.parametrize("preset, published", [("20b", 3_708_089_088), ("120b", 5_002_907_904)])
def test_a_decoded_token_reads_the_published_bytes(preset: str, published: int) -> None:
    """The sums of the checkpoint's own tensor sizes: all of a layer, four experts of it, and the head."""
    at_start = model(preset).step(1)
    cached = model(preset).step(1, context=8191)
    kv_per_layer = 2 * 8 * 64 * 2
    layers = PRESETS[preset]["num_hidden_layers"]
    assert at_start.bytes == published + kv_per_layer * layers  # the token's own key and value
    assert cached.bytes == published + kv_per_layer * layers // 2 * (8192 + 128)


def test_a_batch_reads_each_weight_once_and_every_cache() -> None:
    m = model("20b")
    assert m.batch(1, context=100) == m.step(1, context=100)
    weights = m.step(3, rows=3).bytes - sum(m.stage("attn", 3, layer=layer).bytes for layer in range(24))
    caches = sum(3 * m.stage("attn", 1, layer=layer, context=100).bytes for layer in range(24))
    assert m.batch(3, context=100).bytes == weights + caches


def test_flops_of_a_prefill_are_those_of_its_tokens_one_by_one() -> None:
    together = model("20b").step(300, context=50).flops
    one_by_one = sum(model("20b").step(1, context=50 + i, rows=i == 299).flops for i in range(300))
    assert together == one_by_one


def test_a_percentage_is_taken_round_by_round_of_the_nearer_ceiling() -> None:
    ceilings = [Ceilings(read=100, fma=1000), Ceilings(read=50, fma=1000), Ceilings(read=200, fma=1000)]
    row = compare("stage", "x", {}, Cost(bytes=100, flops=10), [2, 4, 1], ceilings)
    assert row.nearer == "read"
    assert row.percent == Spread(median=50, low=50, high=50, rounds=3)
    assert row.seconds == Spread(median=2, low=1.5, high=3, rounds=3)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), *sys.path]))}
    return subprocess.run([sys.executable, "-m", "bench", *arguments], cwd=ROOT, text=True,
                          capture_output=True, env=environment, timeout=300)


def test_all_of_it_on_a_tiny_checkpoint(case_of: Any, tmp_path: Path) -> None:
    case = case_of(DEFAULT)
    target = tmp_path / "result.json"
    done = run("all", "--model", str(case.folder), "--threads", "1,2", "--precision", "fast,exact", "--json", str(target), *QUICK)
    assert done.returncode == 0, done.stderr
    result = json.loads(target.read_text())
    assert {"cpu", "usable_cores", "cpu_isa", "date", "commit", "gptoss_native"} <= result["machine"].keys()

    identities = [(row["bench"], row["name"], *sorted(row["settings"].items())) for row in result["rows"]]
    assert len(set(identities)) == len(identities)
    for row in result["rows"]:
        assert 0 < row["seconds"]["low"] <= row["seconds"]["median"] <= row["seconds"]["high"]
        if row["bench"] not in ("start", "cancel"):
            assert row["nearer"] in ("read", "fma") and row["percent"]["median"] > 0 and row["ceilings"]["read"] > 0
            assert {"threads", "precision", "kv_dtype"} <= row["settings"].keys()
    counts = {bench: sum(row["bench"] == bench for row in result["rows"]) for bench in ("stage", "prefill", "decode", "batch", "cancel")}
    assert counts == {"stage": 4 * 15, "prefill": 4, "decode": 8, "batch": 8, "cancel": 8}
    assert [row["name"] for row in result["rows"] if row["bench"] == "start"][-1] == "second token"
    for heading in ("stage", "prefill", "decode", "decode of", "from close()", "from the start of the process"):
        assert f"| {heading}" in done.stdout

    shown = run("show", str(target))
    assert [line for line in shown.stdout.splitlines() if line] == [line for line in done.stdout.splitlines() if line]


def test_a_folder_without_a_checkpoint_is_one_line(tmp_path: Path) -> None:
    done = run("stages", "--model", str(tmp_path), *QUICK)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and str(tmp_path) in done.stderr
