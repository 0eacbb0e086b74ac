"""What a kernel alone must read, write and compute at least.

Nothing is padded, and activations count: weights (of the experts only those that were chosen), biases, the visible keys
and values in the cache's dtype, inputs and outputs. A multiply-add is two FLOPs.
"""

from __future__ import annotations

from collections.abc import Sequence

from gptoss_native.bench.costs import BF16, EXPERT_BYTES, FLOAT32, KV_BYTES, Cost


def linear(tokens: int, rows: int, k: int) -> Cost:
    return Cost(BF16 * rows * (k + 1) + FLOAT32 * tokens * (k + rows), 2 * tokens * rows * k)


def mxfp4_linear(tokens: int, rows: int, k: int) -> Cost:
    return Cost(expert_bytes(rows, k) + FLOAT32 * tokens * (k + rows), 2 * tokens * rows * k)


def mxfp4_grouped(pairs: int, rows: int, k: int, experts: float) -> Cost:
    """experts: distinct ones among the pairs; so in those below."""
    return Cost(round(experts * expert_bytes(rows, k)) + FLOAT32 * pairs * (k + rows), 2 * pairs * rows * k)


def moe_up(tokens: int, chosen: int, rows: int, k: int, experts: float) -> Cost:
    return Cost(round(experts * expert_bytes(rows, k)) + FLOAT32 * tokens * (k + chosen * rows // 2),
                2 * tokens * chosen * rows * k)


def moe_down(tokens: int, chosen: int, rows: int, k: int, experts: float) -> Cost:
    return Cost(round(experts * expert_bytes(rows, k)) + FLOAT32 * tokens * (chosen * k + rows),
                2 * tokens * chosen * rows * k)


def expert_bytes(rows: int, k: int) -> int:
    """Of one expert: codes, scales, and a bf16 bias."""
    return int(rows * k * EXPERT_BYTES["mxfp4"]) + BF16 * rows


def kv_bytes(tokens: int, keys: int, kv_heads: int, head_dim: int, window: int | None, kv_dtype: str) -> int:
    """Of the keys and values that the last `tokens` of `keys` positions see."""
    read = min(keys, tokens + window - 1) if window else keys
    return read * 2 * kv_heads * head_dim * KV_BYTES[kv_dtype]


def attention(query_lengths: Sequence[int], key_lengths: Sequence[int], heads: int, kv_heads: int, head_dim: int,
              window: int | None, kv_dtype: str) -> Cost:
    tokens, read, seen = sum(query_lengths), 0, 0
    for queries, keys in zip(query_lengths, key_lengths):
        read += kv_bytes(queries, keys, kv_heads, head_dim, window, kv_dtype)
        seen += sum(min(position + 1, window or keys) for position in range(keys - queries, keys))
    return Cost(read + BF16 * heads + FLOAT32 * tokens * heads * (2 * head_dim + 1), 4 * heads * head_dim * seen)


def rms_norm(tokens: int, size: int) -> Cost:
    return Cost(BF16 * size + 2 * FLOAT32 * tokens * size, 4 * tokens * size)


def swiglu(tokens: int, size: int) -> Cost:
    return Cost(FLOAT32 * tokens * 3 * size, 8 * tokens * size)


def rope(tokens: int, heads: int, head_dim: int) -> Cost:
    return Cost(2 * FLOAT32 * tokens * heads * head_dim, 3 * tokens * heads * head_dim)


def route(tokens: int, experts: int, chosen: int) -> Cost:
    return Cost(FLOAT32 * tokens * (experts + 2 * chosen), tokens * experts)


def dequantize_mxfp4(rows: int, k: int) -> Cost:
    return Cost(int(rows * k * EXPERT_BYTES["mxfp4"]) + FLOAT32 * rows * k, rows * k)


def sample(rows: int, vocab: int) -> Cost:
    return Cost(FLOAT32 * rows * vocab, rows * vocab)
