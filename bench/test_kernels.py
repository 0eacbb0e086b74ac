"""The kernels through pytest-benchmark, which keeps results and compares them; it needs the extra `bench`.

    pytest bench/test_kernels.py --benchmark-json FILE             GPTOSS_BACKEND=cuda: on a card
    pytest bench/test_kernels.py -k "moe_up and tokens_64" --benchmark-compare

The time in its table is that of a whole round, seen from the host; `extra_info` has the device's own: microseconds of
one call, GB/s, TFLOP/s, and the percentage of the nearer ceiling, measured in the same run.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from gptoss_native import ops
from gptoss_native.bench.kernel_cases import Bench, Case, Settings
from gptoss_native.bench.kernels import device_ceilings

pytest.importorskip("pytest_benchmark")
DEVICE = os.environ.get("GPTOSS_BACKEND") or "cpu"
SETTINGS = Settings(tokens=(1, 8, 64, 512), experts=(32,), contexts=(128, 8192))


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(ops.Device(DEVICE), "fast", SETTINGS)


def names() -> list[str]:
    """Of the cases; making them makes no arrays."""
    cases = Bench(ops.Device("cpu"), "fast", SETTINGS).cases()
    return [" ".join([case.name, *(f"{key}_{size}" for key, size in case.sizes.items())]) for case in cases]


@pytest.mark.parametrize("number", range(len(names())), ids=names())
def test_kernel(benchmark: Any, bench: Bench, number: int) -> None:
    case: Case = list(bench.cases())[number]
    operations, times = case.prepare(), list[float]()
    benchmark.pedantic(lambda: times.extend(bench.lab.time(operations, 1)), rounds=5, warmup_rounds=1)
    seconds = sorted(times[1:])[len(times) // 2 - 1] / len(operations)
    ceilings = device_ceilings(bench.lab)
    benchmark.extra_info |= {
        "device": f"{bench.lab.name}: {bench.lab.detail}", "microseconds": 1e6 * seconds,
        "GB/s": case.cost.bytes / seconds / 1e9, "TFLOP/s": case.cost.flops / seconds / 1e12,
        "percent": 100 * ceilings.seconds(case.cost) / seconds, "ceiling": ceilings.nearer(case.cost)}
