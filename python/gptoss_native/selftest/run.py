"""All checks of one device, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal

from gptoss_native import ops
from gptoss_native.native import info
from gptoss_native.selftest import model
from gptoss_native.selftest.cases import Case, host_cases, real_cases, small_cases
from gptoss_native.selftest.compare import Error

Verdict = Literal["ok", "WRONG", "FAILED"]
"""WRONG: another result than the oracle's. FAILED: none, but an error."""


@dataclass(frozen=True)
class Outcome:
    """seconds: of the kernel alone, by the device's own clock; of a model check, of all of it. gbs: GB (10^9 bytes)
    that the kernel must move at least, per second. message: of an error."""

    device: str
    check: str
    shape: str
    precision: str
    errors: list[Error] = field(default_factory=list)
    seconds: float | None = None
    gbs: float | None = None
    message: str = ""

    @property
    def verdict(self) -> Verdict:
        if self.message:
            return "FAILED"
        return "ok" if self.errors and all(error.used <= 1 for error in self.errors) else "WRONG"

    @property
    def worst(self) -> Error:
        """What is nearest to its limit, or furthest beyond it."""
        return max(self.errors, key=lambda error: error.used)


Progress = Callable[[str], None]


def kernel_outcomes(device: ops.Device, label: str, cases: Iterator[Case], progress: Progress) -> Iterator[Outcome]:
    """A case that fails in whatever way is an outcome, and the next one follows."""
    for case in cases:
        progress(f"{label}: {case.kernel}, {case.shape}")
        device.seconds = None
        try:
            errors = case.run(device)
        except Exception as error:
            yield Outcome(label, case.kernel, case.shape, case.precision, message=f"{type(error).__name__}: {error}")
            continue
        rate = case.cost.bytes / device.seconds / 1e9 if device.seconds and case.cost.bytes else None
        yield Outcome(label, case.kernel, case.shape, case.precision, errors, device.seconds, rate)


def model_outcomes(device: str, sizes: model.Sizes, progress: Progress) -> Iterator[Outcome]:
    for check in model.model_checks(device, sizes):
        progress(f"{device}: model, {check.name}")
        begun = perf_counter()
        try:
            errors, message = check.run(), ""
        except Exception as error:
            errors, message = [], f"{type(error).__name__}: {error}"
        yield Outcome(device, f"model: {check.name}", check.detail, "", errors, perf_counter() - begun, message=message)


def outcomes(name: str, *, quick: bool, progress: Progress) -> Iterator[Outcome]:
    """quick: small shapes and a short prompt only, and nothing is timed.

    The CPU's other usable instruction sets take the small shapes too; what is computed on the host is the CPU's.
    """
    device = ops.Device(name, poison=True, timed=not quick)
    if name == "cpu":
        yield from kernel_outcomes(device, name, host_cases(), progress)
    yield from kernel_outcomes(device, name, small_cases(), progress)
    if not quick:
        yield from kernel_outcomes(device, name, real_cases(), progress)
    yield from model_outcomes(name, model.QUICK if quick else model.Sizes(), progress)
    if name == "cpu":
        for isa in info()["cpu_isas"]:
            if isa["usable"] and isa["name"] != info()["cpu_isa"]:
                other = ops.Device("cpu", isa=isa["name"], poison=True, timed=not quick)
                yield from kernel_outcomes(other, f"cpu ({isa['name']})", small_cases(), progress)
