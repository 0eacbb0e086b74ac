"""The self-test's outcomes for people, as Markdown that an issue can take, and for machines, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gptoss_native.bench.machine import machine_facts
from gptoss_native.bench.report import machine_list, table
from gptoss_native.native import info
from gptoss_native.selftest.run import Outcome

SCHEMA = 1
"""Of the JSON file: raised when a field changes its meaning."""

NOTE = """Errors are relative to the RMS of the values that are right, but for lse, logits and log probabilities. Times
are of the same operands over and over, which the caches may hold; `gptoss-native bench --kernels` measures."""

HEADINGS = ["check", "shape", "precision", "error (RMS, largest)", "allowed", "", "time", "GB/s"]


def facts() -> dict[str, Any]:
    """The machine, its drivers, and every device and instruction set with the reason why it is not used."""
    native = info()
    devices = {f"device {entry['name']}": described(entry) for entry in native["devices"]}
    isas = ", ".join(isa["name"] if isa["usable"] else f"{isa['name']} (not usable: {isa['reason']})"
                     for isa in native["cpu_isas"])
    return machine_facts() | {"instruction_sets": isas} | drivers() | devices


def described(device: dict[str, Any]) -> str:
    state = "not built" if not device["built"] else "present" if device["present"] else "not present"
    return f"{state}: {device['detail']}" if device["detail"] else state


DRIVERS = {"nvidia_driver": "/proc/driver/nvidia/version", "amdgpu_driver": "/sys/module/amdgpu/version"}


def drivers() -> dict[str, str]:
    """As the kernel of the system names them; on macOS they are part of the system."""
    found = {}
    for name, path in DRIVERS.items():
        try:
            found[name] = Path(path).read_text().splitlines()[0].strip()
        except (OSError, IndexError):
            continue
    return found


def machine_report(machine: dict[str, Any]) -> str:
    return machine_list(machine)


def outcome_table(outcomes: Iterable[Outcome]) -> str:
    return table(HEADINGS, [cells(outcome) for outcome in outcomes])


def cells(outcome: Outcome) -> list[str]:
    compared = ["", ""]
    if outcome.errors:
        worst = outcome.worst
        compared = [f"{worst.what}: {worst.found}" if len(outcome.errors) > 1 else worst.found, worst.allowed]
    return [outcome.check, outcome.shape, outcome.precision, *compared, outcome.verdict,
            "" if outcome.seconds is None else duration(outcome.seconds),
            "" if outcome.gbs is None else f"{outcome.gbs:.1f}"]


def duration(seconds: float) -> str:
    scale, unit = next(((s, u) for s, u in ((1, "s"), (1e-3, "ms")) if seconds >= s), (1e-6, "us"))
    return f"{seconds / scale:.3g} {unit}"


def summary(outcomes: Sequence[Outcome]) -> str:
    """What went wrong, and one line that says it all."""
    bad = [outcome for outcome in outcomes if outcome.verdict != "ok"]
    lines = [f"- {o.device}, {o.check}, {o.shape}{', ' * bool(o.precision)}{o.precision}: "
             + (o.message or f"{o.worst.what}: found {o.worst.found}, allowed {o.worst.allowed}") for o in bad]
    passed = f"{len(outcomes) - len(bad)} of {len(outcomes)} checks passed."
    if bad:
        passed += " Please report the rest as an issue, with all of this text."
    return "\n".join([*lines, *([""] if lines else []), passed])


def write_json(path: Path, machine: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    checks = [{"device": o.device, "check": o.check, "shape": o.shape, "precision": o.precision, "verdict": o.verdict,
               "seconds": o.seconds, "gigabytes_per_second": o.gbs, "message": o.message,
               "errors": [{"what": e.what, "found": e.found, "allowed": e.allowed,
                           "used": e.used if e.used < float("inf") else None} for e in o.errors]} for o in outcomes]
    result = {"schema": SCHEMA, "machine": machine, "checks": checks,
              "failed": sum(o.verdict != "ok" for o in outcomes)}
    path.write_text(json.dumps(result, indent=1) + "\n")
