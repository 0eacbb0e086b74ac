"""Stages at the ends of what they may meet: ties, sinks and scores of any size, clamps, subnormal scales."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import reference
import tolerances
from conftest import CaseMaker
from make_checkpoint import bf16_round
from shapes import DEFAULT
from test_stages import Bench, bench_of, check_attention, check_experts, single


def edited(case_of: CaseMaker, **changes: npt.ArrayLike) -> Bench:
    """The default model in exact arithmetic with bf16 tensors of layer 0 replaced by one value or an array."""
    def edit(tensors: dict[str, npt.NDArray[Any]]) -> None:
        for name, value in changes.items():
            target = tensors["model.layers.0." + name.replace("__", ".")]
            target[...] = bf16_round(np.broadcast_to(value, target.shape))

    return bench_of(case_of(DEFAULT, edit=edit), "exact_f32")


def test_equal_router_logits_go_to_the_lowest_id(case_of: CaseMaker) -> None:
    bench = edited(case_of, mlp__router__weight=0, mlp__router__bias=[1, 3, 3, 2, 3, 2, 2, 0])
    got = bench.run(["moe_route", "moe_up"], 0, {"residual": single(bench.case.trace.residual[0])},
                    ["router_choice", "router_weight"], len(bench.case.tokens))
    assert (got["router_choice"] == [1, 2, 4, 3]).all()
    assert np.allclose(got["router_weight"], reference.softmax(np.array([[3.0, 3, 3, 2]])), rtol=1e-6)


@pytest.mark.parametrize("sink", [-300.0, 0.0, 300.0])
def test_sinks_far_above_and_below_the_scores(case_of: CaseMaker, sink: float) -> None:
    bench = edited(case_of, self_attn__sinks=sink)
    if sink < 300:
        return check_attention(bench, 0, 150)
    config = bench.case.model.config
    got = bench.run(["attn_qkv", "attn"], 0, {"residual": single(bench.case.trace.residual[0])}, ["attn", "lse"], 150)
    assert np.abs(got["attn"]).max() < 1e-30
    assert np.array_equal(got["lse"], np.full((150, config["num_attention_heads"]), sink))
    return None


def test_scores_so_large_that_softmax_is_one_hot(case_of: CaseMaker) -> None:
    """Without the running maximum exp would overflow."""
    bench = edited(case_of, input_layernorm__weight=12.0)
    got = bench.run(["attn_qkv", "attn"], 0, {"residual": single(bench.case.trace.residual[0])}, ["attn", "lse"], 150)
    assert np.isfinite(got["attn"]).all()
    want = reference.attention(bench.case.model, 0, bench.case.trace.residual[0])[1]
    assert want.max() > 200
    assert np.abs(got["lse"] / want - 1).max() < 1e-4


def test_a_gate_far_below_zero_gives_nothing(case_of: CaseMaker) -> None:
    """exp(-1.702 gate) is infinite in float32; gate / infinity must be zero, not NaN."""
    alternating = np.tile([-200.0, 0.0], 96)
    bench = edited(case_of, mlp__experts__gate_up_proj_bias=alternating)
    check_experts(bench, 0, 150)


def test_scales_at_the_ends_of_their_range(case_of: CaseMaker) -> None:
    """E8M0 0 is 2^-127, a float32 subnormal: products vanish, and nothing becomes NaN or a sudden 2."""
    def edit(tensors: dict[str, npt.NDArray[Any]]) -> None:
        scales = tensors["model.layers.0.mlp.experts.gate_up_proj_scales"]
        scales[:, 0::3], scales[:, 1::7] = 0, 1
        tensors["model.layers.0.mlp.experts.down_proj_scales"][:, ::2] = 0

    check_experts(bench_of(case_of(DEFAULT, edit=edit), "exact_f32"), 0, 150)


@pytest.mark.parametrize("factor", [1e-3, 4e4])
def test_a_residual_stream_of_any_size(case_of: CaseMaker, factor: float) -> None:
    """The released 120b reaches 45,000 in its last layers. At 1e-3 the eps of the norm counts."""
    bench = bench_of(case_of(DEFAULT), "exact_f32")
    x = single(factor * bench.case.trace.residual[1])
    got = bench.run(["unembed"], 0, {"residual": x}, ["logits"], len(x), list(range(len(x))))
    want = reference.unembed(bench.case.model, x.astype(np.float64))
    tolerances.check(got["logits"], want, tolerances.EXACT["product"])
