"""Devices as operations see them: opened once, one for each precision and cache dtype that is asked for."""

from __future__ import annotations

import os
from threading import Lock
from typing import Literal

from gptoss_native.native import _core, native_errors

Precision = Literal["exact", "fast"]
KvDType = Literal["bf16", "f32"]


class Device:
    """A device whose kernels can be called one by one.

    name: one of ``gptoss_native.info()["devices"]``, "cuda:1" for the second card. threads, isa: of the CPU only;
    0 and "" are what an engine takes, all usable cores and the best instruction set present (or GPTOSS_CPU_ISA).
    Opened when the first operation needs it: DeviceError says why a device cannot be used, and ValueError what is
    wrong with a name.

    poison: results begin as not-a-number, so that what a kernel leaves unwritten shows. timed: each call without a
    stream of its own runs its operation a few times more, and `seconds` is the shortest of these by the device's own
    clock; of the same operands over and over, which the caches may hold.
    """

    def __init__(self, name: str = "cpu", *, threads: int = 0, isa: str = "", poison: bool = False,
                 timed: bool = False) -> None:
        self.name, self.threads, self.isa = name, threads, isa
        self.poison, self.timed = poison, timed
        self.seconds: float | None = None
        self._labs: dict[tuple[str, str], _core.Lab] = {}
        self._lock = Lock()

    def lab(self, precision: Precision = "fast", kv_dtype: KvDType = "bf16") -> _core.Lab:
        """The native object: its kernels round as `precision` says, its KV pages hold `kv_dtype`."""
        with self._lock:
            if (precision, kv_dtype) not in self._labs:
                with native_errors():
                    self._labs[precision, kv_dtype] = _core.Lab(
                        self.name, precision=precision, kv_dtype=kv_dtype, threads=self.threads, isa=self.isa)
            return self._labs[precision, kv_dtype]

    @property
    def stream(self) -> int:
        """The device's own stream, as the runtime's handle; 0 on the CPU."""
        return self.lab().stream

    def __repr__(self) -> str:
        return f"Device({self.name!r}, threads={self.threads}, isa={self.isa!r})"


_opened: dict[tuple[str, str, int], Device] = {}


def device_of(device: str | Device) -> Device:
    """The device of that name; the same object for the same name (and process, and forced instruction set)."""
    if isinstance(device, Device):
        return device
    key = device, os.environ.get("GPTOSS_CPU_ISA", ""), os.getpid()
    return _opened.setdefault(key, Device(device))
