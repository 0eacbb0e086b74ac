"""From a folder to an engine that is ready to run."""

from __future__ import annotations

import os

from gptoss_native.arguments import integer
from gptoss_native.checkpoint.checkpoint import Checkpoint, open_checkpoint
from gptoss_native.checkpoint.hub import find_model
from gptoss_native.checkpoint.quantize import ExpertQuantizer
from gptoss_native.engine.devices import device_facts
from gptoss_native.engine.engine import Engine
from gptoss_native.engine.planning import (
    MAX_CHECKPOINTS,
    MAX_CONTEXT,
    MAX_OUTPUTS,
    MAX_SEQUENCES,
    TOKEN_BUDGET,
    checked_options,
    plan_for,
    refuse_what_does_not_fit,
)
from gptoss_native.errors import CheckpointError, GptOssError
from gptoss_native.native import _core, info, native_errors
from gptoss_native.scheduler.scheduler import Scheduler
from gptoss_native.scheduler.transcript import Progress

MAX_QUEUE = 1024


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    precision: str = "fast",
    kv_dtype: str = "bf16",
    max_context: int = MAX_CONTEXT,
    max_sequences: int = MAX_SEQUENCES,
    max_total_tokens: int | None = None,
    max_outputs: int = MAX_OUTPUTS,
    token_budget: int = TOKEN_BUDGET,
    max_checkpoints: int = MAX_CHECKPOINTS,
    max_queue: int = MAX_QUEUE,
    threads: int | None = None,
    progress: Progress | None = None,
    experts: str | None = None,
    dense: str = "bf16",
) -> Engine:
    """Open a gpt-oss checkpoint and make an engine of it.

    path: a folder as released on Hugging Face, its original/ folder, or a bf16 one; or an id of the Hugging Face
        hub, see find_model; without one, the demonstration model of the package. Tensors stay in the mapped files
        where the device can use them there.
    device: a name from info(), or "auto": the best that is present; the environment's GPTOSS_BACKEND decides
        instead where it is set.
    precision: "fast" rounds what enters a matrix product to bf16, as the reference implementations do; "exact"
        keeps it in float32. Accumulation is float32 in both.
    kv_dtype: of cached keys and values, "bf16" or "f32".
    max_context: tokens of prompt and completion together, of one sequence.
    max_sequences: how many are computed at the same time.
    max_total_tokens: of all sequences together; the KV cache is allocated now for that many. None is max_sequences
        whole contexts; with less, what runs may have to wait when the cache is full, and goes on with the same result.
    max_outputs: rows of logits of one step; a decode needs one for each sequence.
    token_budget: tokens of one step, of all sequences together: more make long prompts faster, and what streams
        meanwhile slower.
    max_checkpoints: places that later prompts can go on from, for which there is always room beside what runs; a
        conversation uses about two. More are remembered while the cache has room; with 0 none are.
    max_queue: sequences that may wait while max_sequences run; QueueFull beyond.
    threads: None is every core that this process may use.
    progress: called as progress(stage, done, total) while loading ("load", in layers) and in prefills of more than
        one step ("prefill", in tokens), from the thread that called, or that reads the stream.
    experts: None keeps them as stored; "mxfp4" quantises the experts of a bf16 checkpoint now, and the engine's
        device tells the error.
    dense: of the weights of attention and unembedding, "bf16", as stored, or "int8": 8 bits and a power of two as the
        scale of 32 of them, copied so while loading (CPU only). Decode then reads a third less; the engine's device
        tells the error. Results are bit for bit those of a bf16 checkpoint with the weights so rounded.

    Raises CheckpointError, DeviceError, OutOfMemory (with figures), TypeError or ValueError (arguments); all but a
    device's own failure before anything large is allocated.
    """
    options = checked_options(
        device=device, precision=precision, kv_dtype=kv_dtype, max_context=max_context, max_sequences=max_sequences,
        max_total_tokens=max_total_tokens, max_outputs=max_outputs, token_budget=token_budget,
        max_checkpoints=max_checkpoints, threads=threads, experts=experts, dense=dense)
    max_queue = integer("max_queue", max_queue, 1)
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be callable, not {type(progress).__name__}")

    checkpoint = open_checkpoint(find_model(path))
    config = checkpoint.config
    refuse_what_does_not_fit(plan_for(checkpoint, options))
    quantizer = None
    if experts == "mxfp4" and checkpoint.expert_format == "bf16":
        quantizer = ExpertQuantizer(threads or info()["usable_cores"])
    with native_errors(GptOssError, f"{checkpoint.path}"):
        native = options.native(config)
    _load_weights(native, checkpoint, quantizer, progress)
    with native_errors():
        native.start()
    facts = device_facts(native.device, quantizer.relative_rms() if quantizer else {})
    scheduler = Scheduler(native, vocab_size=config.vocab_size, token_budget=native.max_tokens,
                          max_sequences=options.max_sequences, max_queue=max_queue)
    return Engine(checkpoint, scheduler, facts, options.max_context, progress)


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
