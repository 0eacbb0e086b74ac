"""The GPU device of csrc/simt: its sources over the emulator, as a plug-in beside the CPU, and on a card if there is one.

The emulator looks at every access of every kernel and reports races, bounds and divergence as a failed launch, so a
test that passes also says that the kernels were silent. Shapes are small: it is some thousand times slower than a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import gptoss_native as gptoss
import tolerances
from conftest import CaseMaker
from emulated import EMULATED, register_emulated
from engines import all_logits, ids, logits_together, skip_unless_present
from gptoss_native import _core, ops
from gptoss_native.config.config import Config
from gptoss_native.engine import planning
from gptoss_native.ops import reference as oracle
from make_checkpoint import PRESETS, hf_config, make_tensors, write_bf16
from shapes import FULL, SLIDING, Shape
from test_device_plugin import FIELDS, generate, open_on
from test_sampling import KINDS, assert_same_draws
from test_sampling import SHAPE as SAMPLING_SHAPE

pytestmark = pytest.mark.slow

SMALL = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 32, "head_dim": 16, "num_attention_heads": 4,
         "num_key_value_heads": 2, "num_local_experts": 6, "num_experts_per_tok": 2, "vocab_size": 101}


def small(name: str, *, prompt: int, random_nibbles: bool = False, **fields: Any) -> Shape:
    return Shape(name, SMALL | fields, prompt, random_nibbles)


DEFAULT = small("emulated", prompt=72)
SHAPES = [
    DEFAULT,
    small("emulated_window", sliding_window=128, prompt=131, num_hidden_layers=1, layer_types=[SLIDING]),
    small("emulated_nibbles", random_nibbles=True, hidden_size=64, intermediate_size=96, prompt=7),
    small("emulated_window_of_one", sliding_window=1, prompt=20),
    small("emulated_head_dim_24", head_dim=24, num_attention_heads=6, num_key_value_heads=3, prompt=20),
    small("emulated_head_dim_128", head_dim=128, num_attention_heads=2, num_key_value_heads=1, prompt=20),
    small("emulated_top_one", num_local_experts=7, num_experts_per_tok=1, prompt=20),
    small("emulated_many_experts", num_local_experts=130, num_experts_per_tok=8, prompt=20, num_hidden_layers=1),
]
EXACT = {"max_context": 256, "max_tokens": 160, "max_outputs": 160, "threads": 2}


CARDS = [pytest.param(name, marks=pytest.mark.gpu) for name in ("cuda", "hip")]
WAVES = ["emulated_wave64", pytest.param("emulated_wave32", marks=pytest.mark.skipif(
    "GPTOSS_EMULATED_WAVE32" not in os.environ, reason="gpu_backend_wave32_test does; set GPTOSS_EMULATED_WAVE32 for more"))]


@pytest.fixture(scope="module", params=["emulated", *CARDS])
def device(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a device that is registered and present."""
    if request.param in EMULATED:
        return register_emulated(tmp_path_factory, request.param)
    skip_unless_present(request.param)
    name: str = request.param
    return name


in_every_wave = pytest.mark.parametrize("device", ["emulated", *WAVES, *CARDS], indirect=True, scope="module")
"""Also with HIP's runtime. All of this file ran so: what stays is quick, or depends on how many lanes a wave has."""


@pytest.fixture(autouse=True)
def silent(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """A fault that nobody noticed in the numbers is still a fault."""
    yield
    assert "emulator:" not in capfd.readouterr().err


def reset_seed(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setenv("GPTOSS_EMULATOR_SEED", str(seed))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_exact_logits_are_those_of_the_reference(case_of: CaseMaker, device: str, shape: Shape) -> None:
    case = case_of(shape)
    engine = open_on(device, case.folder, **EXACT)
    got = all_logits(engine, case.tokens)
    engine.close()
    assert np.abs(got - case.trace.logits).max() <= tolerances.LOGITS


def test_chunks_token_by_token_and_another_schedule_change_no_bit(
    case_of: CaseMaker, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also: a step alone is the same eagerly, captured, and replayed."""
    case = case_of(DEFAULT)
    tokens = case.tokens[:66]
    engine = open_on(device, case.folder, **EXACT)
    whole = all_logits(engine, tokens)
    for sizes in ([1], [63, 1, 2]):
        assert np.array_equal(all_logits(engine, tokens, sizes), whole), sizes
    engine.close()
    for seed in (1, 2):
        reset_seed(monkeypatch, seed)
        engine = open_on(device, case.folder, **EXACT)
        assert np.array_equal(all_logits(engine, tokens, [40]), whole)
        engine.close()


@in_every_wave
@pytest.mark.parametrize("length", [127, 128, 129])
def test_a_window_of_128(case_of: CaseMaker, device: str, length: int) -> None:
    """The last token, decoded after a prefill of all others, at each side of the window's edge."""
    case = case_of(SHAPES[1])
    engine = open_on(device, case.folder, **EXACT)
    session = engine.session()
    engine.step([_core.Work(session, ids(case.tokens[:length]))])
    [output] = engine.step([_core.Work(session, ids(case.tokens[length:length + 1]), rows=ids([0]))])
    engine.close()
    assert np.abs(output.logits[0] - case.trace.logits[length]).max() <= tolerances.LOGITS


def test_two_sequences_in_one_step_are_two_alone(case_of: CaseMaker, device: str) -> None:
    case = case_of(DEFAULT)
    engine = open_on(device, case.folder, **EXACT)
    prompts = [case.tokens[:24], case.tokens[30:54][::-1].copy()]
    alone = [all_logits(engine, prompt) for prompt in prompts]
    together = logits_together(engine, prompts, [11, 1])
    engine.close()
    for got, want in zip(together, alone, strict=True):
        assert np.array_equal(got, want)


def test_a_long_context_in_splits(case_of: CaseMaker, device: str) -> None:
    """A prefill sums the splits of a query in one warp, a decode step each of them in its own: the same bits."""
    shape = small("emulated_splits", num_hidden_layers=1, layer_types=[FULL], num_attention_heads=1,
                  num_key_value_heads=1, prompt=1026)
    case = case_of(shape)
    engine = open_on(device, case.folder, max_context=2048, max_tokens=1100, max_outputs=8)
    session = engine.session()
    [whole] = engine.step([_core.Work(session, case.tokens, rows=ids([1025]))])
    assert session.truncate(1025) == 1025
    [decoded] = engine.step([_core.Work(session, case.tokens[1025:], rows=ids([0]))])
    engine.close()
    assert np.array_equal(decoded.logits, whole.logits)
    assert np.abs(whole.logits[0] - case.trace.logits[1025]).max() <= tolerances.LOGITS


@pytest.mark.parametrize("sampling", [
    {}, {"temperature": 1.0}, {"temperature": 0.7, "top_p": 0.9, "seed": 2**63 + 5}], ids=str)
def test_generated_tokens_are_those_of_the_cpu(case_of: CaseMaker, device: str, sampling: dict[str, Any]) -> None:
    case = case_of(DEFAULT)
    cpu, other = (open_on(name, case.folder, **EXACT) for name in ("cpu", device))
    assert generate(cpu, case.tokens[:5], 20, **sampling) == generate(other, case.tokens[:5], 20, **sampling)
    other.close()


@in_every_wave
@pytest.mark.parametrize("kind", KINDS)
def test_draws_from_the_same_logits(case_of: CaseMaker, device: str, kind: str) -> None:
    case = case_of(SAMPLING_SHAPE)
    engines = [open_on(name, case.folder, max_sequences=3, max_context=2048, max_tokens=8, max_outputs=8)
               for name in ("cpu", device)]
    assert_same_draws(engines, kind, sequences=3, rounds=2)
    engines[1].close()


def layer_fields(device: str, folder: Path, layer: int, **settings: Any) -> dict[str, npt.NDArray[Any]]:
    """FIELDS after all stages of a layer, of 20 tokens and the same residual on every device."""
    residual = np.random.default_rng(4).normal(0, 2, (20, 32)).astype(np.float32)
    stages = ["attn_qkv", "attn", "attn_out", "moe_route", "moe_up", "moe_down"]
    engine = open_on(device, folder, **(EXACT | settings))
    fields = engine.run_stages(stages, layer, [_core.Work(engine.session(), ids(range(20)))], {"residual": residual}, FIELDS)
    engine.close()
    return fields


@pytest.mark.parametrize("layer", [0, 1], ids=["sliding", "full"])
def test_every_field_of_a_layer(case_of: CaseMaker, device: str, layer: int) -> None:
    cpu, other = (layer_fields(name, case_of(DEFAULT).folder, layer) for name in ("cpu", device))
    assert np.array_equal(cpu.pop("router_choice"), other.pop("router_choice"))
    for field in cpu:
        assert tolerances.error(cpu[field], other[field].astype(np.float64))[1] <= 2e-5, field


@in_every_wave
@pytest.mark.parametrize(("precision", "kv_dtype"), [("exact", "bf16"), ("fast", "f32"), ("fast", "bf16")])
def test_both_round_the_same_operands(case_of: CaseMaker, device: str, precision: str, kv_dtype: str) -> None:
    """They are nearer to each other than to exact arithmetic."""
    folder = case_of(DEFAULT).folder
    exact = layer_fields("cpu", folder, 1)
    cpu, other = (layer_fields(name, folder, 1, precision=precision, kv_dtype=kv_dtype) for name in ("cpu", device))
    for field in ("attn", "lse", "router_logits", "residual"):
        effect = tolerances.error(other[field], exact[field].astype(np.float64))[0]
        assert effect > 1e-5, field
        assert tolerances.error(cpu[field], other[field].astype(np.float64))[0] < 0.5 * effect, field


def test_observed_values_are_those_of_the_cpu(case_of: CaseMaker, device: str) -> None:
    case = case_of(DEFAULT)
    seen = []
    for name in ("cpu", device):
        engine = open_on(name, case.folder, max_observed=40, **EXACT)
        work = [_core.Work(engine.session(), ids(case.tokens[:9])),
                _core.Work(engine.session(), ids(case.tokens[:20]), rows=ids([19]))]
        output, fields = engine.observe(work, FIELDS)
        seen.append(fields)
        assert np.array_equal(output[1].logits, all_logits(engine, case.tokens[:20])[19:]), "observing changes no bit"
        engine.close()
    cpu, other = seen
    assert np.array_equal(cpu.pop("router_choice"), other.pop("router_choice"))
    for field in cpu:
        assert tolerances.error(cpu[field], other[field].astype(np.float64))[1] <= 1e-4, field


def test_sequences_that_share_a_prefix_part_ways(case_of: CaseMaker, device: str) -> None:
    """Inside a page, which each of them copies before it writes."""
    case = case_of(DEFAULT)
    engine = open_on(device, case.folder, **EXACT)
    other = np.concatenate([case.tokens[:30], case.tokens[:6]])
    want = [all_logits(engine, tokens) for tokens in (case.tokens[:36], other)]
    first = engine.session()
    engine.step([_core.Work(first, ids(case.tokens[:30]), checkpoints=[30])])
    second = engine.session(other)
    assert second.length == 30
    for session, tokens, logits in ((second, other, want[1]), (first, case.tokens[:36], want[0])):
        assert np.array_equal(all_logits(engine, tokens[30:], session=session), logits[30:])
    engine.close()


@in_every_wave
def test_rows_that_no_wave_holds_at_once(device: str) -> None:
    """More words, dimensions, pairs, experts and elements than a wave has lanes, or half as many lanes as it might have."""
    rng = np.random.default_rng(6)
    asked: dict[str, Any] = {"device": device, "precision": "exact"}

    def normal(*shape: int) -> npt.NDArray[np.float32]:
        return rng.normal(0, 1, shape).astype(np.float32)

    x, weight = normal(3, 320), oracle.to_bf16(normal(5, 320))
    tolerances.check(ops.linear(x, weight, **asked), oracle.linear(x, weight), tolerances.EXACT["product"])
    x, gain = normal(2, 1184), oracle.to_bf16(normal(1184))
    tolerances.check(ops.rms_norm(x, gain, **asked), oracle.rms_norm(x, gain), tolerances.EXACT["product"])
    blocks, scales = rng.integers(0, 256, (5, 37, 16), dtype=np.uint8), rng.integers(117, 125, (5, 37), dtype=np.uint8)
    tolerances.check(ops.mxfp4_linear(x, blocks, scales, **asked), oracle.mxfp4_linear(x, blocks, scales), tolerances.EXACT["product"])
    q, k, v, sinks = normal(3, 2, 128), normal(70, 1, 128), normal(70, 1, 128), oracle.to_bf16(normal(2))
    attn, _ = ops.attention(q, k, v, sinks, kv_dtype="f32", **asked)
    tolerances.check(attn, oracle.attention(q, k, v, sinks)[0], tolerances.EXACT["attention"])
    position, inv_freq = np.array([0, 4097], np.int32), ops.rope_table(128)[0]
    got = ops.rope(q[:2], position, inv_freq, **asked)
    tolerances.check(got, oracle.rope(q[:2], position, inv_freq), tolerances.EXACT["product"])
    logits = normal(3, 130)
    assert np.array_equal(ops.route(logits, 8, device=device)[0], oracle.route(logits, 8)[0])


@in_every_wave
def test_experts_in_bf16(tmp_path: Path, device: str) -> None:
    config = hf_config(**(SMALL | {"num_hidden_layers": 1}))
    write_bf16(tmp_path, config, make_tensors(config, 7), tokenizer=False)
    cpu, other = (open_on(name, tmp_path, **EXACT) for name in ("cpu", device))
    tokens = np.arange(10)
    assert np.abs(all_logits(cpu, tokens) - all_logits(other, tokens)).max() <= tolerances.LOGITS
    other.close()


def test_an_interrupted_step_leaves_no_trace(case_of: CaseMaker, device: str) -> None:
    if device not in EMULATED:
        pytest.skip("a card has ended this step before it asks; test_cuda_device.py has a longer one")
    case = case_of(DEFAULT)
    engine = open_on(device, case.folder, **EXACT)
    session, free = engine.session(), engine.free_pages
    tokens = np.resize(case.tokens, 150)
    with pytest.raises(InterruptedError, match="nothing was added"):
        engine.step([_core.Work(session, ids(tokens))], interrupted=lambda: True)

    def complain() -> bool:
        raise LookupError("the caller's own")

    with pytest.raises(LookupError, match="the caller's own"):
        engine.step([_core.Work(session, ids(tokens))], interrupted=complain)
    assert session.length == 0 and engine.free_pages == free
    got = all_logits(engine, case.tokens[:20], session=session)
    assert np.array_equal(got, all_logits(engine, case.tokens[:20]))
    engine.close()


def test_a_model_that_does_not_fit_is_refused_with_figures(case_of: CaseMaker, device: str) -> None:
    """The emulated card has 1 GiB; no card has 260 GB."""
    sequences = 64 if device in EMULATED else 8192
    with pytest.raises(RuntimeError, match=rf"out of memory: the KV cache \(\d+ bytes\).* of device {device}.*, \d+ of"):
        open_on(device, case_of(DEFAULT).folder, max_context=131072, max_sequences=sequences)


@pytest.mark.parametrize(("preset", "card"), [("20b", 16), ("120b", 80)])
def test_the_released_models_fit_one_card(device: str, preset: str, card: int) -> None:
    """The plan of a card of so many GB (10^9), for four sequences of 8,192 tokens, against a count by hand."""
    fields = PRESETS[preset]
    layers, experts = fields["num_hidden_layers"], fields["num_local_experts"]
    config = Config.from_hf(hf_config(**fields, layer_types=[SLIDING, FULL] * (layers // 2)), "by hand")
    memory = planning.checked_options(
        device=device, precision="fast", kv_dtype="bf16", max_context=8192, max_sequences=4, max_total_tokens=None,
        max_outputs=64, token_budget=512, max_checkpoints=32, threads=None, experts=None).native(config).device["memory"]
    attention = 2 * (5120 * 2880 + 2880 * 4096 + experts * 2880) + 4 * (5120 + 2880 + experts + 2 * 2880 + 64)
    up_and_down = experts * (3 * 2880 * 2880 * 17 // 32 + 4 * 3 * 2880)
    weights = layers * (attention + up_and_down) + 2 * 2 * 201088 * 2880 + 4 * 2880
    assert weights <= memory["weights"] <= weights + 256 * 12 * (layers + 1), "pieces begin at multiples of 256"
    assert sum(memory.values()) < card * 10**9 - 5 * 10**8, "half a GB is the runtime's own"


@pytest.mark.parametrize("experts", ["mxfp4", "bf16"])
def test_the_plan_of_a_card_is_what_it_is_asked_for(case_of: CaseMaker, device: str, experts: str, tmp_path: Path) -> None:
    folder = case_of(DEFAULT).folder
    if experts == "bf16":
        config = hf_config(**SMALL)
        write_bf16(tmp_path, config, make_tensors(config, 7), tokenizer=False)
        folder = tmp_path
    planned = gptoss.plan(folder, device=device, max_context=256, max_sequences=1)
    with gptoss.load(folder, device=device, max_context=256, max_sequences=1) as engine:
        memory = engine.device.memory
    for name in ("kv_full", "kv_window", "activations", "logits"):
        assert memory[name] == getattr(planned, name)
    padding = 0 if experts == "mxfp4" else 4 * 256 * SMALL["num_hidden_layers"]  # pieces of MXFP4 end elsewhere
    assert planned.weights_mapped == 0 and abs(planned.weights_copied - memory["weights"]) <= padding
    assert planned.total == planned.weights_copied + sum(memory.values()) - memory["weights"]


@pytest.mark.parametrize(("asked", "words"), [(":99", "99"), (":x", "expected a number behind the colon")])
def test_a_card_that_does_not_exist(case_of: CaseMaker, device: str, asked: str, words: str) -> None:
    with pytest.raises((RuntimeError, ValueError), match=words):
        open_on(device + asked, case_of(DEFAULT).folder)
    first = open_on(device + ":0", case_of(DEFAULT).folder, **EXACT)
    assert first.device["name"].partition(":")[0] == device
    first.close()


def test_the_package_uses_it_like_any_other(case_of: CaseMaker, device: str) -> None:
    params = gptoss.SamplingParams(temperature=0.8, top_p=0.95, seed=11, max_tokens=8)
    results = {}
    for name in ("cpu", device):
        with gptoss.load(case_of(DEFAULT).folder, device=name, max_context=128, max_sequences=1, precision="exact",
                         kv_dtype="f32") as engine:
            assert engine.device.name.partition(":")[0] == name
            results[name] = engine.generate([1, 2, 3], params).tokens
    assert results["cpu"] == results[device]


def test_one_step_ahead_gives_what_steps_in_turn_give(case_of: CaseMaker, device: str) -> None:
    """Two sequences, one of which ends by a token that nobody foresaw."""
    params = gptoss.SamplingParams(temperature=1, seed=12, max_tokens=5, n=2, logprobs=True, top_logprobs=1)
    results = []
    for in_turn in (True, False):
        with gptoss.load(case_of(DEFAULT).folder, device=device, max_context=128, max_sequences=2) as engine:
            native = engine._scheduler._native
            assert native.runs_ahead
            if in_turn:
                engine._scheduler._driver._native = type("InTurn", (), {  # type: ignore[assignment]
                    "runs_ahead": False, "__getattr__": lambda self, name, native=native: getattr(native, name)})()
            else:
                params = replace(params, stop_token_ids=(results[0][1][0][2],))
            results.append([(each.tokens, each.logprobs, each.top_logprobs)
                            for each in engine.generate([1, 2, 3], params).completions])
    whole, stopped = results
    assert len(stopped[1][0]) == 3
    assert stopped == [tuple(field[: len(each[0])] for field in all) for each, all in zip(stopped, whole)]
