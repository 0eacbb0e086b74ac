"""A second device, the plug-in of tests/reference_device, through the same model, engine and Python as the CPU.

And what is said of plug-ins that cannot be used.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import gptoss_native as gptoss
import tolerances
from conftest import CaseMaker
from engines import all_logits, chunks, ids
from gptoss_native import _core
from gptoss_native.checkpoint.checkpoint import open_checkpoint
from make_checkpoint import hf_config, make_tensors, write_bf16
from native_build import ROOT, NativeBuild, native_build
from shapes import DEFAULT, MODELS
from test_sampling import KINDS, assert_same_draws
from test_sampling import SHAPE as SAMPLING_SHAPE

pytestmark = pytest.mark.slow

SHAPES = [shape for shape in MODELS if shape.name in (
    "default", "released_window", "random_nibbles", "all_sliding", "all_full", "window_of_one",
    "head_dim_24_three_kv_heads", "head_dim_128", "top_one_of_seven", "narrow_odd_vocab")]
FIELDS = ["residual", "attn", "lse", "router_logits", "router_choice", "router_weight"]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> NativeBuild:
    built = native_build(tmp_path_factory)
    if not built.same_abi:
        pytest.skip(built.difference)
    return built


@pytest.fixture(scope="module")
def device(build: NativeBuild) -> str:
    """The name under which the reference device is registered."""
    _core.register_device("reference", str(build.folder / "devices/gptoss_device_reference.so"))
    return "reference"


def open_on(device: str, folder: Path, **settings: Any) -> _core.Engine:
    checkpoint = open_checkpoint(folder)
    defaults: dict[str, Any] = {"precision": "exact", "kv_dtype": "f32", "threads": 0, "max_context": 4096,
                                "max_tokens": 512, "max_sequences": 2, "max_outputs": 512}
    engine = _core.Engine(checkpoint.config.to_dict(), device=device, **(defaults | settings))
    engine.load_ends(checkpoint.ends())
    for layer in range(checkpoint.config.num_hidden_layers):
        engine.load_layer(layer, checkpoint.layer(layer))
    engine.start()
    return engine


def generate(engine: _core.Engine, prompt: npt.NDArray[np.int32], steps: int, **sampling: Any) -> list[int]:
    settings = {"temperature": 0.0, "top_p": 1.0, "seed": 0} | sampling
    session, tokens, drawn = engine.session(), prompt, []
    for _ in range(steps):
        [output] = engine.step([_core.Work(session, ids(tokens), sampling=_core.Sampling(**settings))])
        drawn.append(output.token)
        tokens = ids([output.token])
    return drawn


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def pair(request: pytest.FixtureRequest, case_of: CaseMaker, device: str) -> Iterator[Any]:
    """A case, and its engines on the CPU and on the reference device."""
    case = case_of(request.param)
    engines = [open_on(name, case.folder) for name in ("cpu", device)]
    yield case, *engines
    for engine in engines:
        engine.close()


def test_exact_logits_are_those_of_the_cpu(pair: Any) -> None:
    case, cpu, other = pair
    assert np.abs(all_logits(cpu, case.tokens) - all_logits(other, case.tokens)).max() <= tolerances.LOGITS


def test_greedy_tokens_far_past_the_window(pair: Any) -> None:
    case, cpu, other = pair
    assert generate(cpu, case.tokens[:20], 140) == generate(other, case.tokens[:20], 140)


@pytest.mark.parametrize("sampling", [
    {"temperature": 1.0}, {"temperature": 0.7, "top_p": 0.9, "seed": 2**63 + 5},
    {"temperature": 1.5, "top_p": 0.4, "index": 7}, {"temperature": 1e-3, "seed": 9}])  # fmt: skip
def test_sampled_tokens_of_the_same_seed(case_of: CaseMaker, device: str, sampling: dict[str, Any]) -> None:
    case = case_of(DEFAULT)
    cpu, other = (open_on(name, case.folder) for name in ("cpu", device))
    assert generate(cpu, case.tokens[:5], 60, **sampling) == generate(other, case.tokens[:5], 60, **sampling)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_from_the_same_logits(case_of: CaseMaker, device: str, kind: str) -> None:
    case = case_of(SAMPLING_SHAPE)
    engines = [open_on(name, case.folder, max_sequences=8, max_context=2048) for name in ("cpu", device)]
    assert_same_draws(engines, kind, sequences=8, rounds=10)


def test_a_prompt_in_chunks_and_two_sequences_in_one_step(case_of: CaseMaker, device: str) -> None:
    case = case_of(DEFAULT)
    engine = open_on(device, case.folder)
    whole = all_logits(engine, case.tokens)
    for sizes in ([1], [7], [63, 1, 65, 128]):
        assert np.array_equal(all_logits(engine, case.tokens, sizes), whole)

    first, second = engine.session(), engine.session()
    parts: list[list[npt.NDArray[np.float32]]] = [[], []]
    for pieces in zip(chunks(case.tokens, [10]), chunks(case.tokens[::-1].copy(), [10]), strict=True):
        work = [_core.Work(session, ids(piece), rows=ids(range(len(piece))))
                for session, piece in zip((first, second), pieces, strict=True)]
        for part, output in zip(parts, engine.step(work), strict=True):
            part.append(output.logits)
    first.close()
    second.close()
    assert np.array_equal(np.concatenate(parts[0]), whole)
    assert np.array_equal(np.concatenate(parts[1]), all_logits(engine, case.tokens[::-1].copy()))


def test_tokens_taken_back(case_of: CaseMaker, device: str) -> None:
    case = case_of(DEFAULT)
    engine = open_on(device, case.folder)
    want = all_logits(engine, case.tokens)
    session = engine.session()
    all_logits(engine, case.tokens[:100], session=session)
    all_logits(engine, case.tokens[:40][::-1].copy(), session=session)  # a draft that is not kept
    assert session.truncate(100) == 100
    assert np.array_equal(all_logits(engine, case.tokens[100:], session=session), want[100:])


def test_sequences_that_share_a_prefix_part_ways(case_of: CaseMaker, device: str) -> None:
    """Inside a page, which each of them copies before it writes, and beyond the window."""
    case = case_of(DEFAULT)
    engine = open_on(device, case.folder)
    other = np.concatenate([case.tokens[:100], case.tokens[:50]])
    want = [all_logits(engine, tokens) for tokens in (case.tokens, other)]
    first = engine.session()
    engine.step([_core.Work(first, case.tokens[:100], checkpoints=[100])])
    second = engine.session(other)
    assert second.length == 100
    for session, tokens, logits in ((second, other, want[1]), (first, case.tokens, want[0])):
        assert np.array_equal(all_logits(engine, tokens[100:], session=session), logits[100:])


def test_observed_values_are_those_of_the_cpu(case_of: CaseMaker, device: str) -> None:
    case = case_of(DEFAULT)
    seen, outputs = [], []
    for name in ("cpu", device):
        engine = open_on(name, case.folder, max_observed=512)
        work = [_core.Work(engine.session(), case.tokens[:30]),
                _core.Work(engine.session(), case.tokens, rows=ids([149]))]
        output, fields = engine.observe(work, FIELDS)
        seen.append(fields)
        outputs.append(output[1].logits)
        assert np.array_equal(output[1].logits, all_logits(engine, case.tokens)[149:]), "observing changes no bit"
    cpu, other = seen
    assert np.array_equal(cpu.pop("router_choice"), other.pop("router_choice"))
    for field in cpu:
        assert tolerances.error(cpu[field], other[field].astype(np.float64))[1] <= 1e-4, field


def layer_fields(device: str, folder: Path, layer: int, **settings: str) -> dict[str, npt.NDArray[Any]]:
    """FIELDS after all stages of a layer, of 100 tokens and the same residual on every device."""
    residual = np.random.default_rng(4).normal(0, 2, (100, 64)).astype(np.float32)
    stages = ["attn_qkv", "attn", "attn_out", "moe_route", "moe_up", "moe_down"]
    engine = open_on(device, folder, **settings)
    work = _core.Work(engine.session(), ids(range(100)))
    fields = engine.run_stages(stages, layer, [work], {"residual": residual}, FIELDS)
    engine.close()
    return fields


@pytest.mark.parametrize("layer", [0, 1], ids=["sliding", "full"])
def test_every_field_of_a_layer(case_of: CaseMaker, device: str, layer: int) -> None:
    cpu, other = (layer_fields(name, case_of(DEFAULT).folder, layer) for name in ("cpu", device))
    assert np.array_equal(cpu.pop("router_choice"), other.pop("router_choice"))
    for field in cpu:
        assert tolerances.error(cpu[field], other[field].astype(np.float64))[1] <= 2e-5, field


@pytest.mark.parametrize(("precision", "kv_dtype"), [("exact", "bf16"), ("fast", "f32"), ("fast", "bf16")])
def test_both_round_the_same_operands(case_of: CaseMaker, device: str, precision: str, kv_dtype: str) -> None:
    """They are nearer to each other than to exact arithmetic. Not as near as two exact ones are: a softmax weight
    is rounded relative to a maximum of the device's own choice."""
    folder = case_of(DEFAULT).folder
    exact = layer_fields(device, folder, 1)
    cpu, other = (layer_fields(name, folder, 1, precision=precision, kv_dtype=kv_dtype)
                  for name in ("cpu", device))
    for field in ("attn", "lse", "router_logits", "residual"):
        effect = tolerances.error(other[field], exact[field].astype(np.float64))[0]
        assert effect > 1e-5, field
        assert tolerances.error(cpu[field], other[field].astype(np.float64))[0] < 0.5 * effect, field


def test_experts_in_bf16(tmp_path: Path, device: str) -> None:
    config = hf_config(num_hidden_layers=2)
    write_bf16(tmp_path, config, make_tensors(config, 7), tokenizer=False)
    tokens = np.arange(50)
    cpu, other = (all_logits(open_on(name, tmp_path), tokens) for name in ("cpu", device))
    assert np.abs(cpu - other).max() <= tolerances.LOGITS


def test_an_interrupted_step_leaves_no_trace(case_of: CaseMaker, device: str) -> None:
    """The plug-in throws, the module catches: the type of the exception is the same on both sides."""
    case = case_of(DEFAULT)
    engine = open_on(device, case.folder, max_tokens=2048, max_outputs=2048)
    session, free = engine.session(), engine.free_pages
    long = np.resize(case.tokens, 2000)
    with pytest.raises(InterruptedError, match="nothing was added"):
        engine.step([_core.Work(session, long)], interrupted=lambda: True)

    def complain() -> bool:
        raise LookupError("the caller's own")

    with pytest.raises(LookupError, match="the caller's own"):
        engine.step([_core.Work(session, long)], interrupted=complain)
    assert session.length == 0 and engine.free_pages == free
    assert np.array_equal(all_logits(engine, case.tokens, session=session), all_logits(engine, case.tokens))


def test_the_package_uses_it_like_any_other(
    case_of: CaseMaker, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = case_of(DEFAULT).folder
    [listed] = [entry for entry in gptoss.info()["devices"] if entry["name"] == device]
    assert listed == {"name": device, "built": True, "present": True, "detail": "plain loops, for tests"}
    params = gptoss.SamplingParams(temperature=0.8, top_p=0.95, seed=11, max_tokens=40)
    results = {}
    for name in ("cpu", device):
        with gptoss.load(folder, device=name, max_context=256, precision="exact", kv_dtype="f32") as engine:
            assert engine.device.name == name
            results[name] = engine.generate([1, 2, 3], params).tokens
    assert results["cpu"] == results[device]
    monkeypatch.setenv("GPTOSS_BACKEND", device)
    with gptoss.load(folder, max_context=64) as engine:
        assert engine.device.name == device
    monkeypatch.delenv("GPTOSS_BACKEND")
    with gptoss.load(folder, max_context=64) as engine:  # a device for tests is nobody's best choice
        assert engine.device.name != device


# ---- plug-ins that cannot be used --------------------------------------------------------------------------

PLUGIN = """
#include <cstdio>
#include "backend.h"
#include "build_info.h"
using namespace gptoss;
static bool probe(char* detail, size_t bytes) {
  std::snprintf(detail, bytes, "no card: plug one in");
  return PRESENT;
}
static Backend* create(const BackendOptions*, char* error, size_t bytes) {
  std::snprintf(error, bytes, "the card is on fire");
  return nullptr;
}
static const DevicePlugin plugin{build::kAbiHash + NEWER, probe, create};
extern "C" __attribute__((visibility("default"))) const DevicePlugin* ENTRY() {
  return NOTHING ? nullptr : &plugin;
}
"""


def compile_plugin(build: NativeBuild, folder: Path, **change: str | int) -> str:
    """A plug-in that is present and fails in create(), but for the changes."""
    source, library = folder / "plugin.cpp", folder / "plugin.so"
    source.write_text(PLUGIN)
    values = {"PRESENT": "true", "NEWER": "0", "ENTRY": "gptoss_device", "NOTHING": "false"} | change
    defines = [f"-D{name}={value}" for name, value in values.items()]
    command = [build.compiler, "-std=c++20", "-shared", "-fPIC", f"-I{ROOT}/csrc",
               f"-I{build.folder}/generated", *defines, str(source), "-o", str(library)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return str(library)


@pytest.mark.parametrize(("change", "words"), [
    ({"NEWER": 1}, "made by another build than this module; build both together"),
    ({"ENTRY": "other_device"}, "expected an entry named gptoss_device, found none"),
    ({"NOTHING": "true"}, "its entry gptoss_device returned nothing"),
])  # fmt: skip
def test_a_plug_in_of_another_make_is_refused(
    build: NativeBuild, tmp_path: Path, change: dict[str, str | int], words: str
) -> None:
    library = compile_plugin(build, tmp_path, **change)
    with pytest.raises(RuntimeError, match=words) as error:
        _core.register_device("of_another_make", library)
    assert library in str(error.value)
    assert "of_another_make" not in [entry["name"] for entry in _core.info()["devices"]]


@pytest.mark.parametrize("contents", [None, b"", b"not a shared object\n"])
def test_a_file_that_is_no_plug_in_is_refused(tmp_path: Path, contents: bytes | None) -> None:
    path = tmp_path / "device.so"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(RuntimeError, match="cannot be opened") as error:
        _core.register_device("no_plug_in", str(path))
    assert str(path) in str(error.value)


def test_a_card_that_is_absent(build: NativeBuild, tmp_path: Path, case_of: CaseMaker) -> None:
    _core.register_device("absent", compile_plugin(build, tmp_path, PRESENT="false"))
    [listed] = [entry for entry in _core.info()["devices"] if entry["name"] == "absent"]
    assert listed == {"name": "absent", "built": True, "present": False, "detail": "no card: plug one in"}
    folder = case_of(DEFAULT).folder
    with pytest.raises(RuntimeError, match="device absent is not present: no card: plug one in"):
        open_on("absent", folder)
    with pytest.raises(gptoss.DeviceError, match="no card: plug one in"):
        gptoss.load(folder, device="absent")


def test_a_card_that_fails_says_why(build: NativeBuild, tmp_path: Path, case_of: CaseMaker) -> None:
    _core.register_device("failing", compile_plugin(build, tmp_path))
    folder = case_of(DEFAULT).folder
    with pytest.raises(RuntimeError, match="device failing: the card is on fire"):
        open_on("failing", folder)
    with pytest.raises(gptoss.DeviceError, match="the card is on fire"):
        gptoss.load(folder, device="failing")


def test_a_name_that_nobody_knows(case_of: CaseMaker) -> None:
    with pytest.raises(ValueError, match="no device is named 'abacus'"):
        open_on("abacus", case_of(DEFAULT).folder)


def test_the_name_of_the_cpu_is_taken(build: NativeBuild, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'cpu' is taken"):
        _core.register_device("cpu", compile_plugin(build, tmp_path))
