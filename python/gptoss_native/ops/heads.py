"""Rotary positions and attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gptoss_native.arguments import integer
from gptoss_native.native import _core
from gptoss_native.ops.call import Call, Result, within
from gptoss_native.ops.device import Device, KvDType, Precision

LARGEST_HEAD_DIM = 128


def rope_table(head_dim: int = 64, *, theta: float = 150000.0, factor: float = 32.0, beta_fast: float = 32.0,
               beta_slow: float = 1.0, original_max_position_embeddings: int = 4096, truncate: bool = False,
               rope_type: str = "yarn") -> tuple[npt.NDArray[np.float32], float]:
    """inv_freq float32 (head_dim / 2) and the concentration that multiplies cosine and sine: the table of the engine.

    Pair j turns by float32(position) * inv_freq[j]. The defaults are those of gpt-oss; rope_type="default" is plain
    RoPE. Equal bit for bit to the published models' table.
    Source: Peng et al., YaRN (2023); Su et al., RoFormer (2021).
    ValueError: a number out of range.
    """
    if rope_type not in ("yarn", "default"):
        raise ValueError(f"rope_type: expected 'yarn' or 'default', found {rope_type!r}")
    if not 2 <= head_dim <= 4096 or head_dim % 2:
        raise ValueError(f"head_dim: expected an even number from 2 to 4096, found {head_dim}")
    within("theta", theta, 1.0001, 1e12)
    within("factor", factor, 1, 1e6)
    within("original_max_position_embeddings", original_max_position_embeddings, 1, 2**30)
    within("beta_slow", beta_slow, 1e-6, beta_fast)
    return _core.rope_table(
        head_dim, theta=theta, yarn=rope_type == "yarn", factor=factor, beta_fast=beta_fast, beta_slow=beta_slow,
        original_max_position_embeddings=original_max_position_embeddings, truncate=truncate)


def rope(x: Any, position: Any, inv_freq: Any, concentration: float = 1.0, *, device: str | Device = "cpu",
         precision: Precision = "fast", stream: int | None = None) -> Result:
    """y (tokens, heads, head_dim): each pair (j, j + head_dim / 2) of x turned by position * inv_freq[j] and multiplied
    by the concentration.

    x float32; position int32 (tokens), from 0; inv_freq float32 (head_dim / 2), see rope_table(). The angle is a
    float32 product, its cosine and sine are those of float64. "fast" rounds y to bfloat16, as the queries of
    attention are. Source: Su et al., RoFormer (2021), with the halves of a head as pairs.
    TypeError, ValueError: operands that do not fit, an odd head_dim, a position below 0.
    """
    call = Call(device, precision=precision, stream=stream)
    a = call.take("x", x, "float32", ("tokens", "heads", "head_dim"))
    n = call.sizes
    if n["head_dim"] % 2:
        raise ValueError(f"x: expected an even head_dim, found {n['head_dim']}")
    places = call.on_host("position", position, "int32", ("tokens",))
    if places.min() < 0:
        raise ValueError(f"position: expected numbers from 0, found {places.min()}")
    table = call.on_host("inv_freq", inv_freq, "float32", (n["head_dim"] // 2,))
    y = call.result("tokens", "heads", "head_dim")
    operation = call.lab.rope(a, _core.Array.from_numpy(places), _core.Array.from_numpy(table), concentration, y,
                              n["tokens"], n["heads"], n["head_dim"], call.stream)
    return call.run(operation, y)[0]


def attention(q: Any, k: Any, v: Any, sinks: Any, *, window: int | None = None,
              query_lengths: Sequence[int] | None = None, key_lengths: Sequence[int] | None = None,
              device: str | Device = "cpu", precision: Precision = "fast", kv_dtype: KvDType = "bf16",
              stream: int | None = None) -> tuple[Result, Result]:
    """attn (tokens, heads, head_dim) = softmax(q k / sqrt(head_dim), sink) v, and lse (tokens, heads), the logarithm of
    the softmax's denominator, sink included.

    q float32 (tokens, heads, head_dim) are the last `tokens` of the positions of k and v, float32 (keys, kv_heads,
    head_dim). Each query sees the keys up to its own, of these the last `window`; query head h reads key-value head
    h // (heads / kv_heads). sinks bfloat16 (heads): a logit of each head that has no value. head_dim is even and at
    most 128.

    Several sequences, of any lengths, lie one behind the other, without padding: query_lengths and key_lengths then
    say how many of the tokens and of the keys each of them has. The queries of one are the last of its positions and
    see nothing of the others. A decode step of three: query_lengths=[1, 1, 1], key_lengths=[9, 200, 65].

    k and v go to KV pages of 64 positions in `kv_dtype` first, as the engine holds them. "fast" rounds q and the
    softmax weights to bfloat16; "exact" with kv_dtype="f32" rounds nothing.
    Source: Xiao et al., Efficient Streaming Language Models with Attention Sinks (2023), with learned sinks.
    TypeError, ValueError: operands that do not fit, heads that are no multiple of kv_heads, another head_dim, fewer
    keys than queries, lengths that do not add up, a window below 1.
    """
    call = Call(device, precision=precision, kv_dtype=kv_dtype, stream=stream)
    a = call.take("q", q, "float32", ("tokens", "heads", "head_dim"))
    keys = call.take("k", k, "float32", ("keys", "kv_heads", "head_dim"))
    values = call.take("v", v, "float32", ("keys", "kv_heads", "head_dim"))
    s = call.take("sinks", sinks, "bfloat16", ("heads",))
    n = call.sizes
    if n["heads"] % n["kv_heads"]:
        raise ValueError(f"heads: expected a multiple of kv_heads = {n['kv_heads']}, found {n['heads']}")
    if n["head_dim"] % 2 or n["head_dim"] > LARGEST_HEAD_DIM:
        raise ValueError(f"head_dim: expected an even number of at most {LARGEST_HEAD_DIM}, found {n['head_dim']}")
    if query_lengths is None and key_lengths is None and n["keys"] < n["tokens"]:
        raise ValueError(f"k: expected at least as many keys as queries, {n['tokens']}, found {n['keys']}")
    counts = _lengths(query_lengths, key_lengths, n["tokens"], n["keys"])
    if window is not None:
        within("window", window, 1, 2**31 - 1)
    attn, lse = call.result("tokens", "heads", "head_dim"), call.result("tokens", "heads")
    operation = call.lab.attention(a, keys, values, s, attn, lse, *counts, n["heads"], n["kv_heads"], n["head_dim"],
                                   window or 0, call.stream)
    results = call.run(operation, attn, lse)
    return results[0], results[1]


def _lengths(queries: Sequence[int] | None, keys: Sequence[int] | None, tokens: int,
             all_keys: int) -> tuple[list[int], list[int]]:
    """Of each sequence; without any there is one."""
    if queries is None and keys is None:
        return [tokens], [all_keys]
    if queries is None or keys is None:
        raise ValueError("query_lengths, key_lengths: expected both or neither")
    of = [integer("each of query_lengths", length, 1) for length in queries]
    cached = [integer("each of key_lengths", length, 1) for length in keys]
    if len(of) != len(cached):
        raise ValueError(f"query_lengths, key_lengths: expected one of each for a sequence, found {len(of)} and "
                         f"{len(cached)}")
    for name, lengths, total in (("query_lengths", of, tokens), ("key_lengths", cached, all_keys)):
        if sum(lengths) != total:
            raise ValueError(f"{name}: expected lengths that add up to {total}, found {sum(lengths)}")
    for sequence, (length, least) in enumerate(zip(cached, of)):
        if length < least:
            raise ValueError(f"key_lengths: expected at least as many keys as queries of each sequence, found {length} "
                             f"for {least} of sequence {sequence}")
    return of, cached
