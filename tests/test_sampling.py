"""The sample stage: the very token of its numpy twin, and the distributions that it promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import sampling_twin
from conftest import CaseMaker
from engines import ids, open_engine
from gptoss_native import _core
from sampling_twin import sample
from shapes import Shape

BATCH = 32
VOCAB = 5003
SHAPE = Shape("sampling", {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 32, "vocab_size": VOCAB})


class Sampler:
    """The native stage on logits of our own: BATCH sequences of different lengths."""

    def __init__(self, engine: _core.Engine) -> None:
        self.engine = engine
        self.lengths = [0, 1, 5, 63, 64, 200, *range(2, BATCH - 4)]
        self.sessions = [engine.session() for _ in self.lengths]
        for session, length in zip(self.sessions, self.lengths, strict=True):
            if length:
                engine.step([_core.Work(session, ids(np.arange(length)))])

    def draw(self, logits: npt.NDArray[np.float32], params: list[dict[str, Any]]) -> list[int]:
        """One token for each row of (n, VOCAB) logits; the token after one more than lengths[i] cached ones."""
        work = [_core.Work(session, ids([0]), sampling=_core.Sampling(**p))
                for session, p in zip(self.sessions, params, strict=False)]
        read = self.engine.run_stages(["sample"], 0, work, {"logits": logits}, ["next_token"])
        tokens: list[int] = read["next_token"].tolist()
        return tokens

    def twin(self, logits: npt.NDArray[np.float32], params: list[dict[str, Any]]) -> list[int]:
        return [sample(row, position=length + 1, **p)
                for row, length, p in zip(logits, self.lengths, params, strict=False)]


@pytest.fixture(scope="module")
def sampler(case_of: CaseMaker) -> Iterator[Sampler]:
    engine = open_engine(case_of(SHAPE).folder, max_sequences=BATCH, max_tokens=256, max_context=256)
    yield Sampler(engine)
    engine.close()


def random_params(rng: np.random.Generator) -> dict[str, Any]:
    return {"temperature": float(rng.choice([0, 1e-3, 0.2, 0.7, 1, 1.3, 5])),
            "top_p": float(rng.choice([1, 0.999, 0.95, 0.5, 0.1, 1e-6, rng.uniform(0.01, 1)])),
            "seed": int(rng.integers(0, 2**64, dtype=np.uint64)), "index": int(rng.integers(0, 2**32, dtype=np.uint64))}


KINDS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Any]] = {
    "normal": lambda rng, shape: rng.normal(0, 2, shape),
    "peaked": lambda rng, shape: rng.normal(0, 15, shape),
    "huge": lambda rng, shape: rng.normal(0, 1e4, shape),
    "flat": lambda rng, shape: np.full(shape, rng.normal()),
    "many_ties": lambda rng, shape: rng.integers(-3, 3, shape),
    "bf16_like": lambda rng, shape: np.round(rng.normal(0, 2, shape) * 16) / 16,
    "signed_zeros": lambda rng, shape: rng.choice([-0.0, 0.0, -1.0], shape),
    "some_impossible": lambda rng, shape: np.where(rng.random(shape) < 0.5, -np.inf, rng.normal(0, 2, shape)),
    "one_possible": lambda rng, shape: np.where(np.arange(shape[-1]) == 77, 0, -np.inf) * np.ones(shape),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_is_the_twin_s(sampler: Sampler, kind: str) -> None:
    rng = np.random.default_rng(list(KINDS).index(kind))
    for _ in range(16):
        logits = np.asarray(KINDS[kind](rng, (BATCH, VOCAB)), dtype=np.float32)
        params = [random_params(rng) for _ in range(BATCH)]
        assert sampler.draw(logits, params) == sampler.twin(logits, params)


def test_greedy_takes_the_lowest_of_equal_ids(sampler: Sampler) -> None:
    logits = np.zeros((BATCH, VOCAB), np.float32)
    logits[:, [4000, 17, 300]] = 2.5
    greedy = [{"temperature": 0.0, "top_p": 1.0, "seed": 1, "index": 0}] * BATCH
    assert sampler.draw(logits, greedy) == [17] * BATCH


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_give_no_token(sampler: Sampler, bad: float) -> None:
    logits = np.zeros((BATCH, VOCAB), np.float32)
    logits[:, 9] = bad
    for temperature in (0.0, 1.0):
        params = [{"temperature": temperature, "top_p": 1.0, "seed": 1, "index": 0}] * BATCH
        assert sampler.draw(logits, params) == [-1] * BATCH


def test_a_step_draws_from_its_own_logits(sampler: Sampler) -> None:
    """The whole path: forward, then sample, at the position that the session has reached."""
    engine = sampler.engine
    session = engine.session()
    tokens = ids([3, 1, 4])
    for step in range(40):
        settings: dict[str, Any] = {"temperature": 1.0, "top_p": 0.9, "seed": 12345678901234567890, "index": step % 3}
        row = ids([len(tokens) - 1])
        [output] = engine.step([_core.Work(session, tokens, rows=row, sampling=_core.Sampling(**settings))])
        assert output.token == sample(output.logits[0], position=session.length, **settings)
        tokens = ids([output.token])
    session.close()


# ---- the twin itself: cheap to call often, and equal to every device by the tests above --------------------------

PROBABILITIES = np.array([0.4, 0.25, 0.15, 0.1, 0.05, 0.03, 0.015, 0.005])


def chi_square_tail(statistic: float, freedom: int) -> float:
    """Standard deviations above the mean, by Wilson and Hilferty's cube root."""
    spread = 2 / (9 * freedom)
    return float(((statistic / freedom) ** (1 / 3) - (1 - spread)) / np.sqrt(spread))


def chi_square(counts: npt.NDArray[Any], expected: npt.NDArray[np.float64]) -> float:
    assert counts[expected == 0].sum() == 0, "a token outside the nucleus was drawn"
    counts, expected = counts[expected > 0], expected[expected > 0]
    return chi_square_tail(float(((counts - expected) ** 2 / expected).sum()), len(counts) - 1) if len(counts) > 1 else 0


def draws(count: int, vary: str, logits: npt.NDArray[np.float32], **params: Any) -> npt.NDArray[np.int64]:
    return np.array([sample(logits, **params | {vary: i}) for i in range(count)])


@pytest.mark.parametrize("vary", ["seed", "index", "position"])
def test_draws_follow_softmax_whatever_is_counted_up(vary: str) -> None:
    params = {"temperature": 1.0, "top_p": 1.0, "seed": 7, "index": 0, "position": 100}
    tokens = draws(8000, vary, np.log(PROBABILITIES).astype(np.float32), **params)
    assert chi_square(np.bincount(tokens, minlength=8), 8000 * PROBABILITIES) < 4.5


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize(("top_p", "kept"), [(1.0, 8), (0.93, 5), (0.7, 3), (0.2, 1)])
def test_draws_follow_the_tempered_nucleus(temperature: float, top_p: float, kept: int) -> None:
    logits = (temperature * np.log(PROBABILITIES)).astype(np.float32)
    params = {"temperature": temperature, "top_p": top_p, "index": 3, "position": 41}
    tokens = draws(5000, "seed", logits[::-1], **params)
    nucleus = np.where(np.arange(8) < kept, PROBABILITIES, 0)
    assert chi_square(np.bincount(7 - tokens, minlength=8), 5000 * nucleus / nucleus.sum()) < 4.5


@pytest.mark.parametrize("vary", ["seed", "index", "position"])
def test_neighbouring_draws_are_independent(vary: str) -> None:
    p = np.array([0.5, 0.3, 0.2])
    params = {"temperature": 1.0, "top_p": 1.0, "seed": 99, "index": 5, "position": 7}
    tokens = draws(8000, vary, np.log(p).astype(np.float32), **params)
    pairs = np.bincount(3 * tokens[:-1] + tokens[1:], minlength=9)
    assert chi_square(pairs, 7999 * np.outer(p, p).ravel()) < 4.5


def test_the_gumbels_of_a_vocabulary_have_their_distribution() -> None:
    """Largest distance of the empirical from the true distribution function: 1.95 / sqrt(n) has probability 1e-3."""
    values = np.sort(sampling_twin.gumbels(200_000, seed=2024, index=0, position=9).astype(np.float64))
    true = np.exp(-np.exp(-values))
    assert np.abs(true - np.arange(len(values)) / len(values)).max() < 1.95 / np.sqrt(len(values))


def test_rare_tokens_are_drawn_as_often_as_they_should() -> None:
    """The upper tail decides: one likely token against 5,002 that share a thousandth."""
    logits = np.zeros(VOCAB, np.float32)
    logits[0] = np.log(999 * (VOCAB - 1))
    rare = sum(sample(logits, temperature=1.0, top_p=1.0, seed=seed, index=0, position=1) != 0 for seed in range(20_000))
    assert abs(rare - 20) < 5 * np.sqrt(20)


def test_the_polynomials_are_as_good_as_they_say() -> None:
    x = np.concatenate([np.linspace(-86.9, 0, 100_001), [-1e-30]]).astype(np.float32)
    assert np.abs(sampling_twin.exp_exact(x) / np.exp(x.astype(np.float64)) - 1).max() < 3e-7
    assert (sampling_twin.exp_exact(np.array([-87.5, -1e30, -np.inf], np.float32)) == 0).all()
    y = np.exp(np.linspace(-80, 80, 100_001)).astype(np.float32)
    assert np.allclose(sampling_twin.log_exact(y), np.log(y.astype(np.float64)), rtol=3e-7, atol=2e-7)
