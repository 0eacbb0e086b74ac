"""The Metal device, end to end without a Mac: its host code over a fake of Metal's runtime, its kernels in the emulator.

The tests of operations and of GPU devices, with this device in their place; and what is Metal's own. Each passes only if
neither the fake, which has the rules of Metal's validation, nor the emulator had anything to report.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import tolerances
from conftest import CaseMaker
from emulated_metal import build_runtime_test, build_twins, plugin_of_emulated_metal, register_emulated_metal
from emulator_build import rebuild
from engines import all_logits, ids
from gptoss_native import _core
from gptoss_native.checkpoint.checkpoint import open_checkpoint
from gptoss_native.cli import main
from gptoss_native.ops import reference as oracle
from metal_faults import FAULTS, LEFT, Fault
from test_device_plugin import generate, open_on
from test_gpu_device import (  # noqa: F401
    EXACT,
    silent,
    small,
    test_both_round_the_same_operands,
    test_every_field_of_a_layer,
    test_experts_in_bf16,
    test_the_package_uses_it_like_any_other,
)
from test_ops import (  # noqa: F401
    Lab,
    test_attention,
    test_every_code_under_every_scale,
    test_experts_up_and_down,
    test_linear,
    test_masks_and_edits_of_a_draw,
    test_mxfp4_grouped,
    test_rope,
)
from test_sampling import KINDS, assert_same_draws
from test_sampling import SHAPE as SAMPLING_SHAPE

pytestmark = pytest.mark.slow

MODEL = small("metal", prompt=40)


GREEDY = _core.Sampling(temperature=0.0, top_p=1.0, seed=1)


def on_a_mac() -> bool:
    return any(entry["name"] == "metal" and entry["built"] and entry["present"] for entry in _core.info()["devices"])


ON_A_MAC = on_a_mac()


@pytest.fixture(scope="module")
def device(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The GPU where there is one, else the fake. Tests of test_gpu_device.py are asked for once for each device there."""
    if getattr(request, "param", "emulated") != "emulated":
        pytest.skip("this device takes the place of the first one there")
    return "metal" if ON_A_MAC else register_emulated_metal(tmp_path_factory)


@pytest.fixture
def fake(device: str) -> None:
    if ON_A_MAC:
        pytest.skip("what is asked of Metal is seen by the fake only, and only that fails when it is told to")


@pytest.fixture(scope="module")
def lab(device: str) -> Lab:
    return Lab(device, small=True)


@pytest.fixture
def one_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels for few tokens alone, whose sums do not depend on how many there are."""
    monkeypatch.setenv("GPTOSS_METAL_MATRIX", "0")


class Trace:
    """What was asked of Metal since the last look."""

    def __init__(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = file
        monkeypatch.setenv("FAKE_METAL_TRACE", str(file))

    def take(self) -> list[str]:
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        self.file.unlink(missing_ok=True)
        return lines

    def kernels(self) -> Counter[str]:
        return Counter(line.split()[1] for line in self.take() if line.startswith("dispatch"))


@pytest.fixture
def trace(fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trace:
    return Trace(tmp_path / "trace", monkeypatch)


def test_exact_logits_are_those_of_the_reference_in_any_chunks(case_of: CaseMaker, device: str) -> None:
    """Prefill on the matrix units, few tokens without them, a token at a time from a graph."""
    case = case_of(MODEL)
    engine = open_on(device, case.folder, **EXACT)
    for sizes in ([40], [36, 1]):
        assert np.abs(all_logits(engine, case.tokens, sizes) - case.trace.logits).max() <= tolerances.LOGITS, sizes
    engine.close()


def test_without_matrix_units_chunks_and_schedules_change_no_bit(case_of: CaseMaker, device: str, one_form: None) -> None:
    case = case_of(MODEL)
    engine = open_on(device, case.folder, **EXACT)
    whole = all_logits(engine, case.tokens[:7])
    assert np.abs(whole - case.trace.logits[:7]).max() <= tolerances.LOGITS
    assert np.array_equal(all_logits(engine, case.tokens[:7], [5, 1]), whole)
    session, other = engine.session(), engine.session()
    both = engine.step([_core.Work(s, ids(case.tokens[:7]), rows=ids(range(7))) for s in (session, other)])
    assert all(np.array_equal(output.logits, whole) for output in both), "two sequences in a step are two alone"
    engine.close()


def test_a_prefix_that_sequences_share_is_copied_where_they_part(case_of: CaseMaker, device: str, one_form: None) -> None:
    case = case_of(MODEL)
    engine = open_on(device, case.folder, **EXACT)
    other = np.concatenate([case.tokens[:5], case.tokens[:3]])
    want = all_logits(engine, other)
    first = engine.session()
    engine.step([_core.Work(first, ids(case.tokens[:5]), checkpoints=[5])])
    second = engine.session(other)
    assert second.length == 5
    assert np.array_equal(all_logits(engine, other[5:], session=second), want[5:])
    engine.close()


def test_few_tokens_of_a_long_context_attend_in_splits(lab: Lab, trace: Trace) -> None:
    rng = np.random.default_rng(1)
    q, k, v = (rng.normal(size=(n, 1, 16)).astype(np.float32) for n in (1, 1100, 1100))
    sinks = np.zeros(1, np.uint16)
    attn, _ = lab.attention(q, k, v, sinks, precision="exact", kv_dtype="f32")
    used = trace.kernels()
    assert used["attn_split_f32"] == used["attn_merge"] == 1 and used["attn_f32"] == 0
    want, _ = oracle.attention(q, k, v, sinks)
    tolerances.check(attn, want, tolerances.EXACT["attention"])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "subnormal"])
def test_draws_from_the_same_logits(case_of: CaseMaker, device: str, kind: str) -> None:
    """Subnormal ones count as 0 on these GPUs: from them other tokens are drawn than elsewhere."""
    engines = [open_on(name, case_of(SAMPLING_SHAPE).folder, max_sequences=3, max_context=2048, max_tokens=8, max_outputs=8)
               for name in ("cpu", device)]
    assert_same_draws(engines, kind, sequences=3, rounds=2)
    engines[1].close()


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8, "top_p": 0.9, "seed": 2**63 + 5}], ids=str)
def test_generated_tokens_are_those_of_the_cpu(case_of: CaseMaker, device: str, sampling: dict[str, Any]) -> None:
    case = case_of(MODEL)
    cpu, metal = (open_on(name, case.folder, **EXACT) for name in ("cpu", device))
    assert generate(cpu, case.tokens[:3], 5, **sampling) == generate(metal, case.tokens[:3], 5, **sampling)
    metal.close()


@pytest.mark.parametrize(("precision", "kv_dtype"), [("exact", "f32"), ("fast", "bf16")])
def test_a_step_is_one_command_buffer_of_the_kernels_for_its_size(
    case_of: CaseMaker, device: str, trace: Trace, precision: str, kv_dtype: str
) -> None:
    engine = open_on(device, case_of(MODEL).folder, **(EXACT | {"precision": precision, "kv_dtype": kv_dtype}))
    session = engine.session()
    suffix = "f32" if kv_dtype == "f32" else "bf16"
    steps = [(1, "", "")] * 3  # as it is, captured, replayed
    prefills = [(48, "_matrix", "_matrix"), (20, "_matrix", "")]  # of 20 tokens an expert has 7 on average
    for tokens, matrix, moe in prefills + steps if precision == "exact" else steps:
        trace.take()
        engine.step([_core.Work(session, ids(range(tokens)), rows=ids([tokens - 1]), sampling=GREEDY)])
        lines = trace.take()
        assert lines.count("commit") == 1
        used = Counter(line.split()[1] for line in lines if line.startswith("dispatch"))
        assert [used["linear"], used["linear_matrix"]] == ([1, 2 * 3] if matrix else [2 * 3 + 1, 0])  # the head has one row
        assert used[f"moe_up{moe}_mxfp4"] == used[f"moe_down{moe}_mxfp4"] == 2
        assert used[f"attn_{suffix}"] == used[f"rotate_append_{suffix}"] == 2
        assert [used[f"sample_{part}"] for part in ("scan", "weigh", "collect", "finish")] == [1, 1, 1, 1]
        assert used["embed"] == 1 and used["moe_combine"] == 2
        assert used["choose"] == used["group_pairs"] == (2 if matrix else 0) and used["route_few"] == (0 if matrix else 2)
        assert used["round_rows"] == (2 if precision == "fast" else 0)
    engine.close()


def matrices(layer: dict[str, npt.NDArray[Any]]) -> int:
    """Bytes of what is used where it lies in the file."""
    return sum(array.nbytes for name, array in layer.items() if name.startswith(("o_proj_weight", "router_weight"))
               or name.endswith(("_blocks", "_scales")))


def test_weights_are_used_where_they_lie_in_the_file(case_of: CaseMaker, device: str, trace: Trace) -> None:
    """Six matrices a layer, and embedding and head; the program is compiled once for all engines."""
    folder = case_of(MODEL).folder
    open_on(device, folder, **EXACT).close()
    trace.take()
    engine = open_on(device, folder, **EXACT)
    lines = trace.take()
    engine.close()
    checkpoint = open_checkpoint(folder)
    mapped = [int(line.split()[1]) for line in lines if line.startswith("map")]
    page = os.sysconf("SC_PAGESIZE")
    assert len(mapped) == 2 * 6 + 2 and all(size % page == 0 for size in mapped)
    wanted = sum(matrices(checkpoint.layer(i)) for i in range(2))
    wanted += sum(checkpoint.ends()[name].nbytes for name in ("embed_tokens", "lm_head"))
    assert wanted <= sum(mapped) <= wanted + 2 * page * len(mapped)
    assert "compile" not in lines


def test_a_matrix_at_an_odd_address_is_copied(case_of: CaseMaker, device: str, trace: Trace) -> None:
    case = case_of(MODEL)
    checkpoint = open_checkpoint(case.folder)
    engine = _core.Engine(checkpoint.config.to_dict(), device=device, precision="exact", kv_dtype="f32", threads=0,
                          max_context=64, max_sequences=1, max_tokens=16, max_outputs=16)
    engine.load_ends(checkpoint.ends())
    kept = []
    trace.take()
    for index in range(checkpoint.config.num_hidden_layers):
        layer = checkpoint.layer(index)
        for name in ("o_proj_weight", "gate_up_proj_blocks"):
            memory = np.zeros(layer[name].nbytes + 16, np.uint8)
            start = 2 - memory.ctypes.data % 4 + 4
            moved = memory[start:start + layer[name].nbytes]
            moved[:] = layer[name].reshape(-1).view(np.uint8)
            layer[name] = moved.view(layer[name].dtype).reshape(layer[name].shape)
            kept.append(memory)
        engine.load_layer(index, layer)
    assert sum(line.startswith("map") for line in trace.take()) == 2 * 4
    engine.start()
    assert np.abs(all_logits(engine, case.tokens[:12]) - case.trace.logits[:12]).max() <= tolerances.LOGITS
    engine.close()


def test_an_interrupted_step_leaves_no_trace(case_of: CaseMaker, device: str, fake: None, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(MODEL)
    engine = open_on(device, case.folder, **EXACT)
    session, free = engine.session(), engine.free_pages
    monkeypatch.setenv("FAKE_METAL_WAITS", "1")
    with pytest.raises(InterruptedError, match="nothing was added"):
        engine.step([_core.Work(session, ids(case.tokens[:8]))], interrupted=lambda: True)
    monkeypatch.delenv("FAKE_METAL_WAITS")
    assert session.length == 0 and engine.free_pages == free
    assert np.abs(all_logits(engine, case.tokens[:4], session=session) - case.trace.logits[:4]).max() <= tolerances.LOGITS
    engine.close()


def test_what_a_gpu_says_when_a_step_fails_reaches_the_caller(
    case_of: CaseMaker, device: str, fake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_on(device, case_of(MODEL).folder, **EXACT)
    monkeypatch.setenv("FAKE_METAL_FAILS", "run")
    with pytest.raises(RuntimeError, match=r"device metal: .*attn_qkv.* layer 1.*Caused GPU Hang Error"):
        engine.step([_core.Work(engine.session(), ids([1, 2, 3]))])
    monkeypatch.delenv("FAKE_METAL_FAILS")
    engine.close()


def test_a_model_that_does_not_fit_is_refused_with_figures(case_of: CaseMaker, device: str, fake: None) -> None:
    with pytest.raises(RuntimeError, match=r"out of memory: the KV cache \(\d+ bytes\).* of device metal, \d+ of"):
        open_on(device, case_of(MODEL).folder, max_context=131072, max_sequences=64)


def test_the_self_test_passes(device: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--device", device, "--quick"]) == 0
    out, err = capfd.readouterr()
    assert f"### {device}" in out and "the same bits, GPTOSS_METAL_MATRIX=0" in out and "emulator:" not in err


@pytest.mark.parametrize("index", [1, 3])
def test_a_gpu_that_is_not_there(case_of: CaseMaker, device: str, index: int) -> None:
    with pytest.raises(RuntimeError, match=f"there is no GPU {index}: 1 is present, counted from 0"):
        open_on(f"{device}:{index}", case_of(MODEL).folder)


def test_dense_weights_of_8_bits_are_refused(case_of: CaseMaker, device: str) -> None:
    with pytest.raises(RuntimeError, match="dense weights stay in bf16"):
        open_on(device, case_of(MODEL).folder, dense="int8")


@pytest.mark.parametrize(("limit", "words"), [
    ({"FAKE_METAL_THREADS": "64"}, r"launching kernel \w+: threadgroups of 128 x 1 x 1 threads, of which this GPU allows 64"),
    ({"FAKE_METAL_SHARED": "100"}, r"launching kernel \w+: \d+ bytes of threadgroup memory, of which this GPU has 100")])
def test_a_launch_beyond_the_limits_is_refused(
    case_of: CaseMaker, device: str, fake: None, monkeypatch: pytest.MonkeyPatch, limit: dict[str, str], words: str
) -> None:
    engine = open_on(device, case_of(MODEL).folder, **EXACT)
    for name, value in limit.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RuntimeError, match=words):
        engine.step([_core.Work(engine.session(), ids([1, 2, 3]))])
    engine.close()


def test_a_launch_that_is_waited_for_names_the_kernel(
    case_of: CaseMaker, device: str, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAL_LAUNCH_BLOCKING", "1")
    engine = open_on(device, case_of(MODEL).folder, **EXACT)
    trace.take()
    engine.step([_core.Work(engine.session(), ids([1, 2, 3]))])
    lines = trace.take()
    assert lines.count("commit") >= sum(line.startswith("dispatch") for line in lines) > 2 * 9
    monkeypatch.setenv("FAKE_METAL_FAILS", "run")
    with pytest.raises(RuntimeError, match="launching kernel embed: Caused GPU Hang Error"):
        engine.step([_core.Work(engine.session(), ids([1, 2, 3]))])
    monkeypatch.delenv("FAKE_METAL_FAILS")
    engine.close()


def test_steps_and_engines_leave_no_objects_behind(case_of: CaseMaker, device: str, trace: Trace) -> None:
    counts = []
    for steps in (5, 1):
        engine = open_on(device, case_of(MODEL).folder, **EXACT)
        session = engine.session()
        for _ in range(steps):
            engine.step([_core.Work(session, ids([1]), rows=ids([0]), sampling=GREEDY)])
        engine.close()
        counts.append([int(line.split()[1]) for line in trace.take() if line.startswith("living")])
    assert len(counts[0]) >= 5
    assert counts[0][-1] == counts[0][-3] == counts[1][-1]


OPEN = """
import sys
from gptoss_native import _core
_core.register_device("metal", sys.argv[1])
print(_core.Lab("metal", precision="exact", kv_dtype="f32"))
"""


@pytest.mark.parametrize(("variable", "value", "words"), [
    ("FAKE_METAL_FAILS", "compile", "Metal does not compile the kernels: program_source:7:1: error"),
    ("FAKE_METAL_FAILS", "pipeline", "Metal does not compile kernel rmsnorm: Compiler encountered an internal error"),
    ("FAKE_METAL_WIDTH", "16", "kernel rmsnorm runs in SIMD groups of another width than 32"),
    ("FAKE_METAL_FAMILY", "1006", "no Apple GPU (M1 or later, with macOS 14 or later) is here")])
def test_a_gpu_that_cannot_run_the_program(device: str, fake: None, variable: str, value: str, words: str) -> None:
    """In a process of its own: a program is compiled once."""
    result = subprocess.run([sys.executable, "-c", OPEN, str(plugin_of_emulated_metal())], capture_output=True, text=True,
                            env=os.environ | {variable: value})
    assert words in result.stderr, result.stdout + result.stderr


# --- The kernels alone, beside those of csrc/simt

@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_twins(tmp_path_factory)


def test_kernels_compute_what_their_namesakes_do(twins: Path) -> None:
    result = subprocess.run([twins / "metal_twins_test"], capture_output=True, text=True)
    assert result.returncode == 0 and " 0 checks FAILED" in result.stdout, result.stdout + result.stderr


# --- metal/runtime alone

@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_runtime_test(tmp_path_factory)


def test_the_runtime_waits_for_what_it_must_and_keeps_nothing(runtime: Path) -> None:
    result = subprocess.run([runtime / "metal_runtime_test"], capture_output=True, text=True)
    assert result.returncode == 0 and " 0 checks FAILED" in result.stdout, result.stdout + result.stderr


# --- Faults in both

@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.often or os.environ.get("GPTOSS_METAL_FAULTS") == "all"],
                         ids=lambda fault: fault.what.replace(" ", "_"))
def test_a_fault_is_caught(request: pytest.FixtureRequest, fault: Fault) -> None:
    name = "runtime" if fault.file.startswith("runtime/") else "twins"
    folder: Path = request.getfixturevalue(name)
    file = folder / "program" / fault.file
    text = file.read_text()
    assert fault.old in text, "the fault's place is gone: choose another"
    file.write_text(text.replace(fault.old, fault.new, 1))
    try:
        rebuild(folder, f"metal_{name}_test")
        only = [] if fault.case == LEFT else ["--only", fault.case]
        result = subprocess.run([folder / f"metal_{name}_test", *only], capture_output=True, text=True,
                                env=os.environ | ({"GPTOSS_EMULATOR_SEEDS": "4"} if name == "twins" else {}))
    finally:
        file.write_text(text)
    assert result.returncode != 0 and f"FAILED: {fault.case} " in result.stdout, result.stdout + result.stderr
