"""csrc/sampling.h in numpy, operation for operation: the token that every device must draw.

float32 throughout, one rounding per operation, never fused; masses and limits are integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

F32 = np.float32
U32 = np.uint32
U64 = np.uint64
GREEDY_BELOW = F32(1e-5)
"""A temperature by which logits could not be divided without overflow."""
NOT_FINITE, NOTHING_ALLOWED = -1, -2
"""What stands in place of a token that cannot be drawn."""

Floats = npt.NDArray[np.float32]
Hashes = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]
Edits = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float32]]
"""Token ids (each once), 1 where the id was seen at all, how often it was generated, bias."""


@np.errstate(over="ignore", invalid="ignore")  # floats at the end of their range are among the cases
def sample(logits: Floats, *, temperature: float, top_p: float, seed: int, index: int, position: int,
           top_k: int = 0, min_p: float = 0.0, repetition_penalty: float = 1.0, presence_penalty: float = 0.0,
           frequency_penalty: float = 0.0, edits: Edits | None = None,
           mask: npt.NDArray[np.uint32] | None = None, logprobs: int = -1) -> int:
    """The token at `position` from (vocab_size,) logits, of which -inf is never drawn; lowest id on ties.

    The arguments are those of _core.Sampling. `logprobs` draws nothing: see log_softmax().
    """
    logits = np.asarray(logits, dtype=F32)
    if not drawable(logits):
        return NOT_FINITE
    if edits is not None:
        logits = edited(logits, edits, repetition_penalty, presence_penalty, frequency_penalty)
    if mask is not None:
        logits = np.where(allowed_by(mask, len(logits)), logits, F32(-np.inf))
    if not drawable(logits):
        return NOTHING_ALLOWED
    if F32(temperature) < GREEDY_BELOW:
        return int(np.argmax(logits))
    scaled = logits / F32(temperature)
    if not np.isfinite(scaled.max()):
        return int(np.argmax(logits))
    kept = candidates(scaled, top_k=top_k, top_p=top_p, min_p=min_p)
    score = scaled + gumbels(len(logits), seed=seed, index=index, position=position)
    return int(np.argmax(np.where(kept, score, F32(-np.inf))))


def drawable(logits: Floats) -> bool:
    """No NaN, and the largest is finite."""
    return bool(np.isfinite(logits.max()))


def edited(logits: Floats, edits: Edits, repetition: float, presence: float, frequency: float) -> Floats:
    """Repetition divides or multiplies what was seen, frequency and presence subtract for what was generated, then
    the bias is added."""
    token, seen, count, bias = edits
    x = logits[token]
    x = np.where(seen != 0, np.where(x > 0, x / F32(repetition), x * F32(repetition)), x)
    x = x - F32(frequency) * count.astype(F32)
    x = np.where(count > 0, x - F32(presence), x)
    changed = logits.copy()
    changed[token] = x + bias
    return changed


def allowed_by(mask: npt.NDArray[np.uint32], vocab_size: int) -> Bools:
    """Bit v % 32 of word v // 32."""
    token = np.arange(vocab_size)
    return np.asarray(mask[token // 32] >> (token % 32).astype(U32) & U32(1), dtype=bool)


def candidates(scaled: Floats, *, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> Bools:
    """What min_p, then top_k, then top_p keep, each of what the one before it left: most probable first, lowest id
    on ties."""
    masses = mass(scaled, scaled.max())
    order = np.argsort(-scaled, kind="stable")
    order = order[masses[order] >= U64(least_mass(min_p))]
    if top_k > 0:
        order = order[:top_k]
    if F32(top_p) < 1:
        before = np.cumsum(masses[order], dtype=U64) - masses[order]
        order = order[before < U64(nucleus_limit(int(masses[order].sum(dtype=U64)), top_p))]
    kept = np.zeros(len(scaled), dtype=bool)
    kept[order] = True
    return kept


def least_mass(min_p: float) -> int:
    """min_p of the largest mass, 2^32."""
    return int(F32(min_p) * F32(16777216)) << 8


def log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """Natural logarithms of the probabilities of the logits as the model gave them."""
    x = logits.astype(np.float64)
    with np.errstate(divide="ignore"):
        result: npt.NDArray[np.float64] = x - (x.max() + np.log(np.exp(x - x.max()).sum()))
    return result


def most_probable(logits: Floats, count: int) -> npt.NDArray[np.int64]:
    """Ids, most probable first, lowest id on ties."""
    return np.argsort(-logits, kind="stable")[:count]


def mass(scaled: Floats, largest: np.float32) -> npt.NDArray[np.uint64]:
    return np.asarray(exp_exact(scaled - largest) * F32(4294967296), dtype=U64)


def nucleus_limit(total: int, top_p: float) -> int:
    p = int(F32(top_p) * F32(16777216))
    return max(1, (total >> 24) * p + (((total & 0xFFFFFF) * p) >> 24))


def gumbels(vocab_size: int, *, seed: int, index: int, position: int) -> Floats:
    """One Gumbel variate per token id: -log(-log(u)) with u a hash of (seed, index, position, id)."""
    return gumbel(hash_tokens(hash_draw(seed, index, position), np.arange(vocab_size, dtype=U32)))


def mix(h: Hashes) -> Hashes:
    h = h ^ (h >> U32(16))
    h = h * U32(0x85EBCA6B)
    h = h ^ (h >> U32(13))
    h = h * U32(0xC2B2AE35)
    return h ^ (h >> U32(16))


def _word(value: int | npt.NDArray[Any], shift: int = 0) -> Hashes:
    """32 bits of non-negative numbers; an array, because numpy warns when a scalar wraps around."""
    return np.atleast_1d(np.asarray(value, dtype=U64) >> U64(shift) & U64(0xFFFFFFFF)).astype(U32)


def hash_draw(seed: int | npt.NDArray[Any], index: int | npt.NDArray[Any], position: int | npt.NDArray[Any]) -> Hashes:
    """What all tokens of one draw share; of single numbers or of arrays."""
    h = mix(_word(seed) ^ U32(0x9E3779B9))
    h = mix(h ^ _word(seed, 32))
    h = mix(h ^ (_word(index) * U32(0x9E3779B1) + U32(0x7F4A7C15)))
    return mix(h ^ (_word(position) * U32(0x85EBCA77) + U32(0x165667B1)))


def hash_tokens(draw: Hashes, token: Hashes) -> Hashes:
    return mix(mix(draw + token * U32(0x9E3779B1)) ^ (draw * U32(0xC2B2AE3D) + token))


def gumbel(hashes: Hashes) -> Floats:
    """-log(E), E = -log(1 - w) exponential, w = (hash + 1/2) / 2^32."""
    unit = F32(2.3283064e-10)
    w = (hashes.astype(F32) + F32(0.5)) * unit
    s = w / (F32(2) - w)
    small = _odd_series(s, (0.06666667, 0.07692308, 0.09090909, 0.11111111, 0.14285715, 0.2, 0.33333334))
    large = -log_exact(((~hashes).astype(F32) + F32(0.5)) * unit)
    return -log_exact(np.where(hashes < U32(0x80000000), small, large))


def log_exact(x: Floats) -> Floats:
    bits = x.view(U32)
    exponent = (bits - U32(0x3F3504F3)).view(np.int32) >> 23
    m = (bits - (exponent.view(U32) << U32(23))).view(F32)
    s = (m - F32(1)) / (m + F32(1))
    return exponent.astype(F32) * F32(0.6931472) + _odd_series(s, (0.11111111, 0.14285715, 0.2, 0.33333334))


def _odd_series(s: Floats, coefficients: tuple[float, ...]) -> Floats:
    """2 (s + s^3 (c_n + s^2 (c_n-1 + ...))), highest power first: 2 atanh(s)."""
    z = s * s
    p = np.full_like(s, F32(coefficients[0]))
    for coefficient in coefficients[1:]:
        p = p * z + F32(coefficient)
    series = s + s * (z * p)
    return series + series


def exp_exact(x: Floats) -> Floats:
    """exp(x) for x <= 0, and 0 below -87."""
    inside = x > F32(-87)
    x = np.where(inside, x, F32(0))
    whole = np.trunc(x * F32(1.442695) - F32(0.5))
    r = (x - whole * F32(0.69314575)) - whole * F32(1.4286068e-06)
    p = np.full_like(r, F32(0.0013888889))
    for coefficient in (0.008333334, 0.041666668, 0.16666667, 0.5, 1, 1):
        p = p * r + F32(coefficient)
    power = ((whole.astype(np.int32) + 127) << 23).astype(np.int32).view(F32)
    return np.where(inside, p * power, F32(0))
