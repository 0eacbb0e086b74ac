"""The race of kernels on a card, bench/gpu_peers.py, with the CPU as the card: oracles, torch's peers, what is made of a peer
that is wrong, fails or is absent, tables and JSON. Those who need a card have their glue tested over stand-ins."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the package torch is not installed")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench import gpu_peers  # noqa: E402
from bench.card_peers import problems as p  # noqa: E402
from bench.card_peers import race  # noqa: E402
from bench.card_peers.clock import TorchTurns  # noqa: E402
from bench.card_peers.flash import FlashCache, FlashWithSinks  # noqa: E402
from bench.card_peers.humming_experts import aligned  # noqa: E402
from bench.card_peers.marlin import block_size, padded_weights  # noqa: E402
from bench.card_peers.ours import Ours  # noqa: E402
from bench.card_peers.torch_peers import TorchFlash, TorchGrouped, TorchLoop, TorchSinkColumn, swiglu  # noqa: E402
from gptoss_native import ops  # noqa: E402
from gptoss_native.bench.measure import Ceilings  # noqa: E402
from gptoss_native.ops import reference  # noqa: E402

SHAPE = p.Shape(hidden=96, inner=64, heads=8, kv_heads=2, window=20)
CEILINGS = Ceilings(read=1e10, fma=1e11)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def generator() -> Any:
    return torch.Generator("cpu").manual_seed(1)


def expert_problem(tokens: int, experts: int = 8, turns: int = 2) -> p.ExpertProblem:
    g = generator()
    return p.ExpertProblem.random(p.Experts.random(SHAPE, experts, g), tokens, 1 << 40, turns, g)


def attention_problem(batch: int, keys: int, window: int | None = None, turns: int = 2) -> p.AttentionProblem:
    return p.AttentionProblem.random(SHAPE, batch, keys, window, 1 << 40, turns, generator())


def bits(tensor: Any) -> Any:
    return tensor.view(torch.int16).numpy().view(np.uint16)


def as_numpy(weights: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    return weights[0].numpy(), weights[1].numpy(), bits(weights[2])


@pytest.mark.parametrize("tokens", [1, 6])
def test_the_oracle_of_the_experts_is_that_of_the_lab(tokens: int) -> None:
    problem = expert_problem(tokens)
    x = problem.x.float().numpy()
    for turn, (choice, weight) in enumerate(problem.routes):
        (blocks, scales, bias), (down, down_scales, down_bias) = as_numpy(problem.experts.up), as_numpy(problem.experts.down)
        h = reference.moe_up(x, blocks, scales, choice.numpy(), bias)
        want = reference.moe_down(h, down, down_scales, choice.numpy(), weight.numpy(), down_bias)
        np.testing.assert_allclose(problem.want(turn).numpy(), want, rtol=1e-9, atol=1e-9)
        assert np.array_equal(reference.route(problem.logits[turn].float().numpy())[0], choice.numpy()), "the logits say the same"
    assert not torch.equal(problem.routes[0][0], problem.routes[1][0]), "turns read other experts"


def test_gates_are_of_a_size_that_matters() -> None:
    """A few are clamped; otherwise a peer that clamps wrongly would pass."""
    problem = expert_problem(64)
    blocks, scales, bias = problem.experts.up
    u = torch.einsum("tk,erk->ter", problem.x.double(), p.dequantized(blocks, scales)) + bias.double()
    assert 0.001 < (u.abs() > SHAPE.limit).double().mean() < 0.2


def test_only_some_tokens_of_many_are_compared() -> None:
    problem = expert_problem(100)
    assert len(problem.checked) == p.CHECKED_ROWS and problem.checked[0] == 0 and problem.checked[-1] == 99
    assert problem.want(0).shape == problem.rows(problem.x).shape


@pytest.mark.parametrize("window", [None, 20])
def test_the_oracle_of_attention_is_that_of_the_lab(window: int | None) -> None:
    problem = attention_problem(2, 33, window)
    k, v = (part.float().flatten(0, 1).numpy() for part in problem.kv[1])
    want, _ = reference.attention(problem.q.float().numpy(), k, v, bits(problem.sinks), window=window, query_lengths=[1, 1],
                                  key_lengths=[33, 33])
    np.testing.assert_allclose(problem.want(1).numpy(), want, rtol=1e-9, atol=1e-12)


def error_of(peer: Any, problem: Any, turn: int = 1) -> float:
    turns = peer.prepare(problem)
    return max(p.error(problem.rows(turns.result(turn)), problem.want(turn))[0],
               p.error(problem.rows(turns.time(1).results[turn]), problem.want(turn))[0])


@pytest.mark.parametrize("tokens", [1, 5, 40])
@pytest.mark.parametrize("peer", [lambda: Ours("cpu"), TorchLoop, TorchGrouped], ids=["ours", "loop", "grouped"])
def test_who_multiplies_experts_is_right(peer: Any, tokens: int) -> None:
    made = peer()
    if reason := made.absent(torch.device("cpu")):
        pytest.skip(reason)
    assert error_of(made, expert_problem(tokens)) <= p.WRONG.rms


@pytest.mark.parametrize(("batch", "keys", "window"), [(1, 1, None), (1, 70, None), (3, 70, 20), (2, 9, 20)])
@pytest.mark.parametrize("peer", [lambda: Ours("cpu"), TorchSinkColumn, TorchFlash], ids=["ours", "column", "flash"])
def test_who_attends_is_right(peer: Any, batch: int, keys: int, window: int | None) -> None:
    assert error_of(peer(), attention_problem(batch, keys, window)) <= p.WRONG.rms


@pytest.mark.parametrize("mistake", [
    lambda s: replace(s, limit=5.0), lambda s: replace(s, alpha=1.0)], ids=["other limit", "other alpha"])
def test_another_activation_is_wrong(mistake: Any) -> None:
    problem = expert_problem(40)
    other = replace(problem, experts=replace(problem.experts, shape=mistake(SHAPE)))
    assert p.error(other.want(0), problem.want(0))[0] > p.WRONG.rms


def test_what_is_small_beside_rounding_is_wrong_all_the_same() -> None:
    """A sink left out, a window of one key more, activations in 8 bits: each beyond the limit."""
    problem = attention_problem(2, 70, 20)
    without = replace(problem, sinks=torch.full_like(problem.sinks, -1e9))
    wider = replace(problem, window=21)
    experts = expert_problem(30)
    coarse = replace(experts, x=experts.x.to(torch.float8_e4m3fn).bfloat16())
    for other, right in ((without, problem), (wider, problem), (coarse, experts)):
        assert p.error(other.want(0), right.want(0))[0] > p.WRONG.rms


# ---- the race


class Fake:
    """Gives the oracle's results, times `factor`."""

    group, timed = "", "nothing"

    def __init__(self, name: str, factor: float = 1.0, *, later: float = 1.0, raises: str = "", absent: str = "") -> None:
        self.name, self.factor, self.later, self.raises, self.reason, self.timings = name, factor, later, raises, absent, 0

    def absent(self, device: Any) -> str:
        return self.reason

    def version(self) -> str:
        return "1"

    def prepare(self, problem: Any) -> Any:
        if self.raises:
            raise RuntimeError(self.raises)
        wants = [problem.want(turn) for turn in range(2)]

        def time(rounds: int) -> Any:
            self.timings += 1
            return SimpleNamespace(seconds=[0.5 * self.factor] * rounds, how="", results=[want * self.factor * self.later for want in wants])
        return SimpleNamespace(result=lambda turn: wants[turn] * self.factor, time=time)


def test_who_is_wrong_is_not_timed_and_who_fails_does_not_stop_the_others() -> None:
    peers = [Fake("ours"), Fake("wrong", 1.02), Fake("breaks", raises="no kernel\nfor this"), Fake("nan", math.nan),
             Fake("drifts", later=1.02), Fake("right", 1.0005)]
    row = race.race(attention_problem(1, 9), peers, CEILINGS, 3)
    assert {name: result["status"] for name, result in row["results"].items()} == {
        "ours": "ok", "wrong": "wrong", "breaks": "failed: RuntimeError: no kernel", "nan": "wrong", "drifts": "wrong when it was timed",
        "right": "ok"}
    assert [peer.timings for peer in peers] == [1, 0, 0, 0, 1, 1]
    assert "seconds" not in row["results"]["wrong"] and row["results"]["wrong"]["error"]["rms"] == pytest.approx(0.02)
    assert row["results"]["right"]["ratio"] == pytest.approx(1.0005)
    text = race.text_of({"ours": {"version": "1", "timed": "x"}}, [row])
    assert "wrong (0.02)" in text and " failed |" in text and "1.00x right" in text and "- breaks: failed: RuntimeError: no kernel" in text


def test_bytes_and_percentages_are_those_of_the_plain_read() -> None:
    problem = attention_problem(1, 100, turns=2)
    assert problem.cost.bytes == 2 * 100 * 2 * 64 * 2 + 2 * 8 * 64 * 2
    result = race.race(problem, [Fake("ours")], CEILINGS, 3)["results"]["ours"]
    assert result["bytes_per_second"] == problem.cost.bytes / 0.5
    assert result["percent_of_read"] == pytest.approx(100 * problem.cost.bytes / 0.5 / 1e10)
    experts = expert_problem(1)
    assert experts.cost.bytes == 4 * (3 * 64 * 96 * 17 // 32 + 2 * (2 * 64 + 96)) + 2 * 2 * 96


SIZES = p.Sizes(tokens=(1, 5), experts=(8,), contexts=(9, 40), batches=(2,), turn_bytes=1, most_turns=2)


def test_a_result_is_saved_row_by_row_and_names_who_is_absent(tmp_path: Path) -> None:
    saved: list[int] = []

    def save(result: dict[str, Any]) -> None:
        gpu_peers.write(tmp_path / "peers.json", result)
        saved.append(len(json.loads((tmp_path / "peers.json").read_text())["rows"]))

    peers = [*gpu_peers.everybody(), Fake("nobody", absent="it is on the moon")]
    result = gpu_peers.measure("cpu", SHAPE, SIZES, 2, 1000, peers=peers, ceilings=lambda: CEILINGS, without=["torch, expert by expert"],
                               save=save)
    assert saved == [1, 2, 3, 4, 5, 6, 6], "two of experts, contexts, window, batch, and the end"
    assert all(row["results"]["gptoss_native"]["status"] == "ok" for row in result["rows"])
    for name in ("triton_kernels", "Marlin (vLLM)", "Humming", "FA3 with sinks (vLLM)"):
        assert result["peers"][name] == {"absent": "it needs a card"} and f"- {name}: absent, it needs a card" in result["text"]
    assert "- nobody: absent, it is on the moon" in result["text"]
    assert "- torch, expert by expert: absent, left out by --without" in result["text"]
    assert "torch grouped_mm, us" in result["text"] and "### attention, decode" in result["text"]


def test_rows_without_time_are_named() -> None:
    result = gpu_peers.measure("cpu", SHAPE, SIZES, 1, -1.0, peers=[], ceilings=lambda: CEILINGS)
    assert [row["left out"] for row in result["rows"]] == ["no time"] * 6 and "no time" in result["text"]


def test_a_card_that_a_peer_broke_ends_the_race_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    result = gpu_peers.measure("cpu", SHAPE, SIZES, 1, 1000, peers=[], ceilings=lambda: CEILINGS)
    assert "gptoss_native left the card unusable in experts {'tokens': 1, 'experts': 8}: CUDA error" in result["text"]
    assert result["lost"] in result["text"]


def test_ours_takes_torch_s_memory_as_it_is() -> None:
    ours, tensor = Ours("cpu"), torch.zeros(3, 4, dtype=torch.bfloat16)
    assert ours.array(tensor).address == tensor.data_ptr() and isinstance(ours.array(tensor), ops.Array)


# ---- the glue of those who need a card


def test_marlin_s_padding_changes_no_result() -> None:
    problem = expert_problem(7)
    (up, up_scales, up_bias), (down, down_scales, down_bias) = padded_weights(problem.experts)
    assert up.shape == (8, 2 * 128, 256 // 2) and down.shape == (8, 256, 128 // 2)
    wide = torch.nn.functional.pad(problem.x.double(), (0, 256 - 96))
    choice, weight = problem.routes[0]
    total = torch.zeros(7, 256, dtype=torch.float64)
    for t in range(7):
        for e, factor in zip(choice[t].tolist(), weight[t].double(), strict=True):
            u = p.dequantized(up[e].unflatten(-1, (-1, 16)), up_scales[e]) @ wide[t] + up_bias[e].double()
            y = p.dequantized(down[e].unflatten(-1, (-1, 16)), down_scales[e]) @ swiglu(u, SHAPE) + down_bias[e].double()
            total[t] += factor * y
    torch.testing.assert_close(total[:, :96], problem.want(0))
    assert not total[:, 96:].any()


@pytest.mark.parametrize(("tokens", "block"), [(1, 8), (57, 8), (58, 16), (8192, 64)])
def test_marlin_s_blocks(tokens: int, block: int) -> None:
    assert block_size(tokens, 4, 32) == block


def test_pairs_are_aligned_to_blocks() -> None:
    choice = torch.tensor([[2, 3, 4], [1, 2, 4], [1, 3, 4], [1, 2, 3]], dtype=torch.int32)
    ids, experts, total = aligned(choice, 4, 5)
    assert ids.tolist() == [3, 6, 9, 12, 0, 4, 10, 12, 1, 7, 11, 12, 2, 5, 8, 12]
    assert experts.tolist() == [1, 2, 3, 4] and total.tolist() == [16]


def attend(q: Any, k: Any, v: Any, window: tuple[int, int], sinks: Any = None) -> tuple[Any, Any]:
    """One sequence as the libraries document it: q (1, heads, d), k and v (keys, kv_heads, d)."""
    k, v = (part.double().repeat_interleave(q.shape[1] // part.shape[1], dim=1) for part in (k, v))
    if window[0] >= 0:
        k, v = k[-window[0] - 1:], v[-window[0] - 1:]
    scores = torch.einsum("qhd,khd->hqk", q.double(), k) / math.sqrt(q.shape[-1])
    if sinks is not None:
        column = sinks.double()[:, None, None].expand(-1, q.shape[0], 1)
        weight = torch.cat([scores, column], dim=-1).softmax(dim=-1)[..., :-1]
    else:
        weight = scores.softmax(dim=-1)
    return torch.einsum("hqk,khd->qhd", weight, v), scores.logsumexp(dim=-1)


@pytest.mark.parametrize("window", [None, 20])
def test_the_glue_of_flash_attention(window: int | None) -> None:
    problem = attention_problem(2, 33, window)

    def with_kvcache(q: Any, k: Any, v: Any, *, cache_seqlens: Any, causal: bool, window_size: Any, return_softmax_lse: bool) -> Any:
        assert cache_seqlens.tolist() == [33, 33] and causal and return_softmax_lse
        each = [attend(q[b], k[b], v[b], window_size) for b in range(2)]
        return torch.stack([out for out, _ in each]), torch.stack([lse for _, lse in each])

    def varlen(q: Any, k: Any, v: Any, *, max_seqlen_q: int, cu_seqlens_q: Any, max_seqlen_k: int, cu_seqlens_k: Any, causal: bool,
               window_size: Any, fa_version: int, s_aux: Any) -> Any:
        assert (max_seqlen_q, max_seqlen_k, fa_version, causal) == (1, 33, 3, True)
        ends, queries = cu_seqlens_k.tolist(), cu_seqlens_q.tolist()
        return torch.cat([attend(q[queries[b]:queries[b + 1]], k[ends[b]:ends[b + 1]], v[ends[b]:ends[b + 1]], window_size, s_aux)[0]
                          for b in range(2)])

    cache, sinks = FlashCache("FA3", "flash_attn_interface"), FlashWithSinks()
    cache.module = SimpleNamespace(flash_attn_with_kvcache=with_kvcache)
    sinks.module = SimpleNamespace(flash_attn_varlen_func=varlen)
    for peer in (cache, sinks):
        turns = peer.prepare(problem)
        assert isinstance(turns, TorchTurns)
        assert p.error(turns.result(1), problem.want(1))[0] < 1e-5
