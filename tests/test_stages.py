"""Every stage of the native engine, one at a time, against float64: fed from the reference, so errors do not pile up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import reference
import tolerances
from conftest import Case, CaseMaker
from engines import ISAS, ids, open_engine
from gptoss_native import _core
from make_checkpoint import bf16_to_f32
from reference import Arithmetic, Array
from shapes import DEFAULT, MODELS, STAGE_TOKENS, Shape, shape_named

ARITHMETIC = {
    "exact_f32": Arithmetic(),
    "exact_bf16": Arithmetic(kv=reference.to_bf16),
    "fast_f32": Arithmetic(operand=reference.to_bf16),
    "fast_bf16": Arithmetic(operand=reference.to_bf16, kv=reference.to_bf16),
}


@dataclass(frozen=True)
class Bench:
    """An engine, its reference, and the arithmetic that both use."""

    case: Case
    engine: _core.Engine
    precision: str
    arithmetic: Arithmetic

    def run(self, stages: list[str], layer: int, write: dict[str, npt.NDArray[Any]], read: list[str],
            tokens: int, rows: list[int] | None = None) -> dict[str, npt.NDArray[Any]]:
        session = self.engine.session()
        work = _core.Work(session, ids(self.case.tokens[:tokens]), rows=None if rows is None else ids(rows))
        result = self.engine.run_stages(stages, layer, [work], write, read)
        session.close()
        return result

    def check(self, kind: str, got: npt.NDArray[Any], exact: Array, same: Array) -> None:
        """Against the model in float64, and against the model with the roundings that were asked for."""
        if self.arithmetic == Arithmetic() or (self.precision == "exact" and kind in ("product", "experts")):
            tolerances.check(got, exact, tolerances.EXACT[kind])
        else:
            tolerances.check(got, exact, tolerances.FAST[kind])
            tolerances.check(got, same, tolerances.SAME_ROUNDINGS[kind])

    def check_lse(self, got: npt.NDArray[Any], exact: Array, same: Array) -> None:
        """lse is compared by its absolute error, so that is put on the scale of check()."""
        one = np.ones_like(exact)
        self.check("lse", one + (got - exact), one, one + (same - exact))


def bench_of(case: Case, arithmetic: str, isa: str | None = None) -> Bench:
    precision, kv_dtype = arithmetic.split("_")
    engine = open_engine(case.folder, precision=precision, kv_dtype=kv_dtype, max_tokens=4096, isa=isa)
    return Bench(case, engine, precision, ARITHMETIC[arithmetic])


@pytest.fixture(scope="module", params=MODELS, ids=str)
def shape(request: pytest.FixtureRequest) -> Shape:
    made: Shape = request.param
    return made


@pytest.fixture(scope="module", params=[f"{isa}-{name}" for isa in ISAS for name in ("exact_f32", "fast_bf16")])
def bench(request: pytest.FixtureRequest, shape: Shape, case_of: CaseMaker) -> Iterator[Bench]:
    isa, arithmetic = request.param.split("-")
    bench = bench_of(case_of(shape), arithmetic, isa)
    yield bench
    bench.engine.close()


def layers_to_try(case: Case) -> range:
    """One of each type is enough, and the second has left the embedding's own scale."""
    return range(min(2, case.model.config["num_hidden_layers"]))


def single(x: Array) -> npt.NDArray[np.float32]:
    return x.astype(np.float32)


def nan(*shape: int) -> npt.NDArray[np.float32]:
    return np.full(shape, np.nan, np.float32)


def test_embed_copies_rows(bench: Bench) -> None:
    count = len(bench.case.tokens)
    hidden = bench.case.model.config["hidden_size"]
    got = bench.run(["embed"], 0, {"residual": nan(count, hidden)}, ["residual"], count)
    table = bench.case.model.tensors["model.embed_tokens.weight"]
    assert np.array_equal(got["residual"], bf16_to_f32(table[bench.case.tokens]))


def test_attention_of_a_whole_prompt(bench: Bench) -> None:
    for layer in layers_to_try(bench.case):
        check_attention(bench, layer, len(bench.case.tokens))


def check_attention(bench: Bench, layer: int, count: int) -> None:
    config = bench.case.model.config
    x = single(bench.case.trace.residual[layer][:count])
    heads, dim = config["num_attention_heads"], config["head_dim"]
    write = {"residual": x, "attn": nan(count, heads, dim), "lse": nan(count, heads)}
    got = bench.run(["attn_qkv", "attn"], layer, write, ["attn", "lse"], count)
    exact, exact_lse = bench.case.trace.attn[layer][:count], bench.case.trace.lse[layer][:count]
    same, same_lse = exact, exact_lse
    if bench.arithmetic != Arithmetic():
        same, same_lse = reference.attention(bench.case.model, layer, x.astype(np.float64), arithmetic=bench.arithmetic)
    bench.check("attention", got["attn"], exact, same)
    bench.check_lse(got["lse"], exact_lse, same_lse)


def test_attention_is_projected_and_added(bench: Bench) -> None:
    config = bench.case.model.config
    rng = np.random.default_rng(2)
    count = len(bench.case.tokens)
    attn = rng.standard_normal((count, config["num_attention_heads"], config["head_dim"]), dtype=np.float32)
    x = 0.01 * rng.standard_normal((count, config["hidden_size"]), dtype=np.float32)
    for layer in layers_to_try(bench.case):
        got = bench.run(["attn_out"], layer, {"attn": attn, "residual": x}, ["residual"], count)
        exact, same = (x + reference.attention_output(bench.case.model, layer, attn.astype(np.float64), arithmetic)
                       for arithmetic in (reference.EXACT, bench.arithmetic))
        bench.check("product", got["residual"], exact, same)


def test_router_weighs_the_best_experts(bench: Bench) -> None:
    config = bench.case.model.config
    count, top = len(bench.case.tokens), config["num_experts_per_tok"]
    for layer in layers_to_try(bench.case):
        x = single(bench.case.trace.after_attention[layer])
        write = {"residual": x, "router_logits": nan(count, config["num_local_experts"]), "router_weight": nan(count, top)}
        got = bench.run(["moe_route", "moe_up"], layer, write, ["router_logits", "router_choice", "router_weight"], count)
        t = reference.layer_norm(bench.case.model, layer, "post_attention_layernorm.weight", x.astype(np.float64))
        exact = reference.route(bench.case.model, layer, t)[0]
        same = reference.route(bench.case.model, layer, bench.arithmetic.operand(t))[0]
        bench.check("product", got["router_logits"], exact, same)
        check_choice(got, top)


def check_choice(got: dict[str, npt.NDArray[Any]], top: int) -> None:
    """Choice and weights follow from the logits that the same run reports: best first, lowest id on ties."""
    logits = got["router_logits"]
    best = np.argsort(-logits, axis=-1, kind="stable")[:, :top]
    assert np.array_equal(got["router_choice"], best)
    weights = reference.softmax(np.take_along_axis(logits.astype(np.float64), best, axis=-1))
    tolerances.check(got["router_weight"], weights, tolerances.EXACT["product"])


def test_experts_are_weighted_and_added(bench: Bench) -> None:
    for layer in layers_to_try(bench.case):
        check_experts(bench, layer, len(bench.case.tokens))


def check_experts(bench: Bench, layer: int, count: int) -> None:
    """With the experts that the engine chose: near a tie either choice is right."""
    model = bench.case.model
    x = single(bench.case.trace.after_attention[layer][:count])
    got = bench.run(["moe_route", "moe_up", "moe_down"], layer, {"residual": x},
                    ["residual", "router_choice", "router_weight"], count)
    t = reference.layer_norm(model, layer, "post_attention_layernorm.weight", x.astype(np.float64))
    choice, weight = got["router_choice"].astype(np.int64), got["router_weight"].astype(np.float64)
    exact, same = (reference.experts(model, layer, arithmetic.operand(t), choice, weight, arithmetic)
                   for arithmetic in (reference.EXACT, bench.arithmetic))
    bench.check("experts", got["residual"], x + exact, x + same)


def test_logits_of_the_rows_asked_for(bench: Bench) -> None:
    x = single(bench.case.trace.residual[-1])
    count = len(x)
    for rows in ([count - 1], [0, 1, count // 2, count - 1], list(range(count))):
        blank = nan(len(rows), bench.case.model.config["vocab_size"])
        got = bench.run(["unembed"], 0, {"residual": x, "logits": blank}, ["logits"], count, rows)
        exact, same = (reference.unembed(bench.case.model, x[rows].astype(np.float64), arithmetic)
                       for arithmetic in (reference.EXACT, bench.arithmetic))
        bench.check("product", got["logits"], exact, same)


@pytest.mark.parametrize("count", STAGE_TOKENS)
@pytest.mark.parametrize("arithmetic", ARITHMETIC)
def test_a_stage_does_not_mind_how_many_tokens_it_gets(case_of: CaseMaker, arithmetic: str, count: int) -> None:
    bench = bench_of(case_of(DEFAULT), arithmetic)
    for layer in (0, 1):
        check_attention(bench, layer, count)
        check_experts(bench, layer, count)


@pytest.mark.parametrize("cached", [1, 15, 16, 63, 64, 65, 127, 128, 129])
@pytest.mark.parametrize("name", ["default", "full_first"])
def test_attention_reads_what_earlier_steps_cached(case_of: CaseMaker, name: str, cached: int) -> None:
    """On layer 0, whose input is the embedding, so that the cache can be compared with nothing but the spec."""
    bench = bench_of(case_of(shape_named(name)), "exact_f32")
    tokens = ids(bench.case.tokens)
    session = bench.engine.session()
    bench.engine.step([_core.Work(session, tokens[:cached])])
    work = _core.Work(session, tokens[cached:])
    got = bench.engine.run_stages(["embed", "attn_qkv", "attn"], 0, [work], {}, ["attn", "lse"])
    tolerances.check(got["attn"], bench.case.trace.attn[0][cached:], tolerances.EXACT["attention"])
    assert np.abs(got["lse"] - bench.case.trace.lse[0][cached:]).max() <= tolerances.EXACT["lse"].largest
    assert session.length == cached, "running stages commits nothing"
    session.close()
