"""gptoss-native selftest: that it passes here, covers every kernel, finds each kernel that is wrong, and says so."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulated import register_emulated
from gptoss_native import _core, demo, ops
from gptoss_native.cli import main
from gptoss_native.engine.loading import load
from gptoss_native.ops.tolerances import Tolerance
from gptoss_native.selftest import cases, model
from gptoss_native.selftest.compare import equal, near
from gptoss_native.selftest.run import Outcome, kernel_outcomes, model_outcomes

Change = Callable[[list[Any]], None]
LAB = _core.Lab


def silent(text: str) -> None:
    """No progress."""


def kernels(shapes: Callable[[], Any] = cases.small_cases, device: ops.Device | None = None) -> list[Outcome]:
    return list(kernel_outcomes(device or ops.Device("cpu", threads=2, poison=True), "cpu", shapes(), silent))


def test_every_operation_has_small_and_real_cases() -> None:
    """But the two of the host, which are tested as they are."""
    operations = {name for name in ops.__all__ if name.islower() and name not in ("reference", "tolerances")}
    host = {case.kernel for case in cases.host_cases()}
    assert host == {"rope_table", "quantize_mxfp4"}
    assert {case.kernel for case in cases.small_cases()} == operations - host
    assert {case.kernel for case in cases.real_cases()} == operations - host - {"mxfp4_grouped"}  # moe_down's kernel
    for shapes in (cases.small_cases, cases.real_cases):
        precisions = {(case.kernel, case.precision) for case in shapes()}
        assert all((kernel, "fast") in precisions for kernel, precision in precisions if precision == "exact")


@pytest.mark.slow
def test_the_cpu_passes_and_the_report_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "selftest.json"
    assert main(["selftest", "--device", "cpu", "--json", str(target)]) == 0
    printed = capsys.readouterr().out
    result = json.loads(target.read_text(), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    checks = result["checks"]
    assert result["schema"] == 1 and result["failed"] == 0 and {check["verdict"] for check in checks} == {"ok"}
    usable = [isa["name"] for isa in _core.info()["cpu_isas"] if isa["usable"] and isa["name"] != _core.info()["cpu_isa"]]
    assert list(dict.fromkeys(check["device"] for check in checks)) == ["cpu", *(f"cpu ({isa})" for isa in usable)]
    assert f"\n{len(checks)} of {len(checks)} checks passed.\n" in printed
    assert all(f"| {check['check']} " in printed and check["shape"] in printed for check in checks)
    timed = [check for check in checks if check["gigabytes_per_second"] is not None]
    assert len(timed) > 50 and all(check["seconds"] > 0 and check["gigabytes_per_second"] > 0 for check in timed)
    for fact in ("gptoss_native", "compiler", "python", "numpy", "system", "cpu", "instruction_sets", "device cuda"):
        assert result["machine"][fact] and f"- {fact}: {result['machine'][fact]}" in printed
    assert str(tmp_path) not in printed, "where somebody keeps his files is nobody's business"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["emulated", "emulated_wave64"])
def test_an_emulated_gpu_passes(tmp_path_factory: pytest.TempPathFactory, capfd: pytest.CaptureFixture[str], name: str) -> None:
    """With CUDA's headers, and with HIP's; Metal's is in test_metal.py."""
    device = register_emulated(tmp_path_factory, name)
    assert main(["selftest", "--device", device, "--quick"]) == 0
    out, err = capfd.readouterr()
    assert f"### {device}" in out and "model: greedy tokens" in out and "emulator:" not in err


# ---- wrong kernels

class WrongLab:
    """A device of which one kernel gets other arguments than it was called with, and so computes something else."""

    def __init__(self, lab: _core.Lab, kernel: str, change: Change) -> None:
        self.lab, self.kernel, self.change = lab, kernel, change

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.lab, name)
        if name != self.kernel:
            return found

        def wrong(*arguments: Any) -> Any:
            changed = list(arguments)
            self.change(changed)
            return found(*changed)
        return wrong


def put(index: int, value: Any) -> Change:
    def change(arguments: list[Any]) -> None:
        arguments[index] = value(arguments[index])
    return change


def array(change: Callable[[Any], Any]) -> Callable[[_core.Array], _core.Array]:
    """Of an operand: other numbers."""
    return lambda operand: _core.Array.from_numpy(np.ascontiguousarray(change(operand.numpy())))


def swap_queries(arguments: list[Any]) -> None:
    """Lengths of another order: what a kernel that mixes up its sequences has."""
    queries, keys = arguments[6], arguments[7]
    if len(queries) == 3 and queries[0] != queries[1]:
        arguments[6], arguments[7] = [queries[1], queries[0], queries[2]], [keys[1], keys[0], keys[2]]


def elsewhere(index: int) -> Change:
    """It writes nothing where its result should be."""
    return put(index, array(np.zeros_like))


@pytest.mark.parametrize(("kernel", "change", "found"), [
    ("linear", put(2, lambda bias: None), "linear"),
    ("linear", put(0, array(lambda x: np.roll(x, 1, -1))), "linear"),
    ("linear", put(0, array(lambda x: x * np.float32(1 + 1e-4))), "linear"),
    ("linear", elsewhere(3), "linear"),
    ("moe_down", put(3, lambda bias: None), "mxfp4_linear"),
    ("moe_down", put(2, array(lambda scales: scales - 1)), "mxfp4_grouped"),
    ("moe_down", put(1, array(lambda blocks: blocks >> 4 | blocks << 4)), "mxfp4_linear"),  # the wrong nibble first
    ("moe_down", put(4, lambda choice: choice and array(lambda c: c[::-1])(choice)), "moe_down"),
    ("moe_down", put(5, lambda weight: weight and array(np.ones_like)(weight)), "moe_down"),
    ("moe_up", put(12, lambda alpha: 1.7), "moe_up"),
    ("moe_up", put(11, lambda limit: 7.5), "moe_up"),
    ("moe_up", put(4, array(lambda choice: choice[:, ::-1])), "moe_up"),
    ("moe_up", elsewhere(5), "moe_up"),
    ("attention", put(11, lambda window: max(window - 1, 0)), "attention"),
    ("attention", put(3, array(np.zeros_like)), "attention"),  # no sinks
    ("attention", put(2, array(lambda v: v[:, ::-1])), "attention"),  # the wrong head of a group
    ("attention", swap_queries, "attention"),
    ("attention", elsewhere(5), "attention"),
    ("rms_norm", put(5, lambda eps: 1e-6), "rms_norm"),
    ("swiglu", put(4, lambda limit: 6.0), "swiglu"),
    ("swiglu", put(0, array(lambda u: u[:, ::-1])), "swiglu"),  # gate and up
    ("rope", put(3, lambda concentration: 1.0), "rope"),
    ("rope", put(1, array(lambda position: position + 1)), "rope"),
    ("route", put(0, array(lambda logits: np.ascontiguousarray(-logits))), "route"),
    ("dequantize", put(1, array(lambda scales: np.maximum(scales, 1) - 1)), "dequantize_mxfp4"),
    ("sample", put(2, lambda positions: [position + 1 for position in positions]), "sample"),
    ("sample", put(0, array(lambda logits: logits * np.float32(1.001))), "sample"),
])  # fmt: skip
def test_a_wrong_kernel_is_found(monkeypatch: pytest.MonkeyPatch, kernel: str, change: Change, found: str) -> None:
    monkeypatch.setattr(_core, "Lab", lambda *args, **kwargs: WrongLab(LAB(*args, **kwargs), kernel, change))
    outcomes = kernels()
    wrong = {outcome.check for outcome in outcomes if outcome.verdict != "ok"}
    assert found in wrong
    of_that_kernel = {"mxfp4_linear", "mxfp4_grouped", "moe_down"} if kernel == "moe_down" else {found}
    assert wrong <= of_that_kernel, "the others are right"
    assert not any(outcome.message for outcome in outcomes), "wrong, and no error"


@pytest.mark.parametrize(("asked", "instead"), [
    ({"precision": "fast"}, {"precision": "exact"}), ({"precision": "exact"}, {"precision": "fast"}),
    ({"kv_dtype": "f32"}, {"kv_dtype": "bf16"})], ids=str)
def test_what_rounds_otherwise_is_found(monkeypatch: pytest.MonkeyPatch, asked: dict[str, str], instead: dict[str, str]) -> None:
    def other(*args: Any, **kwargs: Any) -> _core.Lab:
        return LAB(*args, **(kwargs | instead if asked.items() <= kwargs.items() else kwargs))

    monkeypatch.setattr(_core, "Lab", other)
    wrong = {outcome.check for outcome in kernels() if outcome.verdict == "WRONG"}
    rounding = {"linear", "mxfp4_linear", "mxfp4_grouped", "moe_up", "moe_down", "rms_norm", "swiglu", "rope"}
    assert wrong >= ({"attention"} if "kv_dtype" in asked else rounding)


def test_only_the_real_shapes_have_so_many_experts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that counts experts in too few bits is right with few of them."""
    monkeypatch.setattr(_core, "Lab", lambda *args, **kwargs: WrongLab(
        LAB(*args, **kwargs), "moe_down", put(4, lambda choice: choice and array(lambda c: c % 64)(choice))))
    assert {outcome.verdict for outcome in kernels()} == {"ok"}
    large = kernels(lambda: (case for case in cases.real_cases() if case.kernel == "moe_down" and case.precision == "fast"))
    assert [outcome.verdict for outcome in large] == ["ok", "WRONG"]


def test_a_device_that_takes_the_process_with_it_leaves_the_checks_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def dies(*args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(ops, "rope", dies)
    target = tmp_path / "selftest.json"
    with contextlib.suppress(KeyboardInterrupt):
        main(["selftest", "--device", "cpu", "--quick", "--json", str(target)])
    checked = {check["check"] for check in json.loads(target.read_text())["checks"]}
    assert "linear" in checked and "rope" not in checked


def test_a_kernel_that_fails_is_one_outcome_and_the_exit_status_is_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the card is on fire")

    monkeypatch.setattr(ops, "rope", fail)
    target = tmp_path / "selftest.json"
    assert main(["selftest", "--device", "cpu", "--quick", "--json", str(target)]) == 1
    printed = capsys.readouterr().out
    assert "FAILED" in printed and "- cpu, rope, 4 tokens, 2 heads of 24, exact: RuntimeError: the card is on fire" in printed
    result = json.loads(target.read_text())
    failed = [check for check in result["checks"] if check["verdict"] == "FAILED"]
    assert {check["check"] for check in failed} == {"rope"} and result["failed"] == len(failed)
    assert f"{len(result['checks']) - len(failed)} of {len(result['checks'])} checks passed. Please report" in printed


# ---- wrong models

@pytest.fixture
def other_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[Outcome]]:
    """The checks of a device that runs the model with another config than the oracle."""
    def outcomes(sizes: model.Sizes = model.QUICK, **fields: Any) -> list[Outcome]:
        folder = tmp_path / "model"
        shutil.copytree(demo.path(), folder, ignore=shutil.ignore_patterns("__*"))
        config = json.loads((folder / "config.json").read_text()) | fields
        (folder / "config.json").write_text(json.dumps(config))
        monkeypatch.setattr(model, "load", lambda **options: load(folder, **options))
        return list(model_outcomes("cpu", sizes, silent))
    return outcomes


def test_the_model_on_the_cpu_is_right(other_model: Callable[..., list[Outcome]]) -> None:
    assert [outcome.verdict for outcome in other_model()] == ["ok"] * 3


@pytest.mark.parametrize("fields", [{"rms_norm_eps": 1e-4}, {"swiglu_limit": 2.0}, {"experts_per_token": 1, "num_experts_per_tok": 1}], ids=str)
def test_a_wrong_model_is_found(other_model: Callable[..., list[Outcome]], fields: dict[str, Any]) -> None:
    assert "model: logits" in {outcome.check for outcome in other_model(**fields) if outcome.verdict == "WRONG"}


def test_a_wrong_window_shows_in_a_prompt_that_crosses_it(other_model: Callable[..., list[Outcome]]) -> None:
    wrong = [outcome.check for outcome in other_model(replace(model.QUICK, prompt=132), sliding_window=127) if outcome.verdict == "WRONG"]
    assert "model: logits" in wrong


def test_chunks_tokens_and_answers_that_are_wrong_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Engine:
        """Off by one bit in steps of few tokens, by one token when it draws, and no good at sums."""

        def __init__(self, options: dict[str, Any]) -> None:
            self.engine, self.small = load(**options), options.get("token_budget", 512) < 512

        def __enter__(self) -> Engine:
            return self

        def __exit__(self, *of: object) -> None:
            self.engine.close()

        def logits(self, ids: Any) -> Any:
            found = self.engine.logits(ids)
            found[3, 5] = np.nextafter(found[3, 5], np.float32(99)) if self.small else found[3, 5]
            return found

        def generate(self, ids: Any, params: Any) -> Any:
            completion = self.engine.generate(ids, params)
            return replace(completion, tokens=[*completion.tokens[:-1], completion.tokens[-1] ^ 1])

        def chat(self, messages: Any, params: Any) -> Any:
            return self.engine.chat([{"role": "user", "content": "What is 27 + 59?"}], params=params)

    monkeypatch.setattr(model, "load", lambda **options: Engine(options))
    verdicts = {outcome.check: outcome.verdict for outcome in model_outcomes("cpu", replace(model.QUICK, asks=True), silent)}
    assert verdicts == {"model: logits": "ok", "model: prefill in chunks": "WRONG", "model: greedy tokens": "WRONG",
                        "model: answer": "WRONG"}


# ---- comparisons, and what is refused

def test_what_counts_as_near() -> None:
    limits = Tolerance(1e-3, 2e-3, "")
    want = np.array([1.0, -1.0, 1.0, -1.0])
    assert near("", want.astype(np.float32), want, limits).used == 0
    assert near("", want + [0, 0, 1.9e-3, 0], want, limits).used == pytest.approx(0.95)
    assert near("", want + [0, 0, 2.1e-3, 0], want, limits).used > 1, "one value"
    assert near("", want * 1.0015, want, limits).used > 1, "all of them"
    assert near("", 10 * want * (1 + 9e-4), 10 * want, limits).used == pytest.approx(0.9), "relative"
    assert near("", 10 * want * (1 + 9e-4), 10 * want, limits, absolute=True).used > 1
    assert near("", want + [0, 1.5e-3, 0, 0], want, limits, slack=1e-3).used == pytest.approx(0.25), "one on the other side"
    assert near("", want + [0, 2.5e-3, 2.5e-3, 0], want, limits, slack=1e-3).used == pytest.approx(1.25), "two"
    assert near("", want + [0, 3.5e-3, 0, 0], want, limits, slack=1e-3).used == pytest.approx(1.25), "too far for that"
    for bad in (np.nan, np.inf):
        assert near("", np.where([True, False, False, False], bad, want), want, limits).used > 1
    assert near("", want[:3], want, limits).used > 1 and equal("", want[:3], want).used > 1
    assert equal("", want, want).used == 0 and equal("", want + [0, 1e-15, 0, 0], want).used > 1
    assert equal("", np.array([np.nan]), np.array([np.nan])).used > 1
    assert Outcome("cpu", "", "", "").verdict == "WRONG", "nothing was compared"


@pytest.mark.parametrize(("arguments", "said"), [
    (["--device", "abacus"], "is not a device of this package; it knows"),
    (["--device", "cpu", "--device", "hip"], "hip' cannot be used: it was not built: "),
    (["--device", "cpu:1"], "there is one cpu"),
    (["--device", "auto"], "--device takes the name of a device"),
    (["cpu"], "unrecognized argument: cpu"),
])  # fmt: skip
def test_a_device_that_is_not_there_is_a_usage_error(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "hip" in arguments and any(device["name"] == "hip" and device["built"] for device in _core.info()["devices"]):
        pytest.skip("hip was built")
    assert main(["selftest", *arguments]) == 2
    out, err = capsys.readouterr()
    assert said in err and err.count("\n") == 1 and out == ""
