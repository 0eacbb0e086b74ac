"""The table of tolerances: what the package's own table says, which the self-test of the package uses too, and what only
tests compare. Each limit says where its number comes from; none was fitted to a failing test.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from gptoss_native.ops.tolerances import EPSILON, EXACT, LOGITS, SAME_ROUNDINGS, Tolerance, error

__all__ = ["EPSILON", "EXACT", "FAST", "ISA_DIFFERENCE", "LOGITS", "SAME_ROUNDINGS", "Tolerance", "check", "error"]


def check(got: npt.NDArray[Any], want: npt.NDArray[Any], tolerance: Tolerance) -> None:
    rms, largest = error(got, want)
    assert rms <= tolerance.rms and largest <= tolerance.largest, (
        f"error relative to the RMS of the expected values: RMS {rms:.2e} (limit {tolerance.rms:.2e}), largest "
        f"{largest:.2e} (limit {tolerance.largest:.2e}); {tolerance.why}")


FAST = {
    "product": Tolerance(2**-8, 4 * 2**-8, "one rounded operand: no vector is rounded worse than half a unit, 2^-8, "
                         "usually EPSILON = 0.4 * 2^-8"),
    "experts": Tolerance(3 * EPSILON, 24 * EPSILON, "the operand, then swiglu of it, rounded again: EPSILON sqrt(1 + 1 + a "
                         "share for the product of gate and up) = 2 EPSILON, with a margin of a half"),
    "attention": Tolerance(6 * EPSILON, 90 * EPSILON, "values are rounded twice, weights once; a score of standard "
                           "deviation 3 takes four roundings (operand and result, of q and of k), an error of 6 EPSILON "
                           "that the weights inherit and that averages out over the keys: 3.5 EPSILON, with a margin"),
    "lse": Tolerance(100 * EPSILON, 100 * EPSILON, "(absolute) scores reach 20 to 25 with an error of 2 EPSILON each, of "
                     "which the largest of some thousands is 4 standard deviations"),
}
"""precision="fast" or a bf16 cache against float64. Together they keep a layer's update within 5 EPSILON = 0.8 %."""

ISA_DIFFERENCE = 5e-5
"""Largest difference of exact logits between two instruction sets: each is within half of LOGITS of float64."""

MXFP8 = Tolerance(
    0.05, 0.25, "a product whose activations are MXFP8, against float64: a number of e4m3 has an error of 2^-3 / sqrt(12) of "
    "its power of two, 0.025 of an RMS of 1.47 of these; where the largest of 32 is above 7/4 of its power of two, it loses "
    "up to an eighth: 0.030 in all of normal numbers, and half more for a token of few blocks")
"""Block-scaled products of experts; see cuda/mma/scaled.cuh."""

MXFP8_EXPERTS = Tolerance(0.09, 0.5, "the operand, then swiglu of it, in MXFP8 again: 2 * 0.030 by the reasoning of "
                          "FAST, with a margin of a half")
