"""Matrix products: bf16 linear layers, and MXFP4 experts, alone and as the model chains them."""

from __future__ import annotations

from typing import Any

import numpy as np

from gptoss_native.native import _core
from gptoss_native.ops.call import Call, Result, within
from gptoss_native.ops.device import Device, Precision

GROUP = 32
"""Consecutive weights that share one scale."""
NAN_SCALE = 255


def linear(x: Any, weight: Any, bias: Any = None, *, device: str | Device = "cpu", precision: Precision = "fast",
           stream: int | None = None) -> Result:
    """y (tokens, rows) = x (tokens, k) weight (rows, k)' + bias (rows).

    x float32, weight and bias bfloat16, y float32; sums are float32. "fast" rounds x to bfloat16 first. It is the
    attention's output projection: its bias and product are added to a residual stream of zeros.
    Source: the linear layers of the gpt-oss model, whose weights are bfloat16.
    TypeError, ValueError: dtypes, shapes, strides or devices that do not fit, and an odd k; DeviceError: the device.
    """
    call = Call(device, precision=precision, stream=stream)
    a = call.take("x", x, "float32", ("tokens", "k"))
    w = call.take("weight", weight, "bfloat16", ("rows", "k"))
    b = call.take_optional("bias", bias, "bfloat16", ("rows",))
    n = call.sizes
    if n["k"] % 2:
        raise ValueError(f"k: expected an even number, found {n['k']}")
    y = call.result("tokens", "rows")
    return call.run(call.lab.linear(a, w, b, y, n["tokens"], n["rows"], n["k"], call.stream), y)[0]


def mxfp4_linear(x: Any, blocks: Any, scales: Any, bias: Any = None, *, device: str | Device = "cpu",
                 precision: Precision = "fast", stream: int | None = None) -> Result:
    """y (tokens, rows) = x (tokens, k) W' + bias, with W (rows, k) in MXFP4: a matrix product, or for one token the
    product of a matrix and a vector.

    x float32; blocks uint8 (rows, k / 32, 16), the earlier weight in the low nibble; scales uint8 (rows, k / 32);
    bias bfloat16 (rows). "fast" rounds x to bfloat16. The kernel is moe_down's, with one expert.
    Source: OCP Microscaling Formats 1.0, E2M1 elements with an E8M0 scale for each 32.
    TypeError, ValueError: operands that do not fit, a scale of 255, which the format calls not-a-number, and a k that
    is no multiple of 32.
    """
    call = Call(device, precision=precision, stream=stream)
    a = call.take("x", x, "float32", ("tokens", "k"))
    w = _weights(call, blocks, scales, bias, ("rows",))
    y = call.result("tokens", "rows")
    n = call.sizes
    operation = call.lab.moe_down(a, *w, None, None, y, n["tokens"], 1, 1, n["rows"], n["k"], call.stream)
    return call.run(operation, y)[0]


def mxfp4_grouped(x: Any, blocks: Any, scales: Any, expert: Any, bias: Any = None, *, device: str | Device = "cpu",
                  precision: Precision = "fast", stream: int | None = None) -> Result:
    """y (pairs, rows): row p is x[p] (k) times the weights of expert[p], plus that expert's bias.

    As mxfp4_linear(), with blocks (experts, rows, k / 32, 16), scales (experts, rows, k / 32), bias (experts, rows)
    and expert int32 (pairs). Rows of one expert are computed together, which reads its weights once (CPU) or once
    for every four rows (GPU's SIMT kernels), or up to 48 (its matrix kernels). Source: as there. TypeError, ValueError:
    also where an expert does not exist.
    """
    call = Call(device, precision=precision, stream=stream)
    a = call.take("x", x, "float32", ("pairs", "k"))
    w = _weights(call, blocks, scales, bias, ("experts", "rows"))
    e = _choices(call, "expert", expert, ("pairs",))
    y = call.result("pairs", "rows")
    n = call.sizes
    operation = call.lab.moe_down(a, *w, e, None, y, n["pairs"], 1, n["experts"], n["rows"], n["k"], call.stream)
    return call.run(operation, y)[0]


def moe_up(x: Any, blocks: Any, scales: Any, choice: Any, bias: Any = None, *, limit: float = 7.0,
           alpha: float = 1.702, device: str | Device = "cpu", precision: Precision = "fast",
           stream: int | None = None) -> Result:
    """h (tokens, chosen, rows / 2) = swiglu(W_e x[t] + bias_e) for e = choice[t, rank]: the first half of the experts.

    x float32 (tokens, k); blocks (experts, rows, k / 32, 16), scales, bias as in mxfp4_grouped(), rows a multiple
    of 64 with gate and up interleaved; choice int32 (tokens, chosen). "fast" rounds x and h to bfloat16.
    See swiglu() for limit and alpha. Source: the experts of the gpt-oss model, in OCP's MXFP4.
    TypeError, ValueError: as in mxfp4_grouped(), and rows that are no multiple of 64.
    """
    call = Call(device, precision=precision, stream=stream)
    a = call.take("x", x, "float32", ("tokens", "k"))
    w = _weights(call, blocks, scales, bias, ("experts", "rows"))
    c = _choices(call, "choice", choice, ("tokens", "chosen"))
    n = call.sizes
    if n["rows"] % (2 * GROUP):
        raise ValueError(f"rows: expected a multiple of {2 * GROUP}, gate and up of {GROUP} neurons, found {n['rows']}")
    y = call.result("tokens", "chosen", n["rows"] // 2)
    operation = call.lab.moe_up(a, *w, c, y, n["tokens"], n["chosen"], n["experts"], n["rows"], n["k"],
                                within("limit", limit, 0, 1e30), alpha, call.stream)
    return call.run(operation, y)[0]


def moe_down(h: Any, blocks: Any, scales: Any, choice: Any, weight: Any, bias: Any = None, *,
             device: str | Device = "cpu", precision: Precision = "fast", stream: int | None = None) -> Result:
    """y (tokens, rows) = sum over rank of weight[t, rank] * (W_e h[t, rank] + bias_e), e = choice[t, rank]: the second
    half of the experts, in ascending rank.

    h float32 (tokens, chosen, k), weight float32 and choice int32 (tokens, chosen); blocks, scales and bias as in
    mxfp4_grouped(). "fast" rounds h to bfloat16. Source: as of moe_up(). TypeError, ValueError: as in mxfp4_grouped().
    """
    call = Call(device, precision=precision, stream=stream)
    a = call.take("h", h, "float32", ("tokens", "chosen", "k"))
    w = _weights(call, blocks, scales, bias, ("experts", "rows"))
    c = _choices(call, "choice", choice, ("tokens", "chosen"))
    of = call.take("weight", weight, "float32", ("tokens", "chosen"))
    y = call.result("tokens", "rows")
    n = call.sizes
    operation = call.lab.moe_down(a, *w, c, of, y, n["tokens"], n["chosen"], n["experts"], n["rows"], n["k"],
                                  call.stream)
    return call.run(operation, y)[0]


def _weights(call: Call, blocks: Any, scales: Any, bias: Any,
             leading: tuple[str, ...]) -> tuple[_core.Array, _core.Array, _core.Array | None]:
    k = call.sizes["k"]
    if k % GROUP:
        raise ValueError(f"k: expected a multiple of {GROUP}, the weights that share a scale, found {k}")
    taken = (call.take("blocks", blocks, "uint8", (*leading, k // GROUP, 16)), take_scales(call, scales, leading, k))
    return (*taken, call.take_optional("bias", bias, "bfloat16", leading))


def take_scales(call: Call, scales: Any, leading: tuple[str, ...], k: int) -> _core.Array:
    taken = call.take("scales", scales, "uint8", (*leading, k // GROUP))
    bad = np.argwhere(call.lab.download(taken) == NAN_SCALE)
    if len(bad):
        raise ValueError(f"scales: {len(bad)} of them are {NAN_SCALE}, which is not-a-number in E8M0; the first at "
                         f"{tuple(bad[0].tolist())}")
    return taken


def _choices(call: Call, name: str, value: Any, shape: tuple[str, ...]) -> _core.Array:
    taken = call.take(name, value, "int32", shape)
    found, experts = call.lab.download(taken), call.sizes["experts"]
    if found.min() < 0 or found.max() >= experts:
        raise ValueError(f"{name}: expected experts from 0 to {experts - 1}, found {found.min()} to {found.max()}")
    return taken
