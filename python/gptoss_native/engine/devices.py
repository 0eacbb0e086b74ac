"""Which device an engine runs on, and what it says about itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gptoss_native.engine.memory import gigabytes
from gptoss_native.errors import DeviceError
from gptoss_native.native import info


@dataclass(frozen=True)
class DeviceFacts:
    """What an engine runs on, and how.

    isa: the instruction set in use, or the name of the card. threads: 0 where it means nothing.
    dense: the form of attention and unembedding weights, "bf16" or "int8".
    memory: bytes by class, as the device allocated them; weights are those in another form than the files', or
        in a GPU's own memory.
    quantization_error: relative RMS error sqrt(sum (w - q)^2 / sum w^2) of each class of experts that was quantised at
    load; empty where none was. dense_errors: of each matrix that is held in 8 bits, the relative RMS error, and the
    largest |w - q| / sqrt(mean w^2); empty with dense "bf16".
    """

    name: str
    isa: str
    threads: int
    precision: str
    kv_dtype: str
    dense: str
    memory: Mapping[str, int]
    quantization_error: Mapping[str, float]
    dense_errors: Mapping[str, tuple[float, float]]

    def __str__(self) -> str:
        threads = f", {self.threads} thread{'s' if self.threads != 1 else ''}" if self.threads else ""
        memory = ", ".join(f"{name} {gigabytes(count)}" for name, count in self.memory.items() if count)
        errors = "".join(f"; {name} quantised to MXFP4 with {error:.2%} relative RMS error"
                         for name, error in self.quantization_error.items())
        if self.dense_errors:
            worst = max(self.dense_errors, key=lambda name: self.dense_errors[name][0])
            errors += f"; dense weights in 8 bits with at most {self.dense_errors[worst][0]:.2%} ({worst})"
        return (f"{self.name} ({self.isa}{threads}), precision {self.precision}, kv {self.kv_dtype}, dense {self.dense}"
                f"{'; ' if memory else ''}{memory}{errors}")


def device_facts(native: Mapping[str, Any], quantization_error: Mapping[str, float]) -> DeviceFacts:
    """From the `device` of a native engine."""
    return DeviceFacts(
        name=native["name"], isa=native["isa"], threads=native["threads"], precision=native["precision"],
        kv_dtype=native["kv_dtype"], dense=native["dense"], memory=dict(native["memory"]),
        quantization_error=dict(quantization_error), dense_errors=dict(native["dense_errors"]))


def choose_device(asked: str) -> str:
    """A device that was built and is present, as it was asked for: "cuda", or "cuda:1" for the second card.

    "auto" is GPTOSS_BACKEND where it is set, else the first usable one in the order cuda, hip, metal, cpu. A
    device asked for by name is never replaced by another: DeviceError says why it cannot be used.
    """
    devices: dict[str, dict[str, Any]] = {device["name"]: device for device in info()["devices"]}
    source = f"device={asked!r}"
    if asked == "auto":
        asked = os.environ.get("GPTOSS_BACKEND", "") or "auto"
        source = f"GPTOSS_BACKEND={asked!r}"
    if asked == "auto":
        order = ("cuda", "hip", "metal", "cpu")
        ranked = sorted(devices, key=lambda name: order.index(name) if name in order else len(order))
        for name in ranked:
            if devices[name]["built"] and devices[name]["present"]:
                return name
        reasons = "; ".join(f"{name}: {devices[name]['detail']}" for name in ranked)
        raise DeviceError(f"no device can be used ({reasons})")
    name, _, index = asked.partition(":")
    if name not in devices or (":" in asked and not (index.isascii() and index.isdigit())):
        raise DeviceError(f"{source} is not a device of this package; it knows {', '.join(sorted(devices))} and 'auto'"
                          "; a number behind a colon, as in 'cuda:1', chooses one of several cards")
    device = devices[name]
    if not (device["built"] and device["present"]):
        state = "is not present" if device["built"] else "was not built"
        raise DeviceError(f"{source} cannot be used: it {state}: {device['detail']}")
    return asked
