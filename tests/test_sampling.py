"""The sample stage draws the very token of its numpy twin, whatever the settings and the logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import sampling_twin
from conftest import CaseMaker
from engines import ids, open_engine
from gptoss_native import _core
from sampling_twin import log_softmax, most_probable, sample
from shapes import Shape

BATCH = 32
VOCAB = 2003
SHAPE = Shape("sampling", {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 32, "vocab_size": VOCAB})
PLAIN: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "seed": 1, "index": 0}
Results = dict[str, npt.NDArray[Any]]


class Sampler:
    """The native stage on logits of our own: BATCH sequences of different lengths."""

    def __init__(self, engine: _core.Engine) -> None:
        self.engine = engine
        self.lengths = [0, 1, 5, 63, 64, 200, *range(2, BATCH - 4)]
        self.sessions = [engine.session() for _ in self.lengths]
        for session, length in zip(self.sessions, self.lengths, strict=True):
            if length:
                engine.step([_core.Work(session, ids(np.arange(length)))])

    def run(self, logits: npt.NDArray[np.float32], params: list[dict[str, Any]], *fields: str) -> Results:
        """One draw for each row of (n, VOCAB) logits: the token after one more than lengths[i] cached ones."""
        work = [_core.Work(session, ids([0]), sampling=_core.Sampling(**p))
                for session, p in zip(self.sessions, params, strict=False)]
        return self.engine.run_stages(["sample"], 0, work, {"logits": logits}, fields)

    def draw(self, logits: npt.NDArray[np.float32], params: list[dict[str, Any]]) -> list[int]:
        tokens: list[int] = self.run(logits, params, "next_token")["next_token"].tolist()
        return tokens

    def twin(self, logits: npt.NDArray[np.float32], params: list[dict[str, Any]]) -> list[int]:
        return [sample(row, position=length + 1, **p)
                for row, length, p in zip(logits, self.lengths, params, strict=False)]


@pytest.fixture(scope="module")
def sampler(case_of: CaseMaker) -> Iterator[Sampler]:
    engine = open_engine(case_of(SHAPE).folder, max_sequences=BATCH, max_tokens=256, max_context=2048)
    yield Sampler(engine)
    engine.close()


def random_edits(rng: np.random.Generator) -> sampling_twin.Edits:
    """A few tokens or nearly all; some forbidden outright."""
    token = rng.permutation(VOCAB)[:int(rng.choice([1, 5, 60, VOCAB]))].astype(np.int32)
    count = rng.choice([0, 0, 1, 2, 900], len(token)).astype(np.int32)
    seen = np.where(count > 0, 1, rng.integers(0, 2, len(token))).astype(np.int32)
    bias = rng.choice([0, 0, 0.5, -3, 100, -100, -np.inf], len(token)).astype(np.float32)
    return token, seen, count, bias


def random_mask(rng: np.random.Generator) -> npt.NDArray[np.uint32]:
    """Most tokens, few, one, or none allowed; bits beyond the vocabulary mean nothing."""
    allowed = np.full(-(-VOCAB // 32) * 32, rng.random() < 0.5)
    kind = rng.integers(4)
    if kind < 2:
        allowed[:VOCAB] = rng.random(VOCAB) < (0.9, 0.01)[kind]
    else:
        allowed[:VOCAB] = np.arange(VOCAB) == (rng.integers(VOCAB) if kind == 2 else -1)
    return np.packbits(allowed, bitorder="little").view(np.uint32)


def random_params(rng: np.random.Generator) -> dict[str, Any]:
    """Every setting at its neutral value half of the time."""
    def sometimes(neutral: float, *others: float) -> float:
        return float(rng.choice(others)) if rng.random() < 0.5 else neutral

    return {"temperature": float(rng.choice([0, 9e-6, 1e-5, 1e-3, 0.2, 0.7, 1, 1.3, 5, 1e5])),
            "top_p": sometimes(1, 0.999, 0.95, 0.5, 0.1, 1e-6, 1e-50, rng.uniform(0.01, 1)),
            "min_p": sometimes(0, 1, 1e-9, 0.05, 0.3, 0.999, rng.uniform(0, 1)),
            "top_k": int(sometimes(0, 1, 2, 40, VOCAB - 1, VOCAB, VOCAB + 1, 2**31 - 1, rng.integers(1, VOCAB))),
            "repetition_penalty": sometimes(1, 1.1, 2, 0.5, 1e6, 1e-6),
            "presence_penalty": sometimes(0, 0.5, 2, -2, 1e6),
            "frequency_penalty": sometimes(0, 0.1, 1, -0.3, 1e6),
            "seed": int(rng.integers(0, 2**64, dtype=np.uint64)), "index": int(rng.integers(0, 2**32, dtype=np.uint64)),
            "edits": random_edits(rng) if rng.random() < 0.5 else None,
            "mask": random_mask(rng) if rng.random() < 0.5 else None,
            "logprobs": int(rng.choice([-1, -1, 0, 1, 5, 20]))}


def assert_same_draws(engines: Sequence[_core.Engine], kind: str, sequences: int, rounds: int) -> None:
    """From the same logits of that kind two engines of SHAPE draw the very same tokens, not only nearly always: sampling
    is exact arithmetic on every device. Log probabilities may differ in their last bits."""
    rng = np.random.default_rng(list(KINDS).index(kind))
    for _ in range(rounds):
        logits = np.asarray(KINDS[kind](rng, (sequences, VOCAB)), dtype=np.float32)
        params = [random_params(rng) for _ in range(sequences)]
        results = []
        for engine in engines:
            sessions = [engine.session() for _ in params]
            work = [_core.Work(session, ids([0]), sampling=_core.Sampling(**p))
                    for session, p in zip(sessions, params, strict=True)]
            results.append(engine.run_stages(["sample"], 0, work, {"logits": logits},
                                             ["next_token", "logprob", "top_token", "top_logprob"]))
        ours, theirs = results
        assert np.array_equal(ours["next_token"], theirs["next_token"])
        for i, p in enumerate(params):
            if ours["next_token"][i] >= 0 and p["logprobs"] >= 0:
                top = slice(0, p["logprobs"])
                assert np.array_equal(ours["top_token"][i, top], theirs["top_token"][i, top])
                np.testing.assert_allclose(ours["logprob"][i], theirs["logprob"][i], rtol=2**-22)
                np.testing.assert_allclose(ours["top_logprob"][i, top], theirs["top_logprob"][i, top], rtol=2**-22)


def ulps(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Neighbouring floats, below a largest of 0."""
    start = np.float32(rng.choice([-0.25, -0.2499978, -1, -22.18, -1e-7])).view(np.uint32)
    logits = (start + rng.integers(0, 64, shape, dtype=np.uint32)).view(np.float32)
    logits[:, rng.integers(shape[1])] = 0
    return logits


KINDS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Any]] = {
    "normal": lambda rng, shape: rng.normal(0, 2, shape),
    "peaked": lambda rng, shape: rng.normal(0, 15, shape),
    "large": lambda rng, shape: rng.normal(0, 1e4, shape),
    "as_large_as_floats_get": lambda rng, shape: rng.choice([3.4028e38, -3.4028e38, 1e38, 2, 0], shape),
    "all_equal": lambda rng, shape: np.full(shape, rng.normal()),
    "all_zero_but_for_the_sign": lambda rng, shape: rng.choice([-0.0, 0.0], shape),
    "many_ties": lambda rng, shape: rng.integers(-3, 3, shape),
    "bf16_like": lambda rng, shape: np.round(rng.normal(0, 2, shape) * 16) / 16,
    "signed_zeros": lambda rng, shape: rng.choice([-0.0, 0.0, -1.0], shape),
    "subnormal": lambda rng, shape: rng.integers(-9, 9, shape) * np.float32(1e-45),
    "neighbouring_floats": ulps,
    "some_impossible": lambda rng, shape: np.where(rng.random(shape) < 0.5, -np.inf, rng.normal(0, 2, shape)),
    "one_possible": lambda rng, shape: np.where(np.arange(shape[-1]) == 77, 0, -np.inf) * np.ones(shape),
    "none_possible": lambda rng, shape: np.full(shape, -np.inf),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_is_the_twin_s(sampler: Sampler, kind: str) -> None:
    rng = np.random.default_rng(list(KINDS).index(kind))
    for _ in range(25):
        logits = np.asarray(KINDS[kind](rng, (BATCH, VOCAB)), dtype=np.float32)
        params = [random_params(rng) for _ in range(BATCH)]
        drawn, twin = sampler.draw(logits, params), sampler.twin(logits, params)
        assert drawn == twin, [p for p, got, want in zip(params, drawn, twin, strict=True) if got != want]


@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_are_those_of_the_model_whatever_is_drawn(sampler: Sampler, kind: str) -> None:
    """To two units of float32: the sum is float64, in another order."""
    rng = np.random.default_rng(100 + list(KINDS).index(kind))
    for _ in range(4):
        logits = np.asarray(KINDS[kind](rng, (BATCH, VOCAB)), dtype=np.float32)
        params = [random_params(rng) for _ in range(BATCH)]
        got = sampler.run(logits, params, "next_token", "logprob", "top_token", "top_logprob")
        for i, p in enumerate(params):
            token, count = int(got["next_token"][i]), p["logprobs"]
            if token < 0 or count < 0:
                continue
            best = most_probable(logits[i], count)
            with np.errstate(over="ignore"):
                logprobs = log_softmax(logits[i]).astype(np.float32)
            assert got["top_token"][i, :count].tolist() == best.tolist()
            np.testing.assert_allclose(got["logprob"][i], logprobs[token], rtol=2**-22, atol=1e-30)
            np.testing.assert_allclose(got["top_logprob"][i, :count], logprobs[best], rtol=2**-22, atol=1e-30)


def test_greedy_takes_the_lowest_of_equal_ids(sampler: Sampler) -> None:
    logits = np.zeros((BATCH, VOCAB), np.float32)
    logits[:, [1900, 17, 300]] = 2.5
    assert sampler.draw(logits, [PLAIN | {"temperature": 0.0}] * BATCH) == [17] * BATCH


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_give_no_token(sampler: Sampler, bad: float) -> None:
    logits = np.zeros((BATCH, VOCAB), np.float32)
    logits[:, 9] = bad
    mask = np.full(-(-VOCAB // 32), 0xFFFFFFFF, np.uint32)
    mask[0] ^= 1 << 9  # forbidden, but the model is damaged all the same
    for changes in ({"temperature": 0.0}, {}, {"mask": mask}, {"top_k": 3, "logprobs": 2}):
        assert sampler.draw(logits, [PLAIN | changes] * BATCH) == [sampling_twin.NOT_FINITE] * BATCH


def test_an_impossible_choice_gives_no_token(sampler: Sampler) -> None:
    logits = np.zeros((BATCH, VOCAB), np.float32)
    everything = np.arange(VOCAB, dtype=np.int32)
    forbidden = (everything, 0 * everything, 0 * everything, np.full(VOCAB, -np.inf, np.float32))
    for changes in ({"mask": np.zeros(-(-VOCAB // 32), np.uint32)}, {"edits": forbidden}):
        for temperature in (0.0, 1.0):
            params = PLAIN | {"temperature": temperature} | changes
            assert sampler.draw(logits, [params] * BATCH) == [sampling_twin.NOTHING_ALLOWED] * BATCH


def test_min_p_where_the_exponential_falls_as_its_argument_grows(sampler: Sampler) -> None:
    """exp_exact(-0.249997735) is one unit below exp_exact(-0.24999775): the definition asks for the mass alone."""
    logits = np.full((BATCH, VOCAB), -np.inf, np.float32)
    logits[:, :3] = [0, -0.249997735, -0.24999775]
    for seed in range(3):
        for changes in ({}, {"top_k": 2}, {"top_p": 0.99}):
            params = [PLAIN | {"seed": seed, "index": i, "min_p": 13066139 / 2**24} | changes for i in range(BATCH)]
            drawn = sampler.draw(logits, params)
            assert drawn == sampler.twin(logits, params) and 1 not in drawn


def test_a_step_draws_from_its_own_logits(sampler: Sampler) -> None:
    """The whole path: forward, then sample, at the position that the session has reached."""
    engine, rng = sampler.engine, np.random.default_rng(17)
    session = engine.session()
    tokens = ids([3, 1, 4])
    for _ in range(60):
        params = random_params(rng)
        row = ids([len(tokens) - 1])
        length = session.length
        [output] = engine.step([_core.Work(session, tokens, rows=row, sampling=_core.Sampling(**params))])
        want = sample(output.logits[0], position=length + len(tokens), **params)
        assert output.token == want
        assert session.length == length + (len(tokens) if want >= 0 else 0)
        assert (output.error == "") == (want >= 0)
        if want < 0:
            continue
        tokens, count = ids([want]), params["logprobs"]
        assert output.top_tokens == most_probable(output.logits[0], max(count, 0)).tolist()
        if count >= 0:
            logprobs = log_softmax(output.logits[0])
            np.testing.assert_allclose(output.logprob, logprobs[want], rtol=2**-22)
            np.testing.assert_allclose(output.top_logprobs, logprobs[output.top_tokens], rtol=2**-22)
    session.close()


@pytest.mark.parametrize(("change", "words"), [
    ({"temperature": -0.1}, "temperature: expected 0"), ({"temperature": np.nan}, "temperature"),
    ({"top_p": 0.0}, "top_p: expected more than 0"), ({"top_p": 1.01}, "top_p"), ({"min_p": -0.1}, "min_p"),
    ({"min_p": 1.01}, "min_p"), ({"top_k": -1}, "top_k: expected 0"),
    ({"repetition_penalty": 0.0}, "repetition_penalty"), ({"repetition_penalty": 1e-50}, "repetition_penalty"),
    ({"presence_penalty": np.inf}, "presence_penalty"),
    ({"frequency_penalty": np.nan}, "frequency_penalty"), ({"logprobs": 21}, "logprobs: expected -1"),
    ({"edits": (ids([1, 2]), ids([1]), ids([1]), np.zeros(1, np.float32))}, "four arrays of one length"),
    ({"edits": (ids([1]), ids([1]), ids([1]), np.array([np.nan], np.float32))}, "edits"),
    ({"edits": (ids([1]), ids([1]), ids([1]), np.array([np.inf], np.float32))}, "edits"),
])
def test_settings_without_a_meaning_are_refused_by_name(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _core.Sampling(**PLAIN | change)


@pytest.mark.parametrize("change", [
    {"mask": np.zeros(3, np.uint32)}, {"edits": (ids([VOCAB]), ids([0]), ids([0]), np.zeros(1, np.float32))},
    {"edits": (ids([-1]), ids([0]), ids([0]), np.zeros(1, np.float32))}])
def test_settings_that_do_not_fit_the_model_are_refused(sampler: Sampler, change: dict[str, Any]) -> None:
    session = sampler.engine.session()
    with pytest.raises(ValueError, match=r"words|token ids are 0 to"):
        sampler.engine.step([_core.Work(session, ids([0]), sampling=_core.Sampling(**PLAIN | change))])
    assert session.length == 0
