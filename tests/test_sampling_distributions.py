"""What the numpy twin draws has the distributions that sampling promises, and its hash lets nothing through.

The twin is cheap to call often, and equal to every device by test_sampling.py. Seeds are fixed: these tests either
pass always or never; limits are 4.5 standard deviations and more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import sampling_twin
from engines import ids
from sampling_twin import sample

VOCAB = 2003
PROBABILITIES = np.array([0.4, 0.25, 0.15, 0.1, 0.05, 0.03, 0.015, 0.005])


def chi_square_tail(statistic: float, freedom: int) -> float:
    """Standard deviations above the mean, by Wilson and Hilferty's cube root."""
    spread = 2 / (9 * freedom)
    return float(((statistic / freedom) ** (1 / 3) - (1 - spread)) / np.sqrt(spread))


def chi_square(counts: npt.NDArray[Any], expected: npt.NDArray[np.float64]) -> float:
    assert counts[expected == 0].sum() == 0, "a token outside the nucleus was drawn"
    counts, expected = counts[expected > 0], expected[expected > 0]
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return chi_square_tail(statistic, len(counts) - 1) if len(counts) > 1 else 0


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


@pytest.mark.parametrize(("settings", "expected"), [
    ({"top_k": 3}, [0.4, 0.25, 0.15, 0, 0, 0, 0, 0]),
    ({"top_k": 1}, [1, 0, 0, 0, 0, 0, 0, 0]),
    ({"min_p": 0.2}, [0.4, 0.25, 0.15, 0.1, 0, 0, 0, 0]),
    ({"min_p": 0.3, "top_k": 2}, [0.4, 0.25, 0, 0, 0, 0, 0, 0]),
    ({"top_k": 4, "top_p": 0.75}, [0.4, 0.25, 0.15, 0, 0, 0, 0, 0]),  # of the 0.9 that top_k left
    ({"mask": np.array([0b10110110], np.uint32)}, [0, 0.25, 0.15, 0, 0.05, 0.03, 0, 0.005]),
    ({"mask": np.array([0b10110110], np.uint32), "top_k": 2}, [0, 0.25, 0.15, 0, 0, 0, 0, 0]),
], ids=str)
def test_what_is_left_is_drawn_in_its_proportions(settings: dict[str, Any], expected: list[float]) -> None:
    logits = np.log(PROBABILITIES).astype(np.float32)
    tokens = draws(5000, "seed", logits, temperature=1.0, top_p=settings.get("top_p", 1.0), index=2, position=19,
                   **{name: value for name, value in settings.items() if name != "top_p"})
    left = np.array(expected)
    assert chi_square(np.bincount(tokens, minlength=8), 5000 * left / left.sum()) < 4.5


def test_penalties_and_bias_change_the_distribution_as_they_say() -> None:
    """Logits are logarithms: a bias of log 2 doubles the odds, a presence penalty of log 2 halves them."""
    logits = np.log(PROBABILITIES).astype(np.float32)  # negative: repetition multiplies
    edits = (ids([0, 1, 2, 3]), ids([1, 0, 1, 0]), ids([0, 0, 2, 0]), np.array([0, np.log(2), 0, -np.inf], np.float32))
    tokens = draws(5000, "index", logits, temperature=1.0, top_p=1.0, seed=5, position=3, repetition_penalty=1.5,
                   presence_penalty=float(np.log(2)), frequency_penalty=float(np.log(3)), edits=edits)
    odds = PROBABILITIES.copy()
    odds[:4] = [0.4**1.5, 0.25 * 2, 0.15**1.5 / 2 / 3**2, 0]
    assert chi_square(np.bincount(tokens, minlength=8), 5000 * odds / odds.sum()) < 4.5


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
    """The upper tail decides: one likely token against 2,002 that share a thousandth."""
    logits = np.zeros(VOCAB, np.float32)
    logits[0] = np.log(999 * (VOCAB - 1))
    rare = (draws(20_000, "seed", logits, temperature=1.0, top_p=1.0, index=0, position=1) != 0).sum()
    assert abs(rare - 20) < 5 * np.sqrt(20)


# ---- the hash: every input matters, alone and together ------------------------------------------------------------

WORDS = ("seed_low", "seed_high", "index", "position", "token")


def hashes(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """(5, n) words, in the order of WORDS, to (n,) hashes."""
    low, high, index, position, token = words
    seed = high.astype(np.uint64) << np.uint64(32) | low
    return sampling_twin.hash_tokens(sampling_twin.hash_draw(seed, index, position), token)


@pytest.mark.parametrize("small", [False, True], ids=["any_words", "small_numbers"])
@pytest.mark.parametrize("word", range(5), ids=WORDS)
def test_each_bit_of_the_input_flips_half_of_the_hash(word: int, small: bool) -> None:
    """Each of the 32 x 32 pairs of bits: 600 trials, of which 5.5 standard deviations are 67."""
    rng = np.random.default_rng(word)
    words = rng.integers(0, 1000 if small else 2**32, (5, 600), dtype=np.uint64).astype(np.uint32)
    before = hashes(words)
    for bit in range(32):
        changed = words.copy()
        changed[word] ^= np.uint32(1 << bit)
        flips = np.unpackbits((before ^ hashes(changed)).view(np.uint8)).reshape(600, 32).sum(axis=0)
        assert np.abs(flips - 300.0).max() < 67, f"bit {bit} of {WORDS[word]}"


@pytest.mark.parametrize(("one", "other"), [
    ({}, {"position": 1}), ({}, {"index": 1}), ({}, {"seed": 1}), ({}, {"seed": 1 << 32}), ({"token": 1}, {}),
    ({"token": 1}, {"position": 1}), ({"position": 1}, {"index": 1}), ({"seed": 1}, {"position": 1}),
    ({"index": 1}, {"token": 1})], ids=str)
def test_neighbours_have_nothing_in_common(one: dict[str, int], other: dict[str, int]) -> None:
    """Correlation of 200,000 Gumbels, of their squares, and of the tops of the hashes: 4.5 standard deviations."""
    count = 200_000

    def hashed(seed: int = 0, index: int = 0, position: int = 0, token: int = 0) -> npt.NDArray[np.uint32]:
        draw = sampling_twin.hash_draw(77 + seed, 3 + index, 500 + position)
        return sampling_twin.hash_tokens(draw, np.arange(token, token + count, dtype=np.uint32))

    a, b = hashed(**one), hashed(**other)
    x, y = (sampling_twin.gumbel(h).astype(np.float64) for h in (a, b))
    for u, v in ((x, y), (x * x, y * y)):
        assert abs(np.corrcoef(u, v)[0, 1]) < 4.5 / np.sqrt(count)
    pairs = np.bincount((a >> np.uint32(28)) * 16 + (b >> np.uint32(28)), minlength=256)
    assert chi_square(pairs, np.full(256, count / 256)) < 4.5


def test_hashes_collide_no_more_than_chance_allows() -> None:
    """n values of 2^32 are expected to have n^2 / 2^33 collisions; ten standard deviations more are too many."""
    def collisions(values: npt.NDArray[np.uint32]) -> int:
        return len(values) - len(np.unique(values))

    for position in (0, 1, 4096, 131_071):  # the tokens of one draw
        draw = sampling_twin.hash_draw(0, 0, position)
        assert collisions(sampling_twin.hash_tokens(draw, np.arange(201_088, dtype=np.uint32))) < 5 + 22
    seed, index, position = (axis.ravel() for axis in np.mgrid[:50, :40, :100])
    assert collisions(sampling_twin.hash_draw(seed, index, position)) < 5 + 22
    one_sequence = sampling_twin.hash_draw(12345, 0, np.arange(131_072))
    assert collisions(one_sequence) == 0, "every position has a draw of its own"


@pytest.mark.parametrize("vary", ["index", "seed"])
def test_samples_of_one_prompt_agree_as_often_as_independent_ones(vary: str) -> None:
    """Two samples, position after position: the same token with probability sum p^2."""
    logits, same = np.log(PROBABILITIES).astype(np.float32), (PROBABILITIES**2).sum()
    settings: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "seed": 9, "index": 0}
    first, second = (draws(8000, "position", logits, **settings | {vary: value}) for value in (0, 1))
    assert abs((first == second).sum() - 8000 * same) < 4.5 * np.sqrt(8000 * same * (1 - same))


# ---- the polynomials ------------------------------------------------------------------------------------------------

def test_the_polynomials_are_as_good_as_they_say() -> None:
    x = np.concatenate([np.linspace(-86.9, 0, 100_001), [-1e-30]]).astype(np.float32)
    assert np.abs(sampling_twin.exp_exact(x) / np.exp(x.astype(np.float64)) - 1).max() < 3e-7
    assert (sampling_twin.exp_exact(np.array([-87.5, -1e30, -np.inf], np.float32)) == 0).all()
    y = np.exp(np.linspace(-80, 80, 100_001)).astype(np.float32)
    assert np.allclose(sampling_twin.log_exact(y), np.log(y.astype(np.float64)), rtol=3e-7, atol=2e-7)
