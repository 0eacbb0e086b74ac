"""How far a kernel may be from its oracle. Each limit says where its number comes from; none was fitted to a result.

Two roundings occur. float32 (24 bits): in a product of K terms summed in n chains the error relative to the RMS
of the result is about 2^-24 sqrt(K / 6n), 7e-7 for K = 2880 and the narrowest registers (n = 4). bfloat16 (8
bits), in precision="fast" and in a bf16 cache: the error of a rounded vector relative to its RMS is

    EPSILON = 2^-8 / sqrt(6) = 0.0016

(uniform in half a unit, 2^-8 2^e, divided by sqrt(3); the RMS of a mantissa in [1, 2) is about sqrt(2)). Errors of
independent roundings add in squares, and a matrix product hands a relative error on unchanged.

`rms`: RMS of the error, relative to the RMS of the expected values. `largest`: the largest error, on the same
scale (a normal error reaches 4 to 5.5 times its RMS among 1e4 to 1e7 values).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

EPSILON = 2**-8 / 6**0.5


@dataclass(frozen=True)
class Tolerance:
    rms: float
    largest: float
    why: str


def error(got: npt.NDArray[Any], want: npt.NDArray[Any]) -> tuple[float, float]:
    """RMS and largest error, relative to the RMS of `want`. Not-a-number counts as infinitely wrong."""
    assert got.shape == want.shape, f"expected shape {want.shape}, got {got.shape}"
    difference = np.abs(got.astype(np.float64) - want)
    difference[np.isnan(difference)] = np.inf
    scale = np.sqrt(np.mean(np.square(want, dtype=np.float64)))
    return float(np.sqrt(np.mean(difference**2)) / scale), float(difference.max() / scale)


LOGITS = 1e-4
"""Largest absolute difference of exact logits (of standard deviation 2) from float64. Independent float32
implementations of this model measured 1e-5 to 2.5e-5 over 4 to 12 layers; the smallest known mistakes (gate
clamped on both sides, eps 1e-6) move logits by 1.4e-4."""

EXACT = {
    "product": Tolerance(2e-6, 1e-5, "one float32 product: 2^-24 sqrt(K / 6n) is at most 7e-7; a norm before it and a "
                         "bias after it round a few times more"),
    "experts": Tolerance(2e-6, 2e-5, "two float32 products in a row, and swiglu, whose slope reaches 1 + limit"),
    "attention": Tolerance(4e-6, 1e-4, "a score of size 20 is good to a few units of 2^-24 * 20 = 1.2e-6 and the "
                           "angle's sine and cosine add as much; exp hands that on as a relative error of the weights"),
    "lse": Tolerance(2e-5, 2e-5, "(absolute) the error of the largest score, as in attention"),
}

SAME_OPERANDS = Tolerance(
    4e-5, 2e-4, "the very same operands, rounded to bfloat16, whose products are exact in float32. A matrix unit may "
    "truncate where it adds: each of K / 8 sums then loses half a unit, 2^-24, on average of what was added up so far, "
    "all to the same side: 3e-5 for K = 4096")
"""One product in precision="fast" against a reference that rounds the operands. Where MXFP4 meets integers (AVX2,
VNNI), what is below 1/64 of the largest of its 32 is rounded again, to steps of 2^-13 of that one's power of two p: of
normal numbers 1 in 40, by 2^-13 p / sqrt(12), where p is 1.5 to 2 of their RMS: 1.1e-5 in all."""

ROUNDED_RESULT = Tolerance(
    0.5 * EPSILON, 2e-4, "(largest: beyond one unit of bfloat16, 2^-7, of each value) the result is rounded to "
    "bfloat16 too: noise of 4e-5 as above pushes 2 * 4e-5 / 2^-8 = 2 in 100 values over a boundary, each by one unit, "
    "which is sqrt(12) roundings, 3.5 EPSILON: sqrt(0.02) 3.5 EPSILON = 0.5 EPSILON in all")
"""What leaves for a product in precision="fast", against a reference that rounds the same."""

ROUNDED_WEIGHTS = Tolerance(
    1.5 * EPSILON, 60 * EPSILON, "queries, keys and values are rounded the same; softmax weights relative to whatever "
    "maximum a device knows by then, in the reference to the row's: two roundings of each, sqrt(2) EPSILON, which "
    "values of random signs hand on unchanged. Where few keys count, a result reaches 13 times the RMS, and two half "
    "units of it, 2^-8, are 31 EPSILON")
"""Attention in precision="fast" of any device; SAME_ROUNDINGS is for devices whose maximum is that of a page."""

SAME_ROUNDINGS = {
    "product": Tolerance(0.2 * EPSILON, 6 * EPSILON, "the same operands are rounded the same way, except the few (1 in "
                         "10,000) that float32 noise pushes over a boundary by one unit, 4 EPSILON of one term"),
    "experts": Tolerance(0.2 * EPSILON, 12 * EPSILON, "as for one product, twice"),
    "attention": Tolerance(EPSILON, 40 * EPSILON, "softmax weights are rounded relative to the maximum of their page, "
                           "the reference rounds them relative to the row's: two roundings of different numbers, which "
                           "average out over the keys"),
    "lse": Tolerance(12 * EPSILON, 12 * EPSILON, "(absolute) one unit of one operand of the largest score, where "
                     "float32 noise flips it"),
}
"""precision="fast", or a bf16 cache, against a reference with the same roundings: what shows that nothing else is
rounded."""
