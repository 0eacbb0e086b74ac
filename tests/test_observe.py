"""What the layers made on the way: true, whatever the chunking, and seen without changing a bit of the result."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import tolerances
from conftest import Case, CaseMaker
from engines import all_logits, chunks, ids, open_engine
from gptoss_native import _core
from reference import Trace
from shapes import DEFAULT, MODELS, Shape
from test_stages import check_choice
from tolerances import Tolerance

FIELDS = ["residual", "attn", "lse", "router_logits", "router_choice", "router_weight"]
SHAPES = [shape for shape in MODELS if shape.name in (
    "default", "released_window", "random_nibbles", "all_full", "all_sliding", "window_of_one",
    "head_dim_24_three_kv_heads", "top_one_of_seven", "many_experts", "several_splits")]
Seen = dict[str, npt.NDArray[Any]]


def observer(case: Case, **settings: Any) -> _core.Engine:
    return open_engine(case.folder, **{"max_tokens": 4096, "max_observed": 4096} | settings)


def observe(engine: _core.Engine, tokens: npt.NDArray[Any], session: _core.Session | None = None,
            fields: list[str] = FIELDS) -> tuple[npt.NDArray[np.float32], Seen]:
    """Logits of all rows, and the fields, of one step."""
    own = engine.session() if session is None else session
    work = _core.Work(own, ids(tokens), rows=ids(np.arange(len(tokens))))
    [output], seen = engine.observe([work], fields)
    if session is None:
        own.close()
    return output.logits, seen


def after(layer: int, tolerance: Tolerance) -> Tolerance:
    """Each layer adds as much error as the first."""
    return replace(tolerance, rms=(layer + 1) * tolerance.rms, largest=(layer + 1) * tolerance.largest)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_layer_makes_what_the_reference_makes(case_of: CaseMaker, shape: Shape) -> None:
    case = case_of(shape)
    _, seen = observe(observer(case), case.tokens)
    for layer in range(case.model.config["num_hidden_layers"]):
        check_layer(case.trace, layer, {name: values[layer] for name, values in seen.items()})


def check_layer(trace: Trace, layer: int, seen: Seen) -> None:
    exact = tolerances.EXACT
    tolerances.check(seen["residual"], trace.residual[layer + 1], after(layer, exact["experts"]))
    tolerances.check(seen["attn"], trace.attn[layer], after(layer, exact["attention"]))
    assert np.abs(seen["lse"] - trace.lse[layer]).max() <= after(layer, exact["lse"]).largest
    tolerances.check(seen["router_logits"], trace.router_logits[layer], after(layer, exact["product"]))
    check_choice(seen, seen["router_choice"].shape[1])
    assert np.array_equal(seen["router_choice"], trace.router_choice[layer]), "no near ties in these models"
    tolerances.check(seen["router_weight"], trace.router_weight[layer], after(layer, exact["product"]))


def test_the_attention_that_the_sink_took(case_of: CaseMaker) -> None:
    """exp(sink - lse) is the sink's share: the first token has it and itself, and nothing else."""
    case = case_of(DEFAULT)
    _, seen = observe(observer(case), case.tokens)
    for layer in range(4):
        share = np.exp(case.model.layer_weight(layer, "self_attn.sinks") - seen["lse"][layer])
        assert ((share > 0) & (share < 1)).all()
        want = np.exp(case.model.layer_weight(layer, "self_attn.sinks") - case.trace.lse[layer])
        assert np.abs(share - want).max() < 1e-4


@pytest.mark.parametrize(("precision", "kv_dtype"), [("exact", "f32"), ("fast", "bf16")])
@pytest.mark.parametrize("sizes", [[1], [7], [63, 1, 65, 128]], ids=str)
def test_values_do_not_depend_on_the_chunking(
        case_of: CaseMaker, sizes: list[int], precision: str, kv_dtype: str) -> None:
    case = case_of(DEFAULT)
    engine = observer(case, precision=precision, kv_dtype=kv_dtype, threads=2)
    logits, whole = observe(engine, case.tokens)
    session = engine.session()
    parts = [observe(engine, chunk, session) for chunk in chunks(case.tokens, sizes)]
    assert np.array_equal(np.concatenate([part[0] for part in parts]), logits)
    for name in FIELDS:
        assert np.array_equal(np.concatenate([part[1][name] for part in parts], axis=1), whole[name]), name


@pytest.mark.parametrize(("precision", "kv_dtype"), [("exact", "f32"), ("fast", "bf16")])
def test_observing_changes_no_bit(case_of: CaseMaker, precision: str, kv_dtype: str) -> None:
    """Neither of the step nor of those after it; a draw is the same too."""
    case = case_of(DEFAULT)
    engine = observer(case, precision=precision, kv_dtype=kv_dtype, max_sequences=2)
    sampling = _core.Sampling(temperature=1.0, top_p=0.9, seed=4, logprobs=3)
    results = []
    for observing in (False, True):
        first, second = engine.session(), engine.session()
        all_logits(engine, case.tokens[:70], session=second)
        work = [_core.Work(first, case.tokens[:100], rows=ids([0, 50, 99]), sampling=sampling),
                _core.Work(second, case.tokens[70:71], sampling=sampling)]
        outputs = engine.observe(work, FIELDS)[0] if observing else engine.step(work)
        later = [all_logits(engine, case.tokens[start:], session=session)
                 for session, start in ((first, 100), (second, 71))]
        results.append(([(o.token, o.logprob, o.top_tokens, o.top_logprobs) for o in outputs],
                        [logits.tobytes() for logits in (outputs[0].logits, *later)]))
        first.close()
        second.close()
    assert results[0] == results[1]


def test_two_sequences_of_one_step_are_seen_one_after_the_other(case_of: CaseMaker) -> None:
    case = case_of(DEFAULT)
    engine = observer(case, max_sequences=2)
    prompts = [case.tokens[:90], case.tokens[::-1][:33]]
    alone = [observe(engine, prompt)[1] for prompt in prompts]
    _, both = engine.observe([_core.Work(engine.session(), ids(prompt)) for prompt in prompts], FIELDS)
    for name in FIELDS:
        assert np.array_equal(both[name], np.concatenate([seen[name] for seen in alone], axis=1)), name


def test_a_resumed_sequence_shows_what_a_cold_one_shows(case_of: CaseMaker) -> None:
    case = case_of(DEFAULT)
    engine = observer(case)
    _, cold = observe(engine, case.tokens)
    first = engine.session()
    engine.step([_core.Work(first, case.tokens[:100], checkpoints=[100])])
    first.close()
    warm = engine.session(case.tokens)
    assert warm.length == 100
    _, seen = observe(engine, case.tokens[100:], warm)
    for name in FIELDS:
        assert np.array_equal(seen[name], cold[name][:, 100:]), name


@pytest.mark.parametrize("fields", [["lse"], ["router_weight", "residual"], ["attn", "attn"]], ids=str)
def test_only_what_is_asked_for_comes_back(case_of: CaseMaker, fields: list[str]) -> None:
    case = case_of(DEFAULT)
    engine = observer(case)
    _, everything = observe(engine, case.tokens)
    _, seen = observe(engine, case.tokens, fields=fields)
    assert sorted(seen) == sorted(set(fields))
    for name in fields:
        assert np.array_equal(seen[name], everything[name])


@pytest.mark.parametrize(("tokens", "fields", "words"), [
    (65, ["residual"], "observe 64 tokens, found 65"), (3, ["logits"], "logits"), (3, ["next_token"], "next_token"),
    (3, ["keys"], "no field is named 'keys'")])
def test_what_cannot_be_observed_is_refused_and_changes_nothing(
        case_of: CaseMaker, tokens: int, fields: list[str], words: str) -> None:
    case = case_of(DEFAULT)
    engine = observer(case, max_observed=64)
    session = engine.session()
    all_logits(engine, case.tokens[:30], session=session)
    free = engine.free_pages
    with pytest.raises(ValueError, match=words):
        engine.observe([_core.Work(session, case.tokens[30:30 + tokens])], fields)
    assert session.length == 30 and engine.free_pages == free
    assert np.array_equal(all_logits(engine, case.tokens[30:], session=session), all_logits(engine, case.tokens)[30:])


def test_room_for_observation_is_planned_and_costs_nothing_when_not_asked_for(case_of: CaseMaker) -> None:
    """Four bytes of each value, for every layer and token."""
    case = case_of(DEFAULT)
    config = case.model.config
    heads, chosen = config["num_attention_heads"], config["num_experts_per_tok"]
    router = config["num_local_experts"] + 2 * chosen
    per_token = 4 * (config["hidden_size"] + heads * config["head_dim"] + heads + router)
    plain, observing = (open_engine(case.folder, max_observed=n).device["memory"] for n in (0, 10))
    assert observing["observed"] == 10 * config["num_hidden_layers"] * per_token and plain["observed"] == 0
    assert {**plain, "observed": 0} == {**observing, "observed": 0}
