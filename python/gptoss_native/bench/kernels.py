"""Each kernel by itself, on any device, beside the ceilings of that device.

Time is the device's own clock: on a GPU events around one graph of all repetitions.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from gptoss_native import ops
from gptoss_native.bench.kernel_cases import Bench, Settings
from gptoss_native.bench.measure import Ceilings, Row, compare
from gptoss_native.native import _core

HOST = 1
"""DLPack's number for the memory of the process."""


def bench_kernels(device: ops.Device, precision: ops.device.Precision, settings: Settings, *, seconds: float,
                  only: Sequence[str] = ()) -> Iterator[Row]:
    """One row for each case, of these kernels if any are named; those that would begin after `seconds` are left out."""
    bench, begun = Bench(device, precision, settings), time.monotonic()
    lab = bench.lab
    named = {"device": lab.name, "isa": lab.detail, "threads": lab.threads, "precision": precision,
             "kv_dtype": bench.kv_dtype}
    for case in bench.cases():
        if only and case.kernel not in only:
            continue
        if time.monotonic() - begun > seconds:
            return
        operations = case.prepare()
        lab.time(operations, 1)  # touches weights and memory for the first time
        times, ceilings = [], []
        for i in range(settings.rounds):
            if i == 0 or lab.place[0] == HOST:  # a card's clock does not drift as a shared machine's memory does
                ceiling = device_ceilings(lab)
            ceilings.append(ceiling)
            times.append(lab.time(operations, 1)[0] / len(operations))
        yield compare("kernel", case.name, named | case.sizes, case.cost, times, ceilings, turns=len(operations))


def device_ceilings(lab: _core.Lab) -> Ceilings:
    """By the device's own probes: more than its caches hold is read."""
    return Ceilings(lab.read_bandwidth(256 << 20 if lab.place[0] == HOST else 1 << 30, 0.05), lab.fma_rate(0.02),
                    lab.matrix_rate(0.02) or None)
