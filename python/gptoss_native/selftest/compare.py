"""A result beside what it should be, and how far apart they may lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gptoss_native.ops.tolerances import Tolerance

BF16_UNIT = 2**-7
"""Of two neighbours in bfloat16 the difference, relative to them, at most."""


@dataclass(frozen=True)
class Error:
    """How far a result is from what it should be. used: the part of the tolerance that it takes, above 1 is wrong."""

    what: str
    found: str
    allowed: str
    used: float


def near(what: str, got: npt.NDArray[Any], want: npt.NDArray[Any], tolerance: Tolerance, *, absolute: bool = False,
         slack: float = 0) -> Error:
    """absolute: errors are not taken relative to the RMS of `want`. slack: the part of each value that may be missing
    from its largest error, because it was rounded; then one value in a hundred, and one of fewer, does not count in
    the RMS: a sum that lay between two results may have gone to the other one."""
    if got.shape != want.shape:
        return Error(what, f"shape {got.shape}", f"{want.shape}", np.inf)
    difference = np.abs(got.astype(np.float64) - want)
    difference[~np.isfinite(difference)] = np.inf
    scale = 1.0 if absolute else float(np.sqrt(np.mean(np.square(want))))
    counted = np.sort(difference, axis=None)[:-math.ceil(difference.size / 100)] if slack else difference
    rms = float(np.sqrt(np.sum(np.square(counted)) / difference.size)) / scale
    largest = max(0.0, float((difference - slack * np.abs(want)).max())) / scale
    used = max(rms / tolerance.rms, largest / tolerance.largest)
    return Error(what, f"{rms:.1e}, {largest:.1e}", f"{tolerance.rms:.1e}, {tolerance.largest:.1e}", used)


def equal(what: str, got: npt.NDArray[Any], want: npt.NDArray[Any]) -> Error:
    """Bit for bit, or number for number."""
    if got.shape != want.shape:
        return Error(what, f"shape {got.shape}", f"{want.shape}", np.inf)
    wrong = int(np.count_nonzero(~(got == want)))
    return Error(what, f"{wrong} of {want.size} differ" if wrong else "equal", "equal", np.inf if wrong else 0.0)
