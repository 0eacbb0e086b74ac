"""Tokens that follow without being drawn, and draws from a few: what budgets and formats are made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import gptoss_native as gptoss
from gptoss_native import SamplingParams
from gptoss_native.scheduler.request import Ids, Request, Steering
from gptoss_native.scheduler.stream import TokenStream
from small_models import endless, ids, write_small

FORCED = (7, 8, 9, 10, 11)
CHOICE = (100, 200, 300)


class Steered:
    """After `free` drawn tokens FORCED follow, then one of CHOICE, as often as that happens."""

    def __init__(self, free: int) -> None:
        self._free, self._since = free, 0
        self.fed: list[int] = []
        self.stopped = False

    def feed(self, token: int) -> None:
        self.fed.append(token)

    @property
    def steering(self) -> Steering | None:
        if not self.fed:
            return Steering(allowed=CHOICE)
        self._since += 1
        if self._since == self._free:
            self._since = 0
            return Steering(FORCED, CHOICE)
        return None


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gptoss.Engine]:
    with gptoss.load(write_small(tmp_path_factory.mktemp("steering")), max_context=512, max_sequences=4) as made:
        yield made


def steered(engine: gptoss.Engine, prompt: Ids, params: SamplingParams, free: int = 6) -> TokenStream:
    request = Request(prompt, params, seed=params.seed or 0, stop_ids=frozenset(), limit=params.max_tokens or 1,
                      reader=lambda: Steered(free))  # fmt: skip
    return TokenStream(engine._scheduler, request, None, None, None)


@pytest.mark.parametrize("params", [
    SamplingParams(temperature=0, max_tokens=40), endless(3, max_tokens=40, logprobs=True, top_logprobs=2),
    endless(4, max_tokens=37, frequency_penalty=1.5, repetition_penalty=1.2), SamplingParams(seed=5, max_tokens=8),
], ids=["greedy", "sampled", "penalties", "ends among forced tokens"])  # fmt: skip
def test_forced_tokens_follow_and_the_draws_go_on_from_them(engine: gptoss.Engine, params: SamplingParams) -> None:
    prompt = ids(30)
    stream = steered(engine, prompt, params)
    read = list(stream)
    tokens = tuple(token.id for token in read)
    assert stream.completion.tokens == tokens and len(tokens) == params.max_tokens
    assert all(token.forced == (i % 11 >= 6) for i, token in enumerate(read))
    assert read[-1].finish_reason == "length"
    for i, token in enumerate(read):
        if token.forced:
            assert token.id == FORCED[i % 11 - 6] and token.top_logprobs == ()
            assert token.logprob == (0.0 if params.logprobs else None)
        else:  # the same draw as that of a caller who asks for one token there, with a mask of the same
            allowed = CHOICE if i % 11 == 0 else range(512)
            mask = np.zeros(16, np.uint32)
            for each in allowed:
                mask[each // 32] |= np.uint32(1 << each % 32)
            if params.frequency_penalty == 0:
                once = SamplingParams(temperature=params.temperature, seed=params.seed or 0, max_tokens=1,
                                      logit_bias=params.logit_bias, logits_mask=lambda _, mask=mask: mask)  # type: ignore[misc]
                assert engine.generate([*prompt.tolist(), *tokens[:i]], once).tokens == (token.id,)
            assert token.id in allowed


def test_steered_and_plain_sequences_share_steps(engine: gptoss.Engine) -> None:
    params = [endless(seed, max_tokens=60) for seed in range(4)]
    alone = [steered(engine, ids(20, seed), each).run().tokens for seed, each in enumerate(params)]
    plain = engine.generate(ids(9), endless(9, max_tokens=80)).tokens
    streams = [steered(engine, ids(20, seed), each) for seed, each in enumerate(params)]
    beside = engine.stream(ids(9), endless(9, max_tokens=80))
    assert [stream.run().tokens for stream in streams] == alone and beside.run().tokens == plain


def test_n_samples_are_steered_each_on_its_own(engine: gptoss.Engine) -> None:
    completion = steered(engine, ids(20), endless(1, max_tokens=30, n=3)).run()
    assert all(each.tokens[6:11] == FORCED and each.tokens[0] in CHOICE for each in completion.completions)
    assert len({each.tokens for each in completion.completions}) == 3


def test_a_choice_that_the_mask_forbids_is_an_error(engine: gptoss.Engine, tmp_path: Path) -> None:
    none_of_them = np.full(16, 0xFFFFFFFF, np.uint32)
    for token in CHOICE:
        none_of_them[token // 32] &= ~np.uint32(1 << token % 32)
    with pytest.raises(gptoss.GptOssError, match="no token may be drawn"):
        steered(engine, ids(20), endless(1, max_tokens=30, logits_mask=lambda _: none_of_them)).run()
