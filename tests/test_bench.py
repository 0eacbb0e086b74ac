"""The bench: its form, on tiny checkpoints, and its bytes and FLOPs, against the published sizes. No time is judged."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gptoss_native
from engines import INTEGER_ISAS
from gptoss_native import Config, ops
from gptoss_native.bench import kernel_costs, machine
from gptoss_native.bench.costs import Cost, Model
from gptoss_native.bench.kernel_cases import KERNELS, Bench, Settings
from gptoss_native.bench.measure import Ceilings, Probe, Row, Spread, compare
from gptoss_native.bench.regressions import compare_results
from gptoss_native.bench.report import read_json, write_json
from gptoss_native.cli import bench_kernels, main
from make_checkpoint import PRESETS, hf_config
from shapes import DEFAULT

QUICK = ("--rounds", "2", "--tokens", "1,8", "--prefill", "16", "--contexts", "0,40", "--batches", "1,3", "--probe-megabytes", "4",
         "--probe-seconds", "0.001")


def model(preset: str, **formats: str) -> Model:
    return Model(Config.from_hf(hf_config(**PRESETS[preset]), "a preset"), **formats)


@pytest.mark.parametrize("preset, published", [("20b", 3_708_089_088), ("120b", 5_002_907_904)])
def test_a_decoded_token_reads_the_published_bytes(preset: str, published: int) -> None:
    """The sums of the checkpoint's own tensor sizes: all of a layer, four experts of it, and the head."""
    at_start = model(preset).step(1)
    cached = model(preset).step(1, context=8191)
    kv_per_layer = 2 * 8 * 64 * 2
    layers = PRESETS[preset]["num_hidden_layers"]
    assert at_start.bytes == published + kv_per_layer * layers  # the token's own key and value
    assert cached.bytes == published + kv_per_layer * layers // 2 * (8192 + 128)


@pytest.mark.parametrize("dense, gigabytes", [("bf16", 3.71), ("q8_0", 2.57), ("int8", 2.53)])
def test_a_decoded_token_of_the_20b_reads_the_known_gigabytes(dense: str, gigabytes: float) -> None:
    assert round(model("20b", dense=dense).step(1).bytes / 1e9, 2) == gigabytes


def test_a_token_of_a_prompt_of_the_20b_takes_the_known_flops() -> None:
    assert round(model("20b").step(512).flops / 512 / 1e9, 2) == 5.88


def test_a_batch_reads_each_weight_once_and_every_cache() -> None:
    m = model("20b")
    assert m.batch(1, context=100, experts=4) == m.step(1, context=100)
    weights = m.step(3, rows=3).bytes - sum(m.stage("attn", 3, layer=layer).bytes for layer in range(24))
    caches = sum(3 * m.stage("attn", 1, layer=layer, context=100).bytes for layer in range(24))
    assert m.batch(3, context=100, experts=m.expected_experts(3)).bytes == weights + caches


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


def test_a_matrix_unit_is_the_ceiling_of_arithmetic_where_there_is_one() -> None:
    ceilings = Ceilings(read=100, fma=1000, matrix=8000)
    assert ceilings.nearer(Cost(bytes=100, flops=7999)) == "read"
    assert ceilings.nearer(Cost(bytes=100, flops=16000)) == "matrix" and ceilings.seconds(Cost(100, 16000)) == 2
    assert Ceilings(read=100, fma=1000).nearer(Cost(bytes=100, flops=1001)) == "fma"


def test_the_ceilings_are_those_of_the_instruction_set_in_use() -> None:
    found = Probe(threads=1, megabytes=4, seconds=0.001)()
    assert found.read > 0 and found.fma > 0
    assert (found.matrix is not None) == (gptoss_native.info()["cpu_isa"] in {"amx", "avx512_bf16", *INTEGER_ISAS})
    exact = Probe(threads=1, megabytes=4, seconds=0.001, precision="exact")()
    assert (exact.matrix is not None) == (gptoss_native.info()["cpu_isa"] == "amx")


# Results and their comparison


def measured(name: str, seconds: list[float], read: float = 100, **settings: Any) -> Row:
    """Rounds of something that reads 100 bytes, beside a read bandwidth."""
    return compare("decode", name, {"threads": 2, "precision": "fast", **settings}, Cost(100, 10), seconds,
                   [Ceilings(read, 1000)] * len(seconds), tokens_per_second=1.0)


STEADY = [2.0, 2.1, 2.2]


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [measured("a", STEADY), replace(measured("b", STEADY), ceilings=Ceilings(1, 2, 3), facts={"tokens_per_second": 4.5}),
            Row("start", "import", {}, Spread.of([1.0]), Cost(), "", None, None)]
    write_json(tmp_path / "result.json", {"cpu": "one"}, rows)
    assert read_json(tmp_path / "result.json") == ({"cpu": "one"}, rows)
    (tmp_path / "other.json").write_text('{"schema": 99}')
    with pytest.raises(ValueError, match="schema 1, found 99"):
        read_json(tmp_path / "other.json")


def test_parts_of_a_result_are_joined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = []
    for name in ("a", "b"):
        parts.append(str(tmp_path / f"{name}.json"))
        write_json(Path(parts[-1]), {"cpu": "one", "command": f"bench {name}"}, [measured(name, STEADY)])
    assert main(["bench", "--show", *parts, "--json", str(tmp_path / "both.json")]) == 0
    facts, rows = read_json(tmp_path / "both.json")
    assert facts["command"] == "bench a, and bench b" and [row.name for row in rows] == ["a", "b"]
    write_json(Path(parts[1]), {"cpu": "another", "command": "bench b"}, [measured("b", STEADY)])
    assert main(["bench", "--show", *parts]) == 1
    assert "they differ in cpu (another, one)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["2026-11-21-epyc-zen5-2-cores", "2026-11-26-xeon-emerald-rapids-2-cores",
                                  "2026-11-26-xeon-emerald-rapids-2-cores-amx", "2026-11-26-epyc-zen5-2-cores"])
def test_committed_results_can_be_read(name: str) -> None:
    facts, rows = read_json(Path(__file__).parents[1] / "bench" / "results" / f"{name}.json")
    assert facts["cpu"] and rows


@pytest.mark.parametrize("after, verdict", [
    (measured("a", [2.05, 2.15, 2.25]), ""),            # within the spread
    (measured("a", [1.0, 2.1, 9.0]), ""),               # a wider spread about the same median
    (measured("a", [2.21, 2.22, 2.23]), "slower"),
    (measured("a", [2.16, 2.17, 2.18]), ""),            # beyond the quartiles, but by less than a regression is
    (measured("a", [1.0, 1.1, 1.2]), "faster"),
    (measured("a", [4.0, 4.2, 4.4], read=50), ""),      # the machine reads half as fast, and the engine keeps up
    (measured("a", [2.5, 2.6, 2.7], read=100, isa="other"), "slower"),
])  # fmt: skip
def test_only_what_is_slower_beyond_the_spread_is_a_regression(after: Row, verdict: str) -> None:
    comparison = compare_results([measured("a", STEADY), measured("gone", STEADY)], [after, measured("new", STEADY)])
    assert [change.verdict for change in comparison.changes] == [verdict]
    assert (comparison.only_before, comparison.only_after) == (1, 1)


def test_results_of_other_settings_are_not_compared() -> None:
    with pytest.raises(ValueError, match="no row in common"):
        compare_results([measured("a", STEADY)], [measured("a", STEADY, dense="int8")])
    assert compare_results([measured("a", STEADY)], [measured("a", STEADY, dense="bf16")]).changes


def test_compare_says_what_became_slower_with_its_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    write_json(before, {"commit": "old"}, [measured("a", STEADY), measured("b", STEADY)])
    write_json(after, {"commit": "new"}, [measured("a", STEADY), measured("b", [s * 1.5 for s in STEADY])])
    assert main(["bench", "--compare", str(before), str(before)]) == 0
    assert "0 regressions in 2 rows" in capsys.readouterr().out
    assert main(["bench", "--compare", str(before), str(after)]) == 1
    out = capsys.readouterr().out
    assert "1 regression in 2 rows" in out and "- commit: old -> new" in out
    assert [line.split("|")[1].strip() for line in out.splitlines() if line.endswith("| slower |")] == ["b"]
    assert main(["bench", "--compare", str(before), str(after), "--tolerance", "60"]) == 0
    assert main(["bench", "decode", "--compare", str(before), str(after)]) == 2


# The command


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(gptoss_native.__file__).parents[1]), *sys.path])}
    return subprocess.run([sys.executable, "-m", "gptoss_native", "bench", *arguments], text=True, capture_output=True,
                          env=environment, timeout=300)


def test_all_of_it_on_a_tiny_checkpoint(case_of: Any, tmp_path: Path) -> None:
    case = case_of(DEFAULT)
    target = tmp_path / "result.json"
    done = run("--model", str(case.folder), "--threads", "1,2", "--precision", "exact", "--dense", "bf16,int8", "--json", str(target), *QUICK)
    assert done.returncode == 0, done.stderr
    result = json.loads(target.read_text())
    assert {"cpu", "usable_cores", "cpu_isa", "date", "commit", "gptoss_native"} <= result["machine"].keys()
    assert str(tmp_path) not in result["machine"]["command"] and str(case.folder) not in result["machine"]["command"]

    identities = [(row["bench"], row["name"], *sorted(row["settings"].items())) for row in result["rows"]]
    assert len(set(identities)) == len(identities)
    for row in result["rows"]:
        assert 0 < row["seconds"]["low"] <= row["seconds"]["median"] <= row["seconds"]["high"]
        assert {"threads", "isa", "precision", "kv_dtype", "dense"} <= row["settings"].keys()
        if row["bench"] not in ("start", "cancel"):
            assert row["nearer"] in ("read", "fma", "matrix") and row["percent"]["median"] > 0 and row["ceilings"]["read"] > 0
        if row["bench"] == "batch":
            chosen, most = case.model.config["num_experts_per_tok"], case.model.config["num_local_experts"]
            assert chosen <= row["facts"]["experts"] <= min(most, chosen * row["settings"]["sequences"])
    counts = {bench: sum(row["bench"] == bench for row in result["rows"]) for bench in ("stage", "prefill", "decode", "batch", "cancel")}
    assert counts == {"stage": 4 * 15, "prefill": 4, "decode": 8, "batch": 8, "cancel": 8}
    assert [row["name"] for row in result["rows"] if row["bench"] == "start"][-1] == "second token"
    for heading in ("stage", "prefill", "decode", "decode of", "from close()", "from the start of the process"):
        assert f"| {heading}" in done.stdout

    shown = run("--show", str(target))
    assert [line for line in shown.stdout.splitlines() if line] == [line for line in done.stdout.splitlines() if line]


def test_without_a_model_the_demonstration_model_is_measured(tmp_path: Path) -> None:
    done = run("stages", "decode", "--quick", *QUICK, "--json", str(tmp_path / "result.json"))
    assert done.returncode == 0 and "the demonstration model is measured" in done.stderr
    facts, rows = read_json(tmp_path / "result.json")
    assert facts["model"].startswith("4 layers, 8 experts, hidden 128")
    assert {row.bench for row in rows} == {"stage", "decode"}


def test_a_plot_is_drawn_of_a_result(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [measured("a", STEADY), replace(measured("b", STEADY), ceilings=Ceilings(100, 1000, 5000))]
    write_json(tmp_path / "result.json", {"cpu": "one", "command": "bench"}, rows)
    for ending, magic in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        assert main(["bench", "--show", str(tmp_path / "result.json"), "--plot", str(tmp_path / f"plot.{ending}")]) == 0
        assert (tmp_path / f"plot.{ending}").read_bytes().startswith(magic)


def test_a_plot_without_matplotlib_is_refused_before_anything_is_measured(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["bench", "--plot", str(tmp_path / "plot.png")]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "pip install 'gptoss-native[bench]'" in err


@pytest.mark.parametrize("arguments, said", [
    (["nothing"], "there is no part 'nothing'; there are stages, prefill"),
    (["--threads", "0"], "expected integers from 1"),
    (["--precision", "half"], "expected fast, exact or both"),
    (["--dense", "int4"], "expected bf16, int8 or both"),
    (["--rounds", "1,2"], "expected one integer"),
])  # fmt: skip
def test_wrong_arguments_are_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_a_checkpoint_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--model", str(tmp_path), *QUICK]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and str(tmp_path) in err


@pytest.mark.slow
def test_kernels_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "kernels.json"
    sizes = ["--tokens", "1", "--contexts", "70", "--experts", "8", "--rounds", "2", "--rotate-megabytes", "1"]
    assert main(["bench", "--kernels", "attention,rms_norm,route,swiglu,rope,mxfp4_linear,mxfp4_grouped,dequantize_mxfp4", *sizes, "--json", str(target)]) == 0
    printed = capsys.readouterr().out
    _, rows = read_json(target)
    names = ["attention", "attention (window)", "attention (8 sequences)", "mxfp4_linear", "dequantize_mxfp4", "mxfp4_grouped", "rms_norm", "swiglu", "rope", "route"]
    assert [row.name for row in rows] == names
    assert all(row.seconds.low > 0 and row.percent and row.percent.median > 0 and row.cost.bytes > 0 for row in rows)
    assert all(f"| {name} " in printed for name in names)
    [attention] = [row for row in rows if row.name == "attention"]
    one_token = 2 * 64 + 4 * 64 * (2 * 64 + 1)
    assert attention.cost == Cost(70 * 2 * 8 * 64 * 2 + one_token, 4 * 64 * 64 * 70)
    assert main(["bench", "--show", str(target)]) == 0 and printed.partition("###")[2] in capsys.readouterr().out
    assert main(["bench", "--compare", str(target), str(target)]) == 0


def test_who_ends_the_bench_of_kernels_early_has_the_rows_until_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(*arguments: object, **options: object) -> Iterator[Row]:
        yield measured("a", STEADY)
        yield measured("b", STEADY)
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_kernels, "bench_kernels", rows)
    with contextlib.suppress(KeyboardInterrupt):
        main(["bench", "--kernels", "--json", str(tmp_path / "kernels.json")])
    assert [row.name for row in read_json(tmp_path / "kernels.json")[1]] == ["a", "b"]


def test_every_operation_of_the_lab_is_timed() -> None:
    """But the two of the host."""
    operations = {name for name in ops.__all__ if name.islower() and name not in ("reference", "tolerances")}
    assert set(KERNELS) == operations - {"rope_table", "quantize_mxfp4"}
    assert {case.kernel for case in Bench(ops.Device("cpu"), "fast", Settings()).cases()} == set(KERNELS)


def test_what_a_kernel_must_read_and_compute() -> None:
    """By hand: two sequences of which a window hides the beginning, and two experts of which each is read once."""
    cost = kernel_costs.attention([1, 2], [200, 3], heads=4, kv_heads=2, head_dim=16, window=128, kv_dtype="bf16")
    assert cost == Cost(2 * 2 * 16 * 2 * (128 + 3) + 2 * 4 + 4 * 3 * 4 * 33, 4 * 4 * 16 * (128 + 2 + 3))
    assert kernel_costs.moe_up(3, 2, 64, 96, experts=2) == Cost(2 * (64 * 96 * 17 // 32 + 2 * 64) + 4 * 3 * (96 + 64), 2 * 6 * 64 * 96)


@pytest.mark.parametrize(("arguments", "said"), [
    (["--kernels", "matmul"], "there is no kernel 'matmul'; there are linear"),
    (["prefill", "--kernels"], "--kernels needs no model"),
    (["--minutes", "2"], "--minutes is for --kernels"),
    (["--kernels", "--model", "demo"], "--kernels needs no model"),
])  # fmt: skip
def test_wrong_arguments_of_kernels(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_kernels_of_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--kernels", "--device", "abacus"]) == 1
    assert "is not a device of this package" in capsys.readouterr().err


def test_the_machine_is_described_where_the_system_says_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, and on macOS: no /proc, no load, no count of pages."""
    def nothing(*arguments: object, **options: object) -> str:
        raise OSError("not here")

    for name in ("getloadavg", "sysconf"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(platform, "freedesktop_os_release", nothing)
    monkeypatch.setattr(machine.Path, "read_text", nothing)
    monkeypatch.setattr(machine.subprocess, "run", nothing)
    facts = machine.machine_facts()
    assert facts["memory_bytes"] is None and facts["load_average"] is None and facts["commit"] == ""
    assert facts["system"].startswith(platform.system()) and facts["cpu"] == platform.processor()
