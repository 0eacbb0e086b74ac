"""The kernel lab: every kernel that the engine runs, callable alone, on any device, with its oracle beside it.

    import numpy as np
    from gptoss_native import ops

    y = ops.mxfp4_linear(x, blocks, scales)                       # numpy in, numpy out
    y = ops.linear(tensor, weight, device="cuda")                 # torch tensors of the card, by DLPack, not copied
    z = torch.from_dlpack(y)
    want = ops.reference.linear(x, weight)                        # float64, written from the specification
    ops.tolerances.error(y, want)                                 # and how far apart they may lie, with the reasons

Arrays are numpy's, or anything that speaks DLPack: torch, cupy, jax. What lies in the device's memory already is used
where it lies; what lies on the host is copied to a device that has memory of its own. Results are numpy arrays where
all operands were the host's, and stay on the device otherwise, as `Array`, which speaks DLPack too.

Activations are float32; weights, biases, gains and sinks are bfloat16, as in a checkpoint: a bfloat16 array, or
uint16 holding its bits; ops.reference.to_bf16() makes them. Arrays are contiguous. `device` is a name or a `Device`;
`precision` is the engine's: "fast" rounds what enters a matrix product to bfloat16, "exact" rounds nothing.

TypeError: no array, or one of another dtype. ValueError: a shape, strides, a place or a number that does not fit, with
the operand's name. DeviceError: a device that cannot be used, with the reason.

Everything runs in the device's own stream and is done when a call returns; with stream=..., the handle of a stream
(torch.cuda.current_stream().cuda_stream), it runs there, behind what that stream was told before.

Beyond the operands, a call copies: expert biases (kept as float32), k and v of attention (into pages), scales and
experts' numbers (to be checked). Use `gptoss-native bench --kernels` for times, not a stop watch around
these functions.
"""

from gptoss_native.native import _core
from gptoss_native.ops import reference, tolerances
from gptoss_native.ops.device import Device
from gptoss_native.ops.elementwise import dequantize_mxfp4, quantize_mxfp4, rms_norm, route, swiglu
from gptoss_native.ops.heads import attention, rope, rope_table
from gptoss_native.ops.products import linear, moe_down, moe_up, mxfp4_grouped, mxfp4_linear
from gptoss_native.ops.sampling import Draw, Draws, sample

Array = _core.Array

__all__ = [
    "Array",
    "Device",
    "Draw",
    "Draws",
    "attention",
    "dequantize_mxfp4",
    "linear",
    "moe_down",
    "moe_up",
    "mxfp4_grouped",
    "mxfp4_linear",
    "quantize_mxfp4",
    "reference",
    "rms_norm",
    "rope",
    "rope_table",
    "route",
    "sample",
    "swiglu",
    "tolerances",
]
