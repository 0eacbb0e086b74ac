"""The demonstration model as a whole: what a device makes of it, against the same in float64.

The oracle is the model written out over gptoss_native.ops.reference. Its rotary table is the engine's, because which
float32 table it is, is part of the model; the table has a case of its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gptoss_native import demo
from gptoss_native.checkpoint.checkpoint import Checkpoint, open_checkpoint
from gptoss_native.engine.engine import Engine
from gptoss_native.engine.loading import load
from gptoss_native.ops import reference, rope_table
from gptoss_native.ops.tolerances import LOGITS, Tolerance
from gptoss_native.sampling.params import SamplingParams
from gptoss_native.selftest.compare import Error, equal, near

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int32]
EXACT_LOGITS = Tolerance(LOGITS, LOGITS, "(absolute) see LOGITS")
QUESTION, ANSWER = "What is 27 + 58?", "27 + 58 = 85"
CHUNK = 48
"""Tokens of a step of the prefill in chunks: no page and no window is a multiple of it."""
IN_ONE_ORDER = {"metal": {"GPTOSS_METAL_MATRIX": "0"}}
"""Variables with which a device's sums have one order, however many tokens are in a step, where it needs any."""


@dataclass(frozen=True)
class Sizes:
    """prompt: tokens; more than the window, where that is to be crossed. greedy: tokens drawn behind it. asks: whether
    it also answers a question, in the precision that is the default."""

    prompt: int = 170
    greedy: int = 24
    asks: bool = True


QUICK = Sizes(prompt=12, greedy=2, asks=False)


@dataclass(frozen=True)
class Check:
    name: str
    detail: str
    run: Callable[[], list[Error]]


def model_checks(device: str, sizes: Sizes) -> Iterator[Check]:
    """Each is to be run before the next is asked for."""
    checkpoint = open_checkpoint(demo.path())
    prompt = np.random.default_rng(1).integers(0, checkpoint.config.vocab_size, sizes.prompt).astype(np.int32)
    whole = Lazy(lambda: engine_on(device, sizes).logits(prompt))

    def logits() -> list[Error]:
        return [near("logits", whole.get(), reference_logits(checkpoint, prompt), EXACT_LOGITS, absolute=True)]

    setting = IN_ONE_ORDER.get(device.partition(":")[0], {})

    def chunks() -> list[Error]:
        with environment(setting):
            want = engine_on(device, sizes).logits(prompt) if setting else whole.get()
            with engine_on(device, sizes, token_budget=min(CHUNK, sizes.prompt // 2)) as engine:
                return [equal("logits", engine.logits(prompt), want)]

    def greedy() -> list[Error]:
        with engine_on(device, sizes) as engine:
            drawn = greedy_tokens(engine, prompt, sizes.greedy)
        with engine_on("cpu", sizes) as engine:
            on_cpu = greedy_tokens(engine, prompt, sizes.greedy)
        right = reference_logits(checkpoint, np.concatenate([prompt, drawn[:-1]]))[len(prompt) - 1:]
        right[:, list(checkpoint.eos_token_ids)] = -np.inf  # min_tokens forbids them
        best = np.sort(right, axis=-1)
        clear = best[:, -1] - best[:, -2] > 2 * LOGITS  # as near as that, either is right
        return [equal("tokens", drawn[clear], np.argmax(right, axis=-1)[clear]),
                equal("tokens of the cpu", drawn, on_cpu)]

    def answer() -> list[Error]:
        with load(device=device, max_sequences=1, max_context=512) as engine:
            said = engine.chat([{"role": "user", "content": QUESTION}], params=SamplingParams(temperature=0)).text
        return [Error("answer", said, ANSWER, 0.0 if said == ANSWER else np.inf)]

    yield Check("logits", f"{sizes.prompt} tokens, exact", logits)
    yield Check("prefill in chunks", ", ".join([f"of {min(CHUNK, sizes.prompt // 2)} tokens, exact, the same bits",
                                                *(f"{name}={value}" for name, value in setting.items())]), chunks)
    yield Check("greedy tokens", f"{sizes.greedy} behind {sizes.prompt}, exact", greedy)
    if sizes.asks:
        yield Check("answer", f"fast, {QUESTION!r}", answer)


class Lazy:
    """Made when it is first asked for."""

    def __init__(self, make: Callable[[], npt.NDArray[np.float32]]) -> None:
        self.make, self.made = make, list[npt.NDArray[np.float32]]()

    def get(self) -> npt.NDArray[np.float32]:
        if not self.made:
            self.made.append(self.make())
        return self.made[0]


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def engine_on(device: str, sizes: Sizes, token_budget: int = 512) -> Engine:
    """For one sequence, with no cache of earlier ones to go on from."""
    return load(device=device, precision="exact", kv_dtype="f32", max_sequences=1, max_checkpoints=0,
                max_context=sizes.prompt + sizes.greedy + 1, token_budget=token_budget)


def greedy_tokens(engine: Engine, prompt: Ids, count: int) -> Ids:
    params = SamplingParams(temperature=0, min_tokens=count, max_tokens=count)  # whether the model would stop or not
    return np.array(engine.generate(prompt, params).tokens, np.int32)


def reference_logits(checkpoint: Checkpoint, ids: Ids) -> Array:
    """(tokens, vocab_size) of one sequence, in float64."""
    c, ends = checkpoint.config, checkpoint.ends()
    rope = c.rope_scaling
    inv_freq, concentration = rope_table(
        c.head_dim, theta=c.rope_theta, factor=rope.factor, beta_fast=rope.beta_fast, beta_slow=rope.beta_slow,
        original_max_position_embeddings=rope.original_max_position_embeddings, truncate=rope.truncate,
        rope_type=rope.rope_type)
    position = np.arange(len(ids))
    x = reference.from_bf16(ends["embed_tokens"][ids])

    def rotated(heads: Array) -> Array:
        return reference.rope(heads.reshape(len(ids), -1, c.head_dim), position, inv_freq, concentration)

    for index, kind in enumerate(c.layer_types):
        w = checkpoint.layer(index)
        t = reference.rms_norm(x, w["input_layernorm"], eps=c.rms_norm_eps)
        q, k, v = (reference.linear(t, w[f"{name}_proj_weight"], w[f"{name}_proj_bias"]) for name in "qkv")
        attn, _ = reference.attention(rotated(q), rotated(k), v.reshape(len(ids), -1, c.head_dim), w["sinks"],
                                      window=c.sliding_window if kind == "sliding_attention" else None)
        x = x + reference.linear(attn.reshape(len(ids), -1), w["o_proj_weight"], w["o_proj_bias"])
        t = reference.rms_norm(x, w["post_attention_layernorm"], eps=c.rms_norm_eps)
        router = reference.linear(t, w["router_weight"], w["router_bias"])
        choice, weight = reference.route(router, c.num_experts_per_tok)
        h = reference.moe_up(t, w["gate_up_proj_blocks"], w["gate_up_proj_scales"], choice, w["gate_up_proj_bias"],
                             limit=c.swiglu_limit, alpha=c.swiglu_alpha)
        x = x + reference.moe_down(h, w["down_proj_blocks"], w["down_proj_scales"], choice, weight, w["down_proj_bias"])
    return reference.linear(reference.rms_norm(x, ends["norm"], eps=c.rms_norm_eps), ends["lm_head"])
