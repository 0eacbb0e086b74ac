"""From a folder to an engine that is ready to run."""

from __future__ import annotations

import os
from pathlib import Path

from gptoss_native.checkpoint.checkpoint import Checkpoint, open_checkpoint
from gptoss_native.checkpoint.quantize import ExpertQuantizer
from gptoss_native.engine.devices import choose_device, device_facts
from gptoss_native.engine.driver import Driver, Progress
from gptoss_native.engine.engine import Engine
from gptoss_native.engine.memory import check_fits, expert_bytes
from gptoss_native.engine.native import _core, info, native_errors
from gptoss_native.engine.sampling import integer
from gptoss_native.errors import CheckpointError, GptOssError

MAX_TOKENS = 512
"""Tokens of one step: enough for every expert of a prefill to be read once for many tokens."""
MAX_OUTPUTS = 64
"""Rows of logits of one step: 51 MB with the released vocabulary."""


def load(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    precision: str = "fast",
    kv_dtype: str = "bf16",
    max_context: int = 8192,
    threads: int | None = None,
    progress: Progress | None = None,
    experts: str | None = None,
) -> Engine:
    """Open a gpt-oss checkpoint and make an engine of it.

    path: a folder as released on Hugging Face, its original/ folder, or a bf16 one; tensors stay in the mapped
        files where the device can use them there.
    device: a name from info(), or "auto": the best that is present; the environment's GPTOSS_BACKEND decides
        instead where it is set.
    precision: "fast" rounds what enters a matrix product to bf16, as the reference implementations do; "exact"
        keeps it in float32. Accumulation is float32 in both.
    kv_dtype: of cached keys and values, "bf16" or "f32".
    max_context: tokens of prompt and completion together; the KV cache is allocated for it now.
    threads: None is every core that this process may use.
    progress: called as progress(stage, done, total) while loading ("load", in layers) and in prefills of more than
        one step ("prefill", in tokens), from the thread that called; it must not call the engine.
    experts: None keeps them as stored; "mxfp4" quantises the experts of a bf16 checkpoint now, and the engine's
        device tells the error.

    Raises CheckpointError, DeviceError, OutOfMemory (with figures), TypeError or ValueError (arguments); all but a
    device's own failure before anything large is allocated.
    """
    _one_of("precision", precision, ("fast", "exact"))
    _one_of("kv_dtype", kv_dtype, ("bf16", "f32"))
    _one_of("experts", experts, (None, "mxfp4"))
    if not isinstance(device, str):
        raise TypeError(f"device must be a name such as 'auto' or 'cpu', not {type(device).__name__} {device!r}")
    max_context = integer("max_context", max_context, 1)
    threads = None if threads is None else integer("threads", threads, 1, 1024)
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be callable, not {type(progress).__name__}")

    checkpoint = open_checkpoint(Path(path))
    config = checkpoint.config
    if max_context > config.max_position_embeddings:
        raise ValueError(f"max_context={max_context} is more than this model's max_position_embeddings, "
                         f"{config.max_position_embeddings}; pass at most that")
    name = choose_device(device)
    max_tokens, max_outputs = min(MAX_TOKENS, max_context), min(MAX_OUTPUTS, max_context)
    quantized = experts == "mxfp4" and checkpoint.expert_format == "bf16"

    with native_errors(GptOssError, f"{checkpoint.path}"):
        native = _core.Engine(
            config.to_dict(), device=name, precision=precision, kv_dtype=kv_dtype, threads=threads or 0,
            max_context=max_context, max_sequences=1, max_tokens=max_tokens, max_outputs=max_outputs)
    if name == "cpu":  # other devices have memory of their own, and say themselves what fits
        planned: dict[str, int] = native.device["memory"]
        check_fits(config, kv_dtype, max_context, max_tokens, planned, expert_bytes(config) if quantized else 0)
    quantizer = ExpertQuantizer(threads or info()["usable_cores"]) if quantized else None
    _load_weights(native, checkpoint, quantizer, progress)
    with native_errors():
        native.start()
    facts = device_facts(native.device, quantizer.relative_rms() if quantizer else {})
    return Engine(checkpoint, Driver(native, max_context, progress), facts, max_context)


def _load_weights(native: _core.Engine, checkpoint: Checkpoint, quantizer: ExpertQuantizer | None,
                  progress: Progress | None) -> None:
    layers = checkpoint.config.num_hidden_layers
    for index in range(layers):
        tensors = checkpoint.layer(index)
        if quantizer is not None:
            tensors = quantizer.layer(index, tensors)
        with native_errors(CheckpointError, f"{checkpoint.path}: layer {index}"):
            native.load_layer(index, tensors)
        if progress is not None:
            progress("load", index + 1, layers)
    with native_errors(CheckpointError, f"{checkpoint.path}"):
        native.load_ends(checkpoint.ends())


def _one_of(name: str, value: object, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, not {value!r}")
