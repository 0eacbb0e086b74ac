"""What an engine will take of the machine's memory: known from config and headers, before anything is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gptoss_native.arguments import integer
from gptoss_native.checkpoint.checkpoint import Checkpoint, open_checkpoint
from gptoss_native.checkpoint.hub import find_model
from gptoss_native.config.config import Config
from gptoss_native.engine.devices import choose_device
from gptoss_native.engine.memory import available_bytes, gigabytes
from gptoss_native.errors import GptOssError, OutOfMemory
from gptoss_native.native import _core, native_errors

MAX_CONTEXT = 8192
MAX_SEQUENCES = 4
MAX_OUTPUTS = 64
"""Rows of logits of one step: 51 MB with the released vocabulary."""
TOKEN_BUDGET = 512
"""Tokens of one step: enough for every expert of a prefill to be read once for many tokens."""
MAX_CHECKPOINTS = 32


@dataclass(frozen=True)
class Options:
    """How an engine is made; load() says what each means. `device` is a name, not "auto"."""

    device: str
    precision: str
    kv_dtype: str
    max_context: int
    max_sequences: int
    max_total_tokens: int | None
    max_outputs: int
    token_budget: int
    max_checkpoints: int
    threads: int | None
    experts: str | None
    dense: str

    def native(self, config: Config) -> _core.Engine:
        """An engine that has neither weights nor memory yet."""
        return _core.Engine(
            config.to_dict(), device=self.device, precision=self.precision, kv_dtype=self.kv_dtype,
            threads=self.threads or 0, max_context=self.max_context, max_sequences=self.max_sequences,
            max_tokens=min(self.token_budget, self.max_context * self.max_sequences), max_outputs=self.max_outputs,
            max_total_tokens=self.max_total_tokens or 0, max_checkpoints=self.max_checkpoints, dense=self.dense)


@dataclass(frozen=True)
class Plan:
    """Bytes by class.

    weights_mapped: of tensors that stay in the checkpoint's files, shared with other processes and given up by the
        system when it needs room. weights_copied: what is made of others: quantised experts, attention and unembedding
        in 8 bits, and vectors in float32. What they were made of is read once, and not counted as mapped. On CUDA and
        HIP all weights are copied, into the card's memory; on Metal those stay mapped that its kernels can read there.
    kv_full, kv_window: of the one pool of KV pages, what max_total_tokens take in full-attention layers, and the
        rest: windows of sliding layers, and checkpoints.
    activations, logits: of one step.
    total: all but weights_mapped, which is what has to fit. Code, and a device's own runtime, are not in it.
    available: what the system can still give; None where it does not say, and for devices other than the CPU, which
        have memory of their own: there `total` is of theirs.
    largest_context: the largest max_context that would fit with everything else as it is, at most max_total_tokens
        and the model's max_position_embeddings; 0 where none does.
    """

    path: Path
    options: Options
    weights_mapped: int
    weights_copied: int
    kv_full: int
    kv_window: int
    activations: int
    logits: int
    available: int | None
    largest_context: int

    @property
    def total(self) -> int:
        return self.weights_copied + self.kv_full + self.kv_window + self.activations + self.logits

    @property
    def fits(self) -> bool:
        return self.available is None or self.total <= self.available

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {**asdict(self), "path": str(self.path), "total": self.total, "fits": self.fits}


def plan(
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
    threads: int | None = None,
    experts: str | None = None,
    dense: str = "bf16",
) -> Plan:
    """What load() with the same arguments would take, without loading: headers are read, weights are not.

    Raises as load() does, but for OutOfMemory: `fits` says it.
    """
    return plan_for(open_checkpoint(find_model(path, download=False)), checked_options(
        device=device, precision=precision, kv_dtype=kv_dtype, max_context=max_context, max_sequences=max_sequences,
        max_total_tokens=max_total_tokens, max_outputs=max_outputs, token_budget=token_budget,
        max_checkpoints=max_checkpoints, threads=threads, experts=experts, dense=dense))


def checked_options(*, device: Any, precision: Any, kv_dtype: Any, max_context: Any, max_sequences: Any,
                    max_total_tokens: Any, max_outputs: Any, token_budget: Any, max_checkpoints: Any, threads: Any,
                    experts: Any, dense: Any = "bf16") -> Options:
    """TypeError or ValueError names the one that is wrong; DeviceError says why a device cannot be used."""
    _one_of("precision", precision, ("fast", "exact"))
    _one_of("kv_dtype", kv_dtype, ("bf16", "f32"))
    _one_of("experts", experts, (None, "mxfp4"))
    _one_of("dense", dense, ("bf16", "int8"))
    if not isinstance(device, str):
        raise TypeError(f"device must be a name such as 'auto' or 'cpu', not {type(device).__name__} {device!r}")
    sequences = integer("max_sequences", max_sequences, 1, 1 << 16)
    budget = integer("token_budget", token_budget, 1, 1 << 20)
    if budget < sequences:
        raise ValueError(f"token_budget={budget} is less than max_sequences={sequences}: a step holds a token of each")
    context = integer("max_context", max_context, 1)
    total = None if max_total_tokens is None else integer("max_total_tokens", max_total_tokens, 1, 1 << 62)
    if total is not None and total < context:
        raise ValueError(f"max_total_tokens={total} is less than max_context={context}: one sequence alone "
                         "would not fit; pass at least that, or a smaller max_context")
    return Options(
        device=choose_device(device), precision=precision, kv_dtype=kv_dtype,
        max_context=context, max_sequences=sequences, max_total_tokens=total,
        max_outputs=integer("max_outputs", max_outputs, 1, 1 << 20), token_budget=budget,
        max_checkpoints=integer("max_checkpoints", max_checkpoints, 0, 1 << 20),
        threads=None if threads is None else integer("threads", threads, 1, 1024), experts=experts, dense=dense)


def plan_for(checkpoint: Checkpoint, options: Options) -> Plan:
    """The plan of an opened checkpoint. Raises ValueError where max_context is beyond the model's."""
    config, most = checkpoint.config, checkpoint.config.max_position_embeddings
    if options.max_context > most:
        raise ValueError(f"max_context={options.max_context} is more than this model's max_position_embeddings, "
                         f"{most}; pass at most that")

    def planned(context: int) -> dict[str, int]:
        with native_errors(GptOssError, f"{checkpoint.path}"):
            memory: dict[str, int] = replace(options, max_context=context).native(config).device["memory"]
        return memory

    memory = planned(options.max_context)
    on_cpu = options.device.partition(":")[0] == "cpu"
    available = available_bytes() if on_cpu else None  # other devices say themselves what fits
    mapped, copied = _weights(checkpoint, options)
    room = None if available is None else available - copied
    if on_cpu:
        copied += memory["weights"]
    else:
        mapped, copied = _weights_on_a_card(checkpoint, options, memory["weights"], mapped)
    return Plan(
        path=checkpoint.path, options=options, weights_mapped=mapped, weights_copied=copied,
        kv_full=memory["kv_full"], kv_window=memory["kv_window"], activations=memory["activations"],
        logits=memory["logits"], available=available,
        largest_context=_largest(min(most, options.max_total_tokens or most),
                                 lambda context: room is None or sum(planned(context).values()) <= room))


def refuse_what_does_not_fit(plan: Plan) -> None:
    """Raise OutOfMemory with figures and what would fit."""
    if plan.fits:
        return
    classes = {"quantised and copied weights": plan.weights_copied, "KV cache": plan.kv_full + plan.kv_window,
               "activations": plan.activations, "logits": plan.logits}
    figures = ", ".join(f"{gigabytes(count)} of {name}" for name, count in classes.items() if count)
    options = plan.options
    remedy = "no context fits: free some memory or raise the limit of this process"
    if plan.largest_context:
        remedy = f"max_context={plan.largest_context} would fit"
    if options.max_sequences > 1:
        remedy += f"; fewer than max_sequences={options.max_sequences} need less"
        remedy += ", and so does a smaller max_total_tokens, which all of them share"
    if options.kv_dtype == "f32":
        remedy += "; kv_dtype='bf16' halves the cache"
    raise OutOfMemory(
        f"max_context={options.max_context} for {options.max_sequences} sequences with kv_dtype={options.kv_dtype!r} "
        f"needs {gigabytes(plan.total)} ({figures}), but {gigabytes(plan.available or 0)} are available; {remedy}")


def _weights(checkpoint: Checkpoint, options: Options) -> tuple[int, int]:
    """Bytes mapped and copied: the CPU device uses matrices where they lie, and copies vectors as float32."""
    config = checkpoint.config
    tensors = [*checkpoint.ends().values()]
    for index in range(config.num_hidden_layers):
        tensors += checkpoint.layer(index).values()
    vectors = sum(tensor.size for tensor in tensors if tensor.ndim == 1)
    mapped = sum(tensor.nbytes for tensor in tensors if tensor.ndim > 1)
    copied = 4 * vectors
    if options.experts == "mxfp4" and checkpoint.expert_format == "bf16":
        weights = sum(tensor.size for tensor in tensors if tensor.ndim == 3)
        mapped -= 2 * weights
        copied += weights * 17 // 32  # 16 bytes of codes and one scale for 32 weights
    if options.dense == "int8":
        mapped -= dense_bytes(checkpoint)
    return mapped, copied


def _weights_on_a_card(checkpoint: Checkpoint, options: Options, in_memory: int, mapped: int) -> tuple[int, int]:
    """The same for a GPU, which says itself what it holds of a checkpoint with MXFP4 experts. Others weigh more, and
    their padding is taken to be the same."""
    if checkpoint.expert_format == "bf16" and options.experts is None:
        layers = (checkpoint.layer(index) for index in range(checkpoint.config.num_hidden_layers))
        weights = sum(tensor.size for tensors in layers for tensor in tensors.values() if tensor.ndim == 3)
        in_memory += 2 * weights - weights * 17 // 32
    return mapped if options.device.startswith("metal") else 0, in_memory


def dense_bytes(checkpoint: Checkpoint) -> int:
    """Of the weights of attention and unembedding, as stored: what dense="int8" holds in 8 bits."""
    names = ("q_proj_weight", "k_proj_weight", "v_proj_weight", "o_proj_weight")
    layers = (checkpoint.layer(index) for index in range(checkpoint.config.num_hidden_layers))
    return sum(tensors[name].nbytes for tensors in layers for name in names) + checkpoint.ends()["lm_head"].nbytes


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number from 1 to `most` that fits, all smaller ones fitting too; 0 where none does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _one_of(name: str, value: object, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, not {value!r}")
