"""The whole model: against float64, and against itself cut into chunks, threads, layouts and formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reference
import tolerances
from conftest import Case, CaseMaker
from engines import ISAS, all_logits, ids, open_engine, some_logits
from gptoss_native import _core
from make_checkpoint import (
    bf16_round,
    hf_config,
    make_tensors,
    original_config,
    rope_parameters,
    write_bf16,
    write_hf,
    write_original,
)
from shapes import DEFAULT, FULL, LONG, MODELS, REAL_DIMENSIONS, SLIDING, Shape, shape_named

CHOICES = [("exact", "f32"), ("exact", "bf16"), ("fast", "f32"), ("fast", "bf16")]


def largest_error(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> float:
    assert got.shape == want.shape and np.isfinite(got).all()
    return float(np.abs(got - want).max())


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shape", MODELS, ids=str)
def test_exact_logits(case_of: CaseMaker, shape: Shape, seed: int) -> None:
    case = case_of(shape, seed)
    got = all_logits(open_engine(case.folder), case.tokens)
    assert largest_error(got, case.trace.logits) <= tolerances.LOGITS


@pytest.mark.slow
def test_exact_logits_with_the_dimensions_of_the_released_models(case_of: CaseMaker) -> None:
    case = case_of(REAL_DIMENSIONS)
    got = all_logits(open_engine(case.folder), case.tokens, [100, 1])
    assert largest_error(got, case.trace.logits) <= tolerances.LOGITS


@pytest.mark.slow
def test_exact_logits_around_positions_4096_and_100000(case_of: CaseMaker) -> None:
    """The last layer is a full one, so that a late row's answer depends on keys at every position."""
    case = case_of(LONG)
    rows = [0, 127, 128, 129, 4094, 4095, 4096, 4097, 99_999, 100_000, 100_001, 100_002]
    engine = open_engine(case.folder, max_context=len(case.tokens), max_tokens=2048, max_outputs=16)
    got = some_logits(engine, case.tokens, rows, size=2048)
    want = reference.forward(case.model, case.tokens, rows=rows).logits
    assert largest_error(got, want) <= tolerances.LOGITS


@pytest.mark.parametrize(("precision", "kv_dtype"), CHOICES[1:])
def test_rounded_logits_err_like_the_model_of_their_roundings(tmp_path: Path, precision: str, kv_dtype: str) -> None:
    """A router without near ties, or one flipped expert would hide everything (end to end that is chaos)."""
    config = hf_config(num_hidden_layers=6)
    tensors = make_tensors(config, 5, stable_routing=True)
    write_hf(tmp_path, config, tensors, tokenizer=False)
    model = reference.Model(config, tensors)
    tokens = np.random.default_rng(5).integers(0, config["vocab_size"], 200)
    exact = reference.forward(model, tokens).logits
    rounding = reference.Arithmetic(operand=reference.to_bf16 if precision == "fast" else np.asarray,
                                    kv=reference.to_bf16 if kv_dtype == "bf16" else np.asarray)
    expected_error = tolerances.error(reference.forward(model, tokens, arithmetic=rounding).logits, exact)[0]
    got = all_logits(open_engine(tmp_path, precision=precision, kv_dtype=kv_dtype), tokens)
    assert tolerances.error(got, exact)[0] <= 1.25 * expected_error


@pytest.mark.parametrize(("precision", "kv_dtype"), CHOICES)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["default", "released_window", "window_of_one", "head_dim_24_three_kv_heads",
                                  "several_splits"])
def test_a_prompt_whole_in_chunks_or_one_by_one(case_of: CaseMaker, name: str, isa: str, precision: str,
                                                kv_dtype: str) -> None:
    case = case_of(shape_named(name))
    engine = open_engine(case.folder, precision=precision, kv_dtype=kv_dtype, max_tokens=4096, isa=isa)
    whole = all_logits(engine, case.tokens, [4096])
    for sizes in ([1], [7], [64], [63, 1, 65, 128], [127, 1, 1, 500]):
        assert np.array_equal(all_logits(engine, case.tokens, sizes), whole), f"steps of {sizes} tokens"


@pytest.mark.parametrize(("precision", "kv_dtype"), [CHOICES[0], CHOICES[-1]])
@pytest.mark.parametrize("name", ["default", "several_splits", "many_experts"])
def test_any_number_of_threads(case_of: CaseMaker, name: str, precision: str, kv_dtype: str) -> None:
    case = case_of(shape_named(name))
    results = [all_logits(open_engine(case.folder, precision=precision, kv_dtype=kv_dtype, threads=threads),
                          case.tokens, [500, 1]) for threads in (1, 2, 3, 5)]
    for threads, result in zip((2, 3, 5), results[1:], strict=True):
        assert np.array_equal(result, results[0]), f"{threads} threads against 1"


@pytest.mark.parametrize("isa", ISAS[:-1])
@pytest.mark.parametrize("shape", MODELS, ids=str)
def test_every_instruction_set_agrees_with_the_baseline(case_of: CaseMaker, shape: Shape, isa: str) -> None:
    case = case_of(shape)
    got, baseline = (all_logits(open_engine(case.folder, isa=name), case.tokens) for name in (isa, ISAS[-1]))
    assert largest_error(got, baseline) <= tolerances.ISA_DIFFERENCE
    assert largest_error(baseline, case.trace.logits) <= tolerances.LOGITS


@pytest.mark.parametrize(("precision", "kv_dtype"), [CHOICES[0], CHOICES[-1]])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["default", "released_window", "several_splits"])
def test_some_rows_equal_those_of_all_rows(case_of: CaseMaker, name: str, isa: str, precision: str, kv_dtype: str) -> None:
    """The last layer may leave out what no row needs, but not the keys and values of those tokens."""
    case = case_of(shape_named(name))
    engine = open_engine(case.folder, precision=precision, kv_dtype=kv_dtype, max_tokens=4096, isa=isa)
    every, last = all_logits(engine, case.tokens), len(case.tokens) - 1
    for rows in ([last], [3, 77], list(range(30, 50)), range(last + 1)):
        assert np.array_equal(some_logits(engine, case.tokens, rows), every[rows]), f"rows {rows}"
    for size in (61, 120):  # steps without a row, then one with all of its own
        assert np.array_equal(some_logits(engine, case.tokens, [last], size), every[[last]]), f"steps of {size} tokens"
    session = engine.session()
    [output] = engine.step([_core.Work(session, ids(case.tokens), rows=ids([77, 3, 77, last]))])
    assert np.array_equal(output.logits, every[[77, 3, 77, last]])


def test_a_batch_of_three_equals_three_singles(case_of: CaseMaker) -> None:
    case = case_of(DEFAULT)
    engine = open_engine(case.folder, max_sequences=3)
    prompts = [case.tokens, case.tokens[::-1][:70], case.tokens[5:6]]
    singles = [some_logits(engine, prompt, [len(prompt) - 1]) for prompt in prompts]
    sessions = [engine.session() for _ in prompts]
    works = [_core.Work(session, ids(prompt), rows=ids([len(prompt) - 1]))
             for session, prompt in zip(sessions, prompts, strict=True)]
    for output, single in zip(engine.step(works), singles, strict=True):
        assert np.array_equal(output.logits, single)


def test_pages_that_were_used_before_leave_no_trace(case_of: CaseMaker) -> None:
    case = case_of(DEFAULT)
    engine = open_engine(case.folder)
    first = all_logits(engine, case.tokens)
    all_logits(engine, case.tokens[::-1])
    assert np.array_equal(all_logits(engine, case.tokens), first)


@pytest.mark.parametrize("length", [0, 1, 63, 64, 100, 149])
def test_a_session_cut_back_goes_on_as_if_it_had_never_gone_further(case_of: CaseMaker, length: int) -> None:
    case = case_of(DEFAULT)
    engine = open_engine(case.folder)
    fresh = all_logits(engine, case.tokens)
    session = engine.session()
    all_logits(engine, case.tokens[::-1], [40], session)
    session.truncate(0)
    all_logits(engine, case.tokens, [64], session)
    left = session.truncate(length)
    assert left == session.length <= length
    assert np.array_equal(all_logits(engine, case.tokens[left:], session=session), fresh[left:])


def test_a_step_that_was_interrupted_changed_nothing(case_of: CaseMaker) -> None:
    """A step of seconds, so that it is asked (every 50 ms) long before its end."""
    case = case_of(shape_named("several_splits"))
    engine = open_engine(case.folder, max_tokens=20_000, max_context=20_000, max_outputs=200, isa=ISAS[-1])
    session = engine.session()
    first = all_logits(engine, case.tokens[:100], session=session)
    with pytest.raises(InterruptedError):
        engine.step([_core.Work(session, ids(np.resize(case.tokens, 19_000)))], lambda: True)
    assert session.length == 100
    rest = all_logits(engine, case.tokens[100:250], session=session)
    assert np.array_equal(np.concatenate([first, rest]), all_logits(engine, case.tokens[:250], [200]))


@pytest.fixture(scope="module")
def hf(case_of: CaseMaker) -> Case:
    return case_of(DEFAULT)


@pytest.mark.parametrize(("precision", "kv_dtype"), [CHOICES[0], CHOICES[-1]])
def test_the_original_layout_gives_the_same_bits(hf: Case, tmp_path: Path, precision: str, kv_dtype: str) -> None:
    write_original(tmp_path, original_config(dict(hf.model.config)), hf.model.tensors)
    got, want = (all_logits(open_engine(folder, precision=precision, kv_dtype=kv_dtype), hf.tokens)
                 for folder in (tmp_path, hf.folder))
    assert np.array_equal(got, want)


def test_both_spellings_of_the_rope_config_give_the_same_bits(hf: Case, tmp_path: Path) -> None:
    write_hf(tmp_path, rope_parameters(dict(hf.model.config)), hf.model.tensors, tokenizer=False)
    assert np.array_equal(all_logits(open_engine(tmp_path), hf.tokens), all_logits(open_engine(hf.folder), hf.tokens))


@pytest.mark.parametrize("name", ["default", "top_one_of_seven", "wide_intermediate", "narrow_odd_vocab"])
def test_experts_in_bf16(case_of: CaseMaker, tmp_path: Path, name: str) -> None:
    """The same weights, dequantised and transposed, as transformers saves them."""
    case = case_of(shape_named(name))
    write_bf16(tmp_path, case.model.config, case.model.tensors, tokenizer=False)
    engine = open_engine(tmp_path)
    got = all_logits(engine, case.tokens)
    assert largest_error(got, case.trace.logits) <= tolerances.LOGITS
    assert np.array_equal(all_logits(engine, case.tokens, [5, 1]), got)


def test_experts_in_bf16_that_mxfp4_could_not_hold(case_of: CaseMaker, tmp_path: Path) -> None:
    case = case_of(shape_named("top_one_of_seven"))
    rng = np.random.default_rng(8)
    tensors = {name: tensor for name, tensor in case.model.tensors.items() if not name.endswith(("_blocks", "_scales"))}
    for layer in range(2):
        experts = f"model.layers.{layer}.mlp.experts."
        tensors[experts + "gate_up_proj"] = bf16_round(rng.normal(0, 0.25, (7, 64, 192)))  # (E, in, out)
        tensors[experts + "down_proj"] = bf16_round(rng.normal(0, 0.05, (7, 96, 64)))
    config = {key: value for key, value in case.model.config.items() if key != "quantization_config"}
    write_hf(tmp_path, config, tensors, tokenizer=False)
    want = reference.forward(reference.Model(config, tensors), case.tokens).logits
    for isa in ISAS:
        assert largest_error(all_logits(open_engine(tmp_path, isa=isa), case.tokens), want) <= tolerances.LOGITS


def random_shape(seed: int) -> Shape:
    """Shapes that nobody chose: small, but of any proportion the format allows."""
    rng = np.random.default_rng(seed)
    layers, kv_heads, experts = int(rng.integers(1, 5)), int(rng.integers(1, 5)), int(rng.integers(1, 40))
    return Shape(f"random_{seed}", {
        "num_hidden_layers": layers, "layer_types": [str(rng.choice([SLIDING, FULL])) for _ in range(layers)],
        "hidden_size": 32 * int(rng.integers(1, 7)), "intermediate_size": 32 * int(rng.integers(1, 7)),
        "num_key_value_heads": kv_heads, "num_attention_heads": kv_heads * int(rng.integers(1, 10)),
        "head_dim": 2 * int(rng.integers(8, 65)), "num_local_experts": experts,
        "num_experts_per_tok": int(rng.integers(1, experts + 1)), "vocab_size": int(rng.integers(20, 700)),
        "sliding_window": int(rng.choice([1, 2, 31, 64, 100, 1000])),
    }, prompt=int(rng.integers(1, 260)), random_nibbles=bool(rng.random() < 0.5))


@pytest.mark.parametrize("seed", range(16))
def test_shapes_that_nobody_chose(case_of: CaseMaker, seed: int) -> None:
    case = case_of(random_shape(seed))
    isa = ISAS[seed % len(ISAS)]
    got = all_logits(open_engine(case.folder, isa=isa), case.tokens)
    assert largest_error(got, case.trace.logits) <= tolerances.LOGITS, case.shape.fields
    assert np.array_equal(all_logits(open_engine(case.folder, isa=isa, threads=3), case.tokens, [9, 1]), got)


def test_plain_rope(tmp_path: Path) -> None:
    config = hf_config(num_hidden_layers=2) | {"rope_scaling": {"rope_type": "default"}}
    tensors = make_tensors(config)
    write_hf(tmp_path, config, tensors, tokenizer=False)
    tokens = np.arange(150) % config["vocab_size"]
    want = reference.forward(reference.Model(config, tensors), tokens).logits
    assert largest_error(all_logits(open_engine(tmp_path), tokens), want) <= tolerances.LOGITS


@pytest.mark.parametrize("change", [{"truncate": True}, {"factor": 4.0}, {"beta_fast": 8.0, "beta_slow": 2.0},
                                    {"original_max_position_embeddings": 1000}], ids=str)
def test_other_rope_settings(tmp_path: Path, change: dict[str, Any]) -> None:
    config = hf_config(num_hidden_layers=2, rope_scaling=change, rope_theta=10_000)
    tensors = make_tensors(config)
    write_hf(tmp_path, config, tensors, tokenizer=False)
    tokens = np.arange(150) % config["vocab_size"]
    want = reference.forward(reference.Model(config, tensors), tokens).logits
    assert largest_error(all_logits(open_engine(tmp_path), tokens), want) <= tolerances.LOGITS
