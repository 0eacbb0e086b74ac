"""What works on a row at a time: RMSNorm, SwiGLU, the router's choice, and the number format MXFP4."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gptoss_native.native import _core
from gptoss_native.ops.call import Call, Result, within
from gptoss_native.ops.device import Device, Precision
from gptoss_native.ops.products import GROUP, take_scales


def rms_norm(x: Any, gain: Any, *, eps: float = 1e-5, device: str | Device = "cpu", precision: Precision = "fast",
             stream: int | None = None) -> Result:
    """y (tokens, size) = x / sqrt(mean(x^2) + eps) * gain (size).

    x float32, gain bfloat16, y float32; "fast" rounds y to bfloat16, because a product comes next.
    Source: Zhang and Sennrich, Root Mean Square Layer Normalization (2019).
    TypeError, ValueError: operands that do not fit, an eps outside 0 to 1.
    """
    call = Call(device, precision=precision, stream=stream)
    a = call.take("x", x, "float32", ("tokens", "size"))
    g = call.take("gain", gain, "bfloat16", ("size",))
    y = call.result("tokens", "size")
    n = call.sizes
    return call.run(call.lab.rms_norm(a, g, y, n["tokens"], n["size"], within("eps", eps, 0, 1), call.stream), y)[0]


def swiglu(u: Any, *, limit: float = 7.0, alpha: float = 1.702, device: str | Device = "cpu",
           precision: Precision = "fast", stream: int | None = None) -> Result:
    """h (tokens, size) = gate * sigmoid(alpha * gate) * (up + 1), of u (tokens, 2 size) with gate and up interleaved.

    gate is clamped to at most `limit`, up to both sides of it. u float32, size a multiple of 32; "fast" rounds h to
    bfloat16. Source: Shazeer, GLU Variants Improve Transformer (2020), as gpt-oss clamps it.
    TypeError, ValueError: u that does not fit, a limit below 0.
    """
    call = Call(device, precision=precision, stream=stream)
    a = call.take("u", u, "float32", ("tokens", "columns"))
    n = call.sizes
    if n["columns"] % (2 * GROUP):
        raise ValueError(f"u: expected a multiple of {2 * GROUP} columns, gate and up of {GROUP} neurons, found "
                         f"{n['columns']}")
    size = n["columns"] // 2
    y = call.result("tokens", size)
    operation = call.lab.swiglu(a, y, n["tokens"], size, within("limit", limit, 0, 1e30), alpha, call.stream)
    return call.run(operation, y)[0]


def route(logits: Any, chosen: int = 4, *, device: str | Device = "cpu",
          stream: int | None = None) -> tuple[Result, Result]:
    """choice int32 and weight float32, both (tokens, chosen): the largest of logits (tokens, experts), largest first
    and the lowest id on ties, and the softmax of these alone.

    logits float32; router logits themselves are linear(rms_norm(x), router_weight, router_bias).
    Source: the gpt-oss model card: top-k first, then the softmax.
    TypeError, ValueError: logits that do not fit, `chosen` outside 1 to experts.
    """
    call = Call(device, stream=stream)
    a = call.take("logits", logits, "float32", ("tokens", "experts"))
    n = call.sizes
    within("chosen", chosen, 1, n["experts"])
    choice, weight = call.result("tokens", chosen, dtype="int32"), call.result("tokens", chosen)
    operation = call.lab.route(a, choice, weight, n["tokens"], n["experts"], chosen, call.stream)
    results = call.run(operation, choice, weight)
    return results[0], results[1]


def dequantize_mxfp4(blocks: Any, scales: Any, *, device: str | Device = "cpu", stream: int | None = None) -> Result:
    """W float32 (rows, k) of MXFP4 weights, exactly: blocks uint8 (rows, k / 32, 16), scales uint8 (rows, k / 32).

    On a GPU by the function that its products unpack weights with; on the CPU, where they are unpacked into registers
    in the midst of a product, by the scalar definition. Products of float32 range: a scale of 254 overflows for codes
    from 2. Source: OCP Microscaling Formats 1.0. TypeError, ValueError: operands that do not fit, a scale of 255.
    """
    call = Call(device, stream=stream)
    b = call.take("blocks", blocks, "uint8", ("rows", "groups", 16))
    k = call.sizes["groups"] * GROUP
    s = take_scales(call, scales, ("rows",), k)
    y = call.result("rows", k)
    return call.run(call.lab.dequantize(b, s, y, call.sizes["rows"], k, call.stream), y)[0]


def quantize_mxfp4(weight: Any) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """blocks (out, in / 32, 16) and scales (out, in / 32) of weight bfloat16 (in, out), as numpy.

    On the host, as when a bf16 checkpoint is loaded with experts="mxfp4", whose layout this is. Codes round to the
    nearest, ties to the even one. The scale is 2^(floor(log2 largest) - 2), or twice that where the squared error is
    smaller. Source: OCP Microscaling Formats 1.0. ValueError: an infinity, a NaN, or `in` no multiple of 32.
    """
    call = Call("cpu")
    bits = call.on_host("weight", weight, "bfloat16", ("in", "out"))
    blocks, scales, _, _ = _core.quantize_mxfp4(bits)
    return blocks, scales
