"""gpt-oss in numpy float64: what the model computes, in the order in which it computes it.

This is the oracle of the test suite and the shortest complete description of the model. It is written from the
specification, not from the engine. Weights are exact (bfloat16 and MXFP4 are subsets of float64), every operation
is float64; only the rotary table is float32, because the table is part of the model (reference_rope.py).

`Arithmetic` says where a device may round: FAST rounds what enters a matrix product to bfloat16, as
precision="fast" does, so that its tolerance can be derived instead of guessed.

Shapes: (tokens, hidden_size), (tokens, heads, head_dim). Linear weights are (out, in), y = W x + b.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from number_formats import bf16_round, bf16_to_f32, mxfp4_dequantize
from reference_rope import rope_table

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Tokens = Sequence[int] | npt.NDArray[Any]
SCORE_BYTES = 1 << 26
"""Attention takes as many queries at a time as keep the score matrix below this."""


def to_bf16(x: Array) -> Array:
    """Nearest bfloat16 of finite values (through float32, as a device rounds)."""
    return bf16_to_f32(bf16_round(x)).astype(np.float64)


@dataclass(frozen=True)
class Arithmetic:
    operand: Callable[[Array], Array] = np.asarray
    """What happens to activations, queries and softmax weights before they enter a matrix product."""
    kv: Callable[[Array], Array] = np.asarray
    """What happens to keys and values on their way into the cache."""


EXACT = Arithmetic()
EXACT_BF16_KV = Arithmetic(kv=to_bf16)
FAST = Arithmetic(operand=to_bf16, kv=to_bf16)


@dataclass(frozen=True)
class Model:
    """A config.json and its tensors by their Hugging Face names; bfloat16 arrives as uint16."""

    config: Mapping[str, Any]
    tensors: Mapping[str, npt.NDArray[Any]]

    def weight(self, name: str) -> Array:
        return bf16_to_f32(self.tensors[name]).astype(np.float64)

    def layer_weight(self, layer: int, name: str) -> Array:
        return self.weight(f"model.layers.{layer}.{name}")

    def expert_weight(self, layer: int, name: str, expert: int) -> Array:
        """(out, in). MXFP4 is stored so; the bf16 form is stored (in, out)."""
        name = f"model.layers.{layer}.mlp.experts.{name}"
        if name in self.tensors:
            return bf16_to_f32(self.tensors[name][expert]).astype(np.float64).T
        return mxfp4_dequantize(self.tensors[name + "_blocks"][expert], self.tensors[name + "_scales"][expert])

    def window(self, layer: int) -> int | None:
        sliding = self.config["layer_types"][layer] == "sliding_attention"
        return self.config["sliding_window"] if sliding else None


@dataclass
class Cache:
    """Keys and values of every layer so far: [layer] -> (tokens, num_key_value_heads, head_dim)."""

    keys: dict[int, Array] = field(default_factory=dict)
    values: dict[int, Array] = field(default_factory=dict)
    length: int = 0

    def append(self, layer: int, k: Array, v: Array) -> tuple[Array, Array]:
        self.keys[layer] = np.concatenate([self.keys[layer], k]) if layer in self.keys else k
        self.values[layer] = np.concatenate([self.values[layer], v]) if layer in self.values else v
        return self.keys[layer], self.values[layer]


@dataclass
class Trace:
    """What can be observed, one entry per layer; the last layer has only the rows asked for."""

    residual: list[Array] = field(default_factory=list)
    """The embedding, then the residual stream after each layer: num_hidden_layers + 1 entries."""
    after_attention: list[Array] = field(default_factory=list)
    attn: list[Array] = field(default_factory=list)
    lse: list[Array] = field(default_factory=list)
    router_logits: list[Array] = field(default_factory=list)
    router_choice: list[Ints] = field(default_factory=list)
    router_weight: list[Array] = field(default_factory=list)
    logits: Array = field(default_factory=lambda: np.empty((0, 0)))
    """(rows, vocab_size)"""


def forward(model: Model, tokens: Tokens, *, first_position: int = 0, rows: Tokens | None = None,
            cache: Cache | None = None, arithmetic: Arithmetic = EXACT) -> Trace:
    """The whole model. `tokens` follow those in `cache`; the first of all stands at `first_position`.

    `rows`: indices into `tokens` whose logits are wanted (default all). Only these pass through the last layer,
    so a long prompt with a full-attention last layer stays cheap.
    """
    cache = Cache() if cache is None else cache
    cached_before = cache.length
    wanted = np.arange(len(tokens)) if rows is None else np.asarray(rows)
    trace = Trace()
    x = bf16_to_f32(model.tensors["model.embed_tokens.weight"][np.asarray(tokens)]).astype(np.float64)
    trace.residual.append(x)
    last = model.config["num_hidden_layers"] - 1
    for layer in range(last + 1):
        kept = wanted if layer == last else None
        attn, lse = attention(model, layer, x, first_position=first_position, queries=kept, cache=cache,
                              cached_before=cached_before, arithmetic=arithmetic)
        x = (x if kept is None else x[kept]) + attention_output(model, layer, attn, arithmetic)
        trace.attn.append(attn)
        trace.lse.append(lse)
        trace.after_attention.append(x)
        t = arithmetic.operand(layer_norm(model, layer, "post_attention_layernorm.weight", x))
        logits, choice, weight = route(model, layer, t)
        x = x + experts(model, layer, t, choice, weight, arithmetic)
        trace.router_logits.append(logits)
        trace.router_choice.append(choice)
        trace.router_weight.append(weight)
        trace.residual.append(x)
    cache.length += len(tokens)
    trace.logits = unembed(model, x, arithmetic)
    return trace


def unembed(model: Model, x: Array, arithmetic: Arithmetic = EXACT) -> Array:
    t = rms_norm(x, model.weight("model.norm.weight"), model.config["rms_norm_eps"])
    return arithmetic.operand(t) @ model.weight("lm_head.weight").T


def rms_norm(x: Array, gain: Array, eps: float) -> Array:
    normalised: Array = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * gain
    return normalised


def layer_norm(model: Model, layer: int, name: str, x: Array) -> Array:
    return rms_norm(x, model.layer_weight(layer, name), model.config["rms_norm_eps"])


def attention(model: Model, layer: int, x: Array, *, first_position: int = 0, queries: npt.NDArray[Any] | None = None,
              cache: Cache | None = None, cached_before: int = 0,
              arithmetic: Arithmetic = EXACT) -> tuple[Array, Array]:
    """attn (queries, num_attention_heads, head_dim) and lse (queries, num_attention_heads); k, v join the cache."""
    config = model.config
    heads, kv_heads, dim = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    t = arithmetic.operand(layer_norm(model, layer, "input_layernorm.weight", x))
    place = cached_before + np.arange(len(x))  # index in the sequence, which is what masks compare
    own = np.arange(len(x)) if queries is None else queries

    def project(name: str, count: int, rows: npt.NDArray[Any]) -> Array:
        weight = model.layer_weight(layer, f"self_attn.{name}_proj.weight")
        bias = model.layer_weight(layer, f"self_attn.{name}_proj.bias")
        projected: Array = t[rows] @ weight.T + bias
        return projected.reshape(len(rows), count, dim)

    everything = np.arange(len(x))
    q = arithmetic.operand(rotate(project("q", heads, own), first_position + place[own], config))
    k = arithmetic.kv(rotate(project("k", kv_heads, everything), first_position + place, config))
    v = arithmetic.kv(project("v", kv_heads, everything))
    if cache is not None:
        k, v = cache.append(layer, k, v)
    sinks = model.layer_weight(layer, "self_attn.sinks")
    return attend(q, k, v, place[own], sinks, model.window(layer), arithmetic)


def rotate(x: Array, positions: npt.NDArray[Any], config: Mapping[str, Any]) -> Array:
    """RoPE on (tokens, heads, head_dim): dims (j, j + head_dim / 2) are one pair, turned by position * inv_freq[j]."""
    inv_freq, concentration = rope_table(dict(config))
    angle = (positions.astype(np.float32)[:, None] * inv_freq).astype(np.float64)[:, None, :]  # a float32 product
    cos, sin = np.cos(angle) * concentration, np.sin(angle) * concentration
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def attend(q: Array, k: Array, v: Array, place: npt.NDArray[Any], sinks: Array, window: int | None,
           arithmetic: Arithmetic = EXACT) -> tuple[Array, Array]:
    """Softmax attention with one sink per query head: an extra logit that has no value.

    Query i at place[i] sees keys 0 ... place[i], of which the last `window` on a sliding layer. Query head h reads
    key-value head h // (heads / kv_heads). lse = log(sum exp(score) + exp(sink)).
    """
    heads, dim = q.shape[1:]
    group = heads // k.shape[1]
    out, lse = np.empty_like(q), np.empty(q.shape[:2])
    for rows, keys in _blocks(place, len(k), window):
        index = np.arange(keys.start, keys.stop)
        visible = index <= place[rows][:, None]
        if window is not None:
            visible &= index > place[rows][:, None] - window
        for h in range(heads):
            score = np.where(visible, q[rows, h] @ k[keys, h // group].T / np.sqrt(dim), -np.inf)
            largest = np.maximum(score.max(axis=1), sinks[h])
            weight = np.exp(score - largest[:, None])
            total = weight.sum(axis=1) + np.exp(sinks[h] - largest)
            out[rows, h] = arithmetic.operand(weight) @ v[keys, h // group] / total[:, None]
            lse[rows, h] = largest + np.log(total)
    return out, lse


def _blocks(place: npt.NDArray[Any], keys: int, window: int | None) -> Iterator[tuple[slice, slice]]:
    """Runs of queries (ascending) with the range of keys that any of them sees, small enough for SCORE_BYTES."""
    start = 0
    while start < len(place):
        first = 0 if window is None else max(0, int(place[start]) - window + 1)
        width = keys - first if window is None else 2 * window + 256
        stop = min(len(place), start + max(1, SCORE_BYTES // (8 * max(1, width))))
        if window is not None:  # stay near the diagonal
            stop = min(stop, int(np.searchsorted(place, place[start] + window + 256)))
        yield slice(start, stop), slice(first, int(place[start:stop].max()) + 1)
        start = stop


def attention_output(model: Model, layer: int, attn: Array, arithmetic: Arithmetic = EXACT) -> Array:
    """What attention adds to the residual stream."""
    joined = arithmetic.operand(attn.reshape(len(attn), -1))
    weight = model.layer_weight(layer, "self_attn.o_proj.weight")
    return joined @ weight.T + model.layer_weight(layer, "self_attn.o_proj.bias")


def route(model: Model, layer: int, t: Array) -> tuple[Array, Ints, Array]:
    """Router logits of all experts; the best num_experts_per_tok, lowest id on ties; the softmax of those alone."""
    weight = model.layer_weight(layer, "mlp.router.weight")
    logits = t @ weight.T + model.layer_weight(layer, "mlp.router.bias")
    choice = np.argsort(-logits, axis=-1, kind="stable")[:, :model.config["num_experts_per_tok"]]
    return logits, choice, softmax(np.take_along_axis(logits, choice, axis=-1))


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    normalised: Array = e / e.sum(axis=-1, keepdims=True)
    return normalised


def experts(model: Model, layer: int, t: Array, choice: Ints, weight: Array, arithmetic: Arithmetic = EXACT) -> Array:
    """Sum over the chosen experts of weight * expert(t), the down bias inside the weighting."""
    total = np.zeros_like(t)
    gate_up_bias = model.layer_weight(layer, "mlp.experts.gate_up_proj_bias")
    down_bias = model.layer_weight(layer, "mlp.experts.down_proj_bias")
    for expert in np.unique(choice):
        token, rank = np.nonzero(choice == expert)
        u = t[token] @ model.expert_weight(layer, "gate_up_proj", expert).T + gate_up_bias[expert]
        h = arithmetic.operand(swiglu(u, model.config))
        y = h @ model.expert_weight(layer, "down_proj", expert).T + down_bias[expert]
        total[token] += weight[token, rank][:, None] * y
    return total


def swiglu(u: Array, config: Mapping[str, Any]) -> Array:
    """Gate and up are interleaved; the gate is clamped above only; one is added to up."""
    limit, alpha = config["swiglu_limit"], config.get("swiglu_alpha", 1.702)
    gate = np.minimum(u[:, 0::2], limit)
    up = np.clip(u[:, 1::2], -limit, limit)
    with np.errstate(over="ignore"):  # exp(-alpha gate) may be infinite: gate / inf is the right limit, -0
        activated: Array = gate / (1 + np.exp(-alpha * gate)) * (up + 1)
    return activated
