"""One call of an operation: its operands checked and brought to the device, its results brought back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gptoss_native.native import _core, native_errors
from gptoss_native.ops.device import Device, KvDType, Precision, device_of

CPU = 1
"""DLPack's number for the memory of the process."""

TIMED_ROUNDS = 3

Size = str | int
Result = Any
"""A numpy array where all operands were the host's, else an Array on the device."""


class Call:
    """Operands are taken one after the other; the names of their sizes must agree.

    stream: the handle of a stream of the device's runtime in which everything runs; None is the device's own, and
    then results are ready when the call returns.
    """

    def __init__(self, device: str | Device, *, precision: Precision = "fast", kv_dtype: KvDType = "bf16",
                 stream: int | None = None) -> None:
        if precision not in ("exact", "fast"):
            raise ValueError(f"precision: expected 'exact' or 'fast', found {precision!r}")
        if kv_dtype not in ("bf16", "f32"):
            raise ValueError(f"kv_dtype: expected 'bf16' or 'f32', found {kv_dtype!r}")
        self.device = device_of(device)
        self.lab = self.device.lab(precision, kv_dtype)
        self.stream = self.lab.stream if stream is None else stream
        self.sizes: dict[str, int] = {}
        self._own_stream = stream is None
        self._place = self.lab.place
        self._stays = False

    def take(self, name: str, value: Any, dtype: str, shape: Sequence[Size]) -> _core.Array:
        """The operand on the device: the caller's own memory where that is the device's, else a copy.

        TypeError where it is no array or of another dtype; ValueError for its shape, its strides, or its place.
        """
        array = self._array(name, value)
        self._check(name, array, dtype, shape)
        if array.__dlpack_device__() == self._place:
            self._stays = self._stays or not array.on_host
            return array
        with native_errors():
            return self.lab.upload(array, self.stream)

    def take_optional(self, name: str, value: Any, dtype: str, shape: Sequence[Size]) -> _core.Array | None:
        return None if value is None else self.take(name, value, dtype, shape)

    def on_host(self, name: str, value: Any, dtype: str, shape: Sequence[Size]) -> npt.NDArray[Any]:
        """The operand as numpy; a copy where it lies on the device."""
        array = self._array(name, value)
        self._check(name, array, dtype, shape)
        return self.lab.download(array)

    def result(self, *shape: Size, dtype: str = "float32") -> _core.Array:
        sizes = [self.sizes[size] if isinstance(size, str) else size for size in shape]
        with native_errors():
            if self.device.poison:
                ones = np.full(sizes, -1, np.int32).view(dtype)  # all bits set: a NaN where it is float32
                return self.lab.upload(_core.Array.from_numpy(ones), self.stream)
            return self.lab.empty(sizes, dtype)

    def run(self, operation: _core.Operation, *results: _core.Array) -> tuple[Result, ...]:
        with native_errors():
            operation.run()
            if self.device.timed and self._own_stream:
                self.device.seconds = min(self.lab.time([operation], TIMED_ROUNDS))
            operation.finish()
            if self._own_stream:
                self.lab.wait(self.stream)
        for result in results:
            if not self._own_stream:
                result.written_in(self.stream)
        return tuple(result if self._stays else result.numpy() for result in results)

    def _array(self, name: str, value: Any) -> _core.Array:
        if isinstance(value, _core.Array):
            return value
        try:
            if isinstance(value, np.ndarray):
                return _core.Array.from_numpy(value.view(np.uint16) if value.dtype.name == "bfloat16" else value)
            if hasattr(value, "__dlpack__"):
                return self._from_dlpack(name, value)
        except ValueError as error:
            raise type(error)(f"{name}: {error}") from None
        raise TypeError(f"{name}: expected a numpy array or an array that speaks DLPack, found {type(value).__name__}")

    def _from_dlpack(self, name: str, value: Any) -> _core.Array:
        place = tuple(int(number) for number in value.__dlpack_device__())
        if place[0] == CPU:
            return _core.Array.from_dlpack(value.__dlpack__())
        if place != self._place:
            raise ValueError(f"it lies on the DLPack device {place}, the operation runs on {self._place} "
                             f"({self.lab.name}); move it there first")
        return _core.Array.from_dlpack(value.__dlpack__(stream=self.stream))

    def _check(self, name: str, array: _core.Array, dtype: str, shape: Sequence[Size]) -> None:
        found = array.shape
        fits = len(found) == len(shape) and all(
            self.sizes.get(want, have) == have if isinstance(want, str) else want == have
            for want, have in zip(shape, found))
        if array.dtype != dtype:
            hint = "; its bits as uint16, or a bfloat16 array" if dtype == "bfloat16" else ""
            raise TypeError(f"{name}: expected {dtype}{hint}, found {array.dtype}")
        if not fits:
            raise ValueError(f"{name}: expected the shape ({', '.join(map(self._spell, shape))}), found "
                             f"{tuple(found)}")
        if 0 in found:
            raise ValueError(f"{name}: expected at least one element in each dimension, found {tuple(found)}")
        self.sizes.update((want, have) for want, have in zip(shape, found) if isinstance(want, str))

    def _spell(self, size: Size) -> str:
        return f"{size} = {self.sizes[size]}" if isinstance(size, str) and size in self.sizes else str(size)


def within(name: str, value: float, least: float, most: float) -> float:
    """`value`, or ValueError where it is outside."""
    if not least <= value <= most:
        raise ValueError(f"{name}: expected {least} to {most}, found {value}")
    return value
