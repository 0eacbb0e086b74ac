"""Sampling options by name: what each does to the tokens, what is refused, and stop texts that never show in part."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import gptoss_native as gptoss
from gptoss_native import SamplingParams
from gptoss_native.chat.turn import Turn
from gptoss_native.harmony import Parser, Toolbox
from gptoss_native.sampling.stops import StopTexts, TextReader
from small_models import endless, ids, write_small

GREEDY = {"temperature": 0.0}
PROMPT = ids(40, seed=1)
WORDS = 16


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gptoss.Engine]:
    with gptoss.load(write_small(tmp_path_factory.mktemp("params")), max_context=1024) as made:
        yield made


def allow(*tokens: int) -> npt.NDArray[np.uint32]:
    """The mask of these tokens."""
    bits = np.zeros(32 * WORDS, np.uint8)
    bits[list(tokens)] = 1
    return np.packbits(bits, bitorder="little").view(np.uint32)


# What each does


def test_top_k_1_min_p_1_and_tiny_top_p_are_greedy(engine: gptoss.Engine) -> None:
    greedy = engine.generate(PROMPT, endless(temperature=0, max_tokens=30)).tokens
    for params in ({"top_k": 1}, {"min_p": 1.0}, {"top_p": 1e-30}, {"temperature": 1e-7}):
        assert engine.generate(PROMPT, endless(max_tokens=30, **params)).tokens == greedy
    free = engine.generate(PROMPT, endless(max_tokens=30)).tokens
    for nothing in ({"top_k": 0}, {"top_k": -1}, {"top_k": 512}, {"min_p": 0}, {"top_p": 1}, {"repetition_penalty": 1}):
        assert engine.generate(PROMPT, endless(max_tokens=30, **nothing)).tokens == free


def test_top_k_draws_from_the_k_best(engine: gptoss.Engine) -> None:
    completion = engine.generate(PROMPT, endless(max_tokens=200, top_k=3, logprobs=True, top_logprobs=20, temperature=2))
    assert completion.top_logprobs is not None
    forbidden = set(range(488, 512))
    for token, best in zip(completion.tokens, completion.top_logprobs):
        assert token in [each for each, _ in best if each not in forbidden][:3]


def test_logit_bias_forbids_favours_and_forces(engine: gptoss.Engine) -> None:
    free = engine.generate(PROMPT, SamplingParams(**GREEDY, max_tokens=20)).tokens
    banned = engine.generate(PROMPT, SamplingParams(**GREEDY, max_tokens=20, logit_bias={free[3]: -math.inf})).tokens
    assert banned[:3] == free[:3] and free[3] not in banned
    assert engine.generate(PROMPT, SamplingParams(seed=1, max_tokens=9, logit_bias={77: 100})).tokens == (77,) * 9


def test_penalties_by_hand(engine: gptoss.Engine) -> None:
    """Greedy tokens, drawn by numpy from the engine's own logits with penalties applied there."""
    params = SamplingParams(**GREEDY, max_tokens=25, repetition_penalty=1.2, presence_penalty=0.5,
                            frequency_penalty=0.3, logit_bias={11: 1.5})  # fmt: skip
    got = list(engine.generate(PROMPT, params).tokens)
    drawn: list[int] = []
    for _ in got:
        logits = engine.logits([*PROMPT.tolist(), *drawn], rows=[-1])[0].astype(np.float32)
        counts = Counter(drawn)
        for token in {*PROMPT.tolist(), *drawn}:
            logits[token] = logits[token] / np.float32(1.2) if logits[token] > 0 else logits[token] * np.float32(1.2)
        for token, count in counts.items():
            logits[token] = logits[token] - np.float32(0.3) * np.float32(count) - np.float32(0.5)
        logits[11] += np.float32(1.5)
        drawn.append(int(np.argmax(logits)))
    assert drawn == got


def test_more_biases_than_the_engine_can_hold_are_an_error_and_as_many_work(tmp_path: Path) -> None:
    with gptoss.load(write_small(tmp_path, vocab_size=3000), max_context=32) as own:
        with pytest.raises(ValueError, match="1025 tokens have a bias, and 1024 may"):
            own.generate([1], SamplingParams(logit_bias=dict.fromkeys(range(1025), 1.0)))
        most = dict.fromkeys(range(1976, 3000), -1.0)
        allowed = np.zeros(94, np.uint32)
        allowed[10:40] = 0xFFFFFFFF  # none of those with a bias: every token of the context gets an entry of its own
        params = SamplingParams(logit_bias=most, presence_penalty=2, seed=1, logits_mask=lambda _: allowed)
        assert len(own.generate([1], params).tokens) == 31
        n = SamplingParams(logit_bias=most, presence_penalty=2, seed=1, logits_mask=lambda _: allowed, n=4)
        assert [len(each.tokens) for each in own.generate([1], n).completions] == [31] * 4


def test_a_mask_says_what_may_come_next(engine: gptoss.Engine) -> None:
    seen: list[list[int]] = []

    def mask(tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.uint32] | None:
        seen.append(tokens.tolist())
        assert not tokens.flags.writeable
        return None if len(tokens) == 3 else allow(10 + len(tokens), 20 + len(tokens))

    tokens = engine.generate(PROMPT, SamplingParams(seed=4, max_tokens=6, logits_mask=mask)).tokens
    assert all(token - place in (10, 20) for place, token in enumerate(tokens) if place != 3)
    assert seen == [list(tokens[:count]) for count in range(6)]


def test_min_tokens_forbids_stop_tokens_until_then(engine: gptoss.Engine) -> None:
    favour = {300: 100.0}
    stop = {"stop_token_ids": (300,), "logit_bias": favour}
    assert engine.generate(PROMPT, SamplingParams(**GREEDY, **stop)).tokens == (300,)  # type: ignore[arg-type]
    for least in (1, 5):
        completion = engine.generate(PROMPT, SamplingParams(**GREEDY, **stop, min_tokens=least))  # type: ignore[arg-type]
        assert completion.tokens[-1] == 300 and len(completion.tokens) == least + 1
        assert 300 not in completion.tokens[:-1] and completion.finish_reason == "stop"
        assert not {489, 492, 502} & {*completion.tokens}


def test_logprobs_are_those_of_the_logits(engine: gptoss.Engine) -> None:
    params = SamplingParams(seed=2, max_tokens=12, temperature=1.7, top_p=0.8, logit_bias={5: 4.0}, logprobs=True,
                            top_logprobs=4)  # fmt: skip
    stream = engine.stream(PROMPT, params)
    tokens = list(stream)
    completion = stream.completion
    logits = engine.logits([*PROMPT.tolist(), *completion.tokens[:-1]], rows=range(39, 39 + len(tokens)))
    want = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True))
    for row, token in zip(want, tokens):
        assert token.logprob == pytest.approx(row[token.id], abs=1e-4)
        assert [each for each, _ in token.top_logprobs] == np.argsort(-row, kind="stable")[:4].tolist()
        assert [value for _, value in token.top_logprobs] == pytest.approx(np.sort(row)[::-1][:4].tolist(), abs=1e-4)
    assert completion.logprobs == tuple(token.logprob for token in tokens)
    assert completion.top_logprobs == tuple(token.top_logprobs for token in tokens)
    bare = engine.generate(PROMPT, SamplingParams(seed=2, max_tokens=3))
    assert bare.logprobs is None and bare.top_logprobs is None
    one = engine.generate(PROMPT, SamplingParams(seed=2, max_tokens=3, logprobs=True))
    assert one.logprobs is not None and one.top_logprobs == ((),) * len(one.tokens)


def test_samples_follow_the_model_s_distribution(engine: gptoss.Engine) -> None:
    """Chi-square over the eight most probable tokens and the rest, of 128 samples for each of 16 seeds."""
    prompt = ids(10, seed=3)
    logits = engine.logits(prompt, rows=[-1])[0].astype(np.float64)
    probability = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    best = np.argsort(-probability)[:8]
    drawn = Counter(each.tokens[0] for seed in range(16)
                    for each in engine.generate(prompt, SamplingParams(seed=seed, n=128, max_tokens=1)).completions)
    expected = np.append(probability[best], 1 - probability[best].sum()) * 2048
    observed = np.array([*(drawn[int(token)] for token in best), 2048 - sum(drawn[int(token)] for token in best)])
    assert ((observed - expected) ** 2 / expected).sum() < 27.9  # 8 degrees of freedom: one in 2,000


# What is refused


@pytest.mark.parametrize(("arguments", "error", "words"), [
    ({"top_k": -2}, ValueError, "top_k must be at least -1, not -2"),
    ({"top_k": 1.5}, TypeError, "top_k must be an integer, not float"),
    ({"top_k": np.array([5])}, TypeError, r"top_k must be an integer, not ndarray array\(\[5\]\)"),
    ({"temperature": np.array([1.0, 2.0])}, TypeError, "temperature must be a number, not ndarray"),
    ({"temperature": np.True_}, TypeError, "temperature must be a number, not bool"),
    ({"min_p": 1.1}, ValueError, "min_p must be between 0 and 1, not 1.1"),
    ({"min_p": "0"}, TypeError, "min_p must be a number"),
    ({"repetition_penalty": 0}, ValueError, "repetition_penalty must be above 0"),
    ({"repetition_penalty": math.inf}, ValueError, "repetition_penalty"),
    ({"presence_penalty": 2.1}, ValueError, "presence_penalty must be between -2 and 2, not 2.1"),
    ({"frequency_penalty": math.nan}, ValueError, "frequency_penalty must be between -2 and 2, not nan"),
    ({"logit_bias": [1]}, TypeError, "logit_bias must be a mapping"),
    ({"logit_bias": {"5": 1}}, TypeError, "each token id of logit_bias must be an integer, not str '5'"),
    ({"logit_bias": {-5: 1}}, ValueError, "each token id of logit_bias must be at least 0"),
    ({"logit_bias": {5: 101}}, ValueError, "logit_bias of token 5 must be between -100 and 100, or -inf, not 101"),
    ({"logit_bias": {5: None}}, TypeError, "logit_bias of token 5 must be a number, not NoneType"),
    ({"logit_bias": {5: math.nan}}, ValueError, "logit_bias of token 5"),
    ({"logits_mask": 3}, TypeError, "logits_mask must be callable, not int"),
    ({"stop": b"x"}, TypeError, "stop must be a text or a sequence of texts, not bytes"),
    ({"stop": 3}, TypeError, "stop must be a text"),
    ({"stop": ["a", 3]}, TypeError, "each of stop must be a text, not int 3"),
    ({"stop": ""}, ValueError, "stop holds an empty text"),
    ({"min_tokens": -1}, ValueError, "min_tokens must be at least 0"),
    ({"min_tokens": 6, "max_tokens": 5}, ValueError, "min_tokens must be at most max_tokens, 5, not 6"),
    ({"n": 0}, ValueError, "n must be between 1 and 128, not 0"),
    ({"n": 129}, ValueError, "n must be"),
    ({"logprobs": 3}, TypeError, "logprobs must be True or False, not int 3"),
    ({"top_logprobs": 3}, ValueError, "top_logprobs=3 needs logprobs=True"),
    ({"top_logprobs": 21, "logprobs": True}, ValueError, "top_logprobs must be between 0 and 20, not 21"),
])  # fmt: skip
def test_what_is_out_of_range_is_named(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        SamplingParams(**arguments)


def test_what_does_not_fit_the_model_is_named(engine: gptoss.Engine) -> None:
    for params, words in ((SamplingParams(logit_bias={512: 1}), "logit_bias of token 512 is not between 0 and 511"),
                          (SamplingParams(stop_token_ids=(600,)), "stop token id 600")):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            engine.stream([1], params)
    with pytest.raises(ValueError, match="n=2 samples cannot be told apart"):
        engine.stream_chat([{"role": "user", "content": "hello"}], params=SamplingParams(n=2))


def test_numbers_of_numpy_and_lists_are_taken(engine: gptoss.Engine) -> None:
    params = SamplingParams(temperature=np.float32(1), top_k=np.int64(5), logit_bias={np.int32(3): np.float64(1)},
                            stop=["a", "b"], stop_token_ids=[np.int64(4)], n=np.int8(2), logprobs=np.bool_(True))  # type: ignore
    assert params.stop == ("a", "b") and params.stop_token_ids == (4,) and params.logit_bias == {3: 1.0}
    assert SamplingParams(stop="a").stop == ("a",) and SamplingParams(top_k=-1).top_k == 0


# Stop texts


def cut_by_hand(text: str, stops: list[str]) -> tuple[str, bool]:
    """Character by character: the first stop text that is complete ends it, of several the longest."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - len(max(ending, key=len))], True
    return text, False


pieces = st.lists(st.text("abc", max_size=4), max_size=12)
stop_lists = st.lists(st.text("abc", min_size=1, max_size=4), max_size=3)


@given(pieces, stop_lists)
@example(["ab", "ab", "c"], ["abc"])
@example(["a", "b", "c"], ["abc", "b"])
def test_stop_texts_are_found_however_the_text_is_cut_and_never_show_in_part(parts: list[str], stops: list[str]) -> None:
    search = StopTexts(stops)
    shown, whole = "", "".join(parts)
    want, found = cut_by_hand(whole, stops)
    for count, part in enumerate(parts, 1):
        shown += search.feed(part)
        so_far = "".join(parts[:count])
        held = so_far[len(shown):] if not search.found else ""
        assert want.startswith(shown)
        assert held == "" or any(stop.startswith(held) for stop in stops)
    shown += search.finish()
    assert (shown, search.found) == (want, found)


@given(st.text("aé中😀\n", max_size=12), st.lists(st.text("aé中😀", min_size=1, max_size=3), min_size=1, max_size=3),
       st.integers(0, 10))
def test_stop_texts_across_tokens_that_are_parts_of_characters(text: str, stops: list[str], least: int) -> None:
    class Bytes:
        """One token for each byte, the worst case."""

        def token_bytes(self, token: int) -> bytes:
            return bytes([token])

    reader = TextReader(Bytes(), stops, min_tokens=least)  # type: ignore[arg-type]
    data, shown = text.encode(), ""
    for token in data:
        if not reader.stopped:
            shown += reader.feed(token)
    shown += reader.finish()
    skipped = max(0, least - 1)
    before = data[:skipped].decode(errors="ignore")
    want, found = cut_by_hand(text[len(before):], stops)
    assert (shown, reader.stopped) == (before + want, found)


@pytest.mark.parametrize("seed", range(8))
def test_a_generation_ends_at_its_stop_text(engine: gptoss.Engine, seed: int) -> None:
    free = engine.generate("The quick", endless(seed, max_tokens=60))
    assert free.text is not None
    rng = np.random.default_rng(seed)
    for length in (1, 2, 5):
        begin = int(rng.integers(0, len(free.text) - length))
        stop = free.text[begin : begin + length]
        stream = engine.stream("The quick", endless(seed, max_tokens=60, stop=[stop, "never"]))
        shown = ""
        for token in stream:
            shown += token.text or ""
            assert stop not in shown
        cut = stream.completion
        assert cut.text == shown == free.text[: free.text.index(stop)]
        assert cut.finish_reason == "stop" and cut.tokens == free.tokens[: len(cut.tokens)]
        assert stop in engine.tokenizer.decode(cut.tokens) and stop not in engine.tokenizer.decode(cut.tokens[:-1])


def test_stop_texts_need_a_tokenizer(engine: gptoss.Engine, tmp_path: Path) -> None:
    for path in engine._checkpoint.path.iterdir():
        if path.name != "tokenizer.json":
            (tmp_path / path.name).symlink_to(path)
    with gptoss.load(tmp_path, max_context=64) as own:
        with pytest.raises(gptoss.TokenizerError, match="tokenizer.json"):
            own.generate([1], SamplingParams(stop="x"))


def answer(tokenizer: gptoss.Tokenizer, *messages: tuple[str, str]) -> list[int]:
    """Tokens of a completion with these (channel, text)."""
    tokens: list[int] = []
    for count, (channel, text) in enumerate(messages):
        if count:
            tokens += [tokenizer.special("<|start|>"), *tokenizer.encode("assistant")]
        tokens += [tokenizer.special("<|channel|>"), *tokenizer.encode(channel), tokenizer.special("<|message|>"),
                   *tokenizer.encode(text), tokenizer.special("<|end|>")]
    return [*tokens[:-1], tokenizer.special("<|return|>")]


@pytest.mark.parametrize(("said", "stops", "text", "found"), [
    ([("analysis", "a stop here"), ("final", "no stop but this stop that")], ("stop t",), "no stop but this ", True),
    ([("analysis", "stop"), ("final", "none")], ("stop",), "none", False),
    ([("final", "first stop"), ("final", "second")], ("stop",), "first ", True),
    ([("final", "sto"), ("final", "p it")], ("stop",), "stop it", False),
    ([("commentary", "stop"), ("final", "ends in sto")], ("stop",), "ends in sto", False),
    ([("final", "stop")], ("stop",), "", True),
])  # fmt: skip
def test_in_a_conversation_the_answer_is_cut(
    engine: gptoss.Engine, said: list[tuple[str, str]], stops: tuple[str, ...], text: str, found: bool
) -> None:
    turn, events = Turn(engine.tokenizer, Toolbox(), stops, 0), []
    tokens = answer(engine.tokenizer, *said)
    for token in tokens:
        events += turn.feed(token)
        if turn.stopped:
            break
    events += turn.finish("stop")
    done = events[-1]
    assert isinstance(done, gptoss.Done)
    assert (done.text, turn.stopped, done.reason) == (text, found, "stop")
    assert "".join(event.text for event in events if isinstance(event, gptoss.TextDelta)) == text
    ended = [event.message for event in events if isinstance(event, gptoss.MessageDone)]
    assert tuple(ended) == done.messages
    assert "".join(message.text for message in done.messages if message.kind == "text") == text
    whole = Parser(engine.tokenizer)
    whole.feed(tokens)
    assert done.reasoning == whole.reasoning and done.preamble == whole.preamble


def test_a_conversation_ends_at_its_stop_text_streamed_or_not(engine: gptoss.Engine) -> None:
    messages = [{"role": "user", "content": "hello"}]
    for seed in range(40):
        free = engine.chat(messages, params=SamplingParams(seed=seed, max_tokens=80))
        if len(free.text) > 6:
            break
    stop = free.text[3:5]
    params = SamplingParams(seed=seed, max_tokens=80, stop=stop)
    reply = engine.chat(messages, params=params)
    with engine.stream_chat(messages, params=params) as stream:
        events = list(stream)
    assert stream.reply.text == reply.text == free.text[: free.text.index(stop)]
    assert (stream.reply.messages, stream.reply.tokens) == (reply.messages, reply.tokens)
    assert reply.finish_reason == "stop" and len(reply.tokens) < len(free.tokens)
    assert "".join(event.text for event in events if isinstance(event, gptoss.TextDelta)) == reply.text


def test_n_replies_of_one_turn(engine: gptoss.Engine) -> None:
    messages = [{"role": "user", "content": "hello"}]
    replies = engine.chat(messages, params=SamplingParams(seed=1, n=3, max_tokens=25)).replies
    assert len(replies) == 3 and len({reply.tokens for reply in replies}) == 3
    assert replies[0].tokens == engine.chat(messages, params=SamplingParams(seed=1, max_tokens=25)).tokens
