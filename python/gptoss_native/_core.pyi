"""The native module: devices, engine, sessions. Shapes are numpy shapes; nothing here knows text."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__version__: str

MAX_BIASES: int
"""Tokens that may have a bias without standing in the sequence."""
DRAWN_BEFORE: int
"""In place of a token: what the step before draws for the same session; see Engine.submit()."""

def info() -> dict[str, Any]:
    """What was built and what is present.

    Keys: ``version``, ``compiler``, ``build_type``, ``usable_cores`` (affinity and cgroup quota),
    ``cpu_isas`` (list of ``{"name", "usable", "reason"}``, best first), ``cpu_isa`` (the one in use) and
    ``devices`` (list of ``{"name", "built", "present", "detail"}``; detail says why not and what to do).
    """

def register_device(name: str, path: str) -> None:
    """Make the device plug-in at `path` available as `name`. RuntimeError if it is not of this very build."""

def allocated_bytes() -> int:
    """What the CPU device holds of the system's memory in this process, for all engines: activations, logits, KV pools,
    observed values. The plan of an engine that was started, and nothing else, is in it."""

def quantize_mxfp4(
    weight: npt.NDArray[np.uint16],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], float, float]:
    """bf16 ``(in, out)`` -> MXFP4 blocks ``(out, in/32, 16)``, scales ``(out, in/32)``, sum of squared
    errors, sum of squared weights. Releases the GIL. ValueError on a weight that is not finite."""

class Sampling:
    """How the next token is drawn. temperature 0 is greedy (lowest id on ties)."""

    def __init__(
        self,
        *,
        temperature: float,
        top_p: float,
        seed: int,
        index: int = 0,
        top_k: int = 0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logprobs: int = -1,
        edits: tuple[
            npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float32]
        ]
        | None = None,
        mask: npt.NDArray[np.uint32] | None = None,
    ) -> None:
        """What each does, in which order and in which arithmetic: csrc/sampling.h.

        `seed`: 64 bits. `index`: which of n samples of one prompt. `edits`: the tokens whose logits change, as four
        arrays of one length: ids (each once), 1 where the id stands in prompt or completion, how often it stands in
        the completion, bias. `mask`: ``(ceil(vocab_size / 32),)`` words, bit v % 32 of word v // 32 allows token v.
        `logprobs`: -1 none, else of the drawn token and of that many (0 to 20) most probable ones, from the logits
        as the model gave them. ValueError names what is out of range.
        """

class Work:
    """What one session contributes to a step: `tokens` follow its cached ones.

    `rows`: indices into `tokens` whose logits are returned. `sampling`: draw the token after the last one.
    `checkpoints`: after how many of `tokens` the place is remembered, so that Engine.session() can resume there.
    """

    def __init__(
        self,
        session: Session,
        tokens: npt.NDArray[np.int32],
        *,
        rows: npt.NDArray[np.int32] | None = None,
        sampling: Sampling | None = None,
        checkpoints: Sequence[int] = (),
    ) -> None: ...

class Output:
    token: int
    """The sampled token; negative where none was asked for, or none could be drawn."""
    error: str
    """Empty, or why this sequence alone failed; its session is as it was before the step."""
    logits: npt.NDArray[np.float32]
    """``(len(rows), vocab_size)``"""
    logprob: float
    """Of the drawn token, where Sampling.logprobs asked for it."""
    top_tokens: list[int]
    top_logprobs: list[float]

class Step:
    """A step of Engine.submit()."""

class Session:
    """The KV cache of one sequence. It holds exactly tokens ``[0, length)``; a failed step changes nothing."""

    @property
    def length(self) -> int: ...
    def truncate(self, length: int) -> int:
        """Forget the tokens from `length` on. Returns the new length, which is smaller where the sliding
        window that `length` needs was already freed (0 at worst)."""
    def close(self) -> None:
        """Give the pages back. Using the session afterwards raises ValueError."""

class Engine:
    """One model on one device. Steps of several threads wait for each other; the GIL is released."""

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        device: str,
        precision: str,
        kv_dtype: str,
        threads: int,
        max_context: int,
        max_sequences: int,
        max_tokens: int,
        max_outputs: int,
        max_total_tokens: int = 0,
        max_checkpoints: int = 32,
        max_observed: int = 0,
        dense: str = "bf16",
    ) -> None:
        """`config`: Config.to_dict(). `device`: a name from info(). `precision`: "exact" | "fast".
        `kv_dtype`: "bf16" | "f32". `threads`: 0 means the usable cores. `max_tokens`: tokens of one step.
        `max_outputs`: rows of logits of one step. `max_total_tokens`: of all sequences together, at least
        `max_context`; 0 is `max_sequences` whole contexts. `max_checkpoints`: there is room for so many places to
        resume from; more are kept while pages are free, and go when running sequences need theirs; with 0 none are
        kept. `max_observed`: tokens of one step for observe(). `dense`: "bf16" | "int8". Nothing large is allocated
        before start(), but for weights in 8 bits, which load_layer() and load_ends() make: `device["memory"]` is the
        plan. ValueError names what is wrong; RuntimeError says why a device cannot be used."""
    def load_layer(self, index: int, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Names and shapes as Checkpoint.layer(). The arrays are kept alive, not copied."""
    def load_ends(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None: ...
    def start(self) -> None:
        """Allocate activations and the KV pool; nothing is allocated afterwards. MemoryError says what fits."""
    def session(self, tokens: npt.NDArray[np.int32] | None = None) -> Session:
        """A new sequence. With `tokens`, it resumes at the latest checkpoint that is a prefix of them, at most at the
        last of them, which is left to be computed: its length says where."""
    def touch(self, tokens: npt.NDArray[np.int32]) -> None:
        """The latest checkpoint that is a prefix of `tokens`, or all of them, counts as just used."""
    def checkpoint(self, session: Session) -> None:
        """Remember where `session` stands, as Work(checkpoints=...) does in a step."""
    def step(self, work: Sequence[Work], interrupted: Callable[[], bool] | None = None) -> list[Output]:
        """One transaction over all of `work`. `interrupted` is asked every few milliseconds, with the GIL
        held; when it says True, or raises, or a signal handler raises, nothing is committed and the step
        raises (InterruptedError, or what was raised)."""
    def submit(self, work: Sequence[Work], interrupted: Callable[[], bool] | None = None,
               after: Step | None = None) -> Step | None:
        """The first half of step(): the device has it to do. `after`: the latest step, still under way on a device
        that runs ahead, and asked for no rows; sessions that draw in it go on with the token DRAWN_BEFORE alone,
        whatever it will be. MemoryError where that would cost a checkpoint; None where another step came in between."""
    def collect(self, step: Step, interrupted: Callable[[], bool] | None = None,
                dropped: Sequence[bool] = ()) -> list[Output]:
        """The second half, in the order of submit(). What it raises ends the step behind it too. `dropped`: which of
        the work is left out, because nobody wants it any more; with a sequence that is left out, or fails alone, its
        part of the step behind is."""
    @property
    def runs_ahead(self) -> bool:
        """Whether the device takes a step while another runs."""
    def observe(
        self, work: Sequence[Work], fields: Sequence[str]
    ) -> tuple[list[Output], dict[str, npt.NDArray[Any]]]:
        """step(), and what every layer made on the way: ``(num_hidden_layers, tokens, ...)`` for fields of
        run_stages() but logits. residual is the output of the layer."""
    def run_stages(
        self,
        stages: Sequence[str],
        layer: int,
        work: Sequence[Work],
        write: Mapping[str, npt.NDArray[Any]],
        read: Sequence[str],
    ) -> dict[str, npt.NDArray[Any]]:
        """For tests and benches: prepare a step of `work`, write fields, run the named stages of one layer,
        read fields; nothing is committed. Fields: residual (tokens, hidden_size), attn (tokens,
        num_attention_heads, head_dim), lse (tokens, num_attention_heads), router_logits (tokens,
        num_local_experts), router_choice int32 and router_weight (tokens, num_experts_per_tok), logits
        (rows, vocab_size), next_token int32 (samples)."""
    @property
    def device(self) -> dict[str, Any]:
        """Facts: name, isa, threads, precision, kv_dtype, dense, dense_errors (of each matrix held in 8 bits: relative
        RMS, and the largest in units of the RMS of its weights), memory (bytes by class: weights in another form than
        the files', kv_full, kv_window, activations, logits, observed). The KV pool is one: kv_full is the part for
        max_total_tokens in the full-attention layers, kv_window the rest, for windows and checkpoints."""
    @property
    def pages(self) -> int:
        """KV pages of 64 tokens of one class of layers, in all."""
    @property
    def free_pages(self) -> int:
        """Those that neither a session nor a checkpoint holds."""
    @property
    def max_tokens(self) -> int: ...
    @property
    def max_outputs(self) -> int: ...
    @property
    def max_edits(self) -> int:
        """Tokens of one sequence that may have a penalty or a bias: those that it may hold, and MAX_BIASES."""
    def close(self) -> None: ...

class Array:
    """A contiguous array of the host or of a device: float32, bfloat16 (uint16 in numpy), int32, uint32 or uint8."""

    @staticmethod
    def from_numpy(array: npt.NDArray[Any]) -> Array:
        """The same memory. ValueError: another dtype, or not C-contiguous."""
    @staticmethod
    def from_dlpack(capsule: object) -> Array:
        """The same memory, given back when the last user of it is gone. ValueError as in from_numpy()."""
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def on_host(self) -> bool: ...
    @property
    def address(self) -> int: ...
    def written_in(self, stream: int) -> None:
        """Work in `stream` writes it: who takes it over DLPack waits for that."""
    def numpy(self) -> npt.NDArray[Any]:
        """The same memory where it is the host's, else a copy."""
    def __dlpack__(
        self, *, stream: int | None = None, max_version: object = None, dl_device: object = None, copy: object = None
    ) -> object: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

class Operation:
    """Kernels, ready to run on arrays that it keeps alive."""

    def run(self) -> None:
        """A device with streams may return before it is done."""
    def finish(self) -> None:
        """Once, after the last run: what was written gets the caller's order."""

class Lab:
    """The kernels of a device one by one; see csrc/ops.h. Sizes and dtypes of operands are checked, as memory needs
    it; gptoss_native.ops has the functions for people."""

    def __init__(self, device: str, *, precision: str, kv_dtype: str, threads: int = 0, isa: str = "") -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def detail(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def place(self) -> tuple[int, int]:
        """DLPack's device type and index."""
    @property
    def stream(self) -> int: ...
    def wait(self, stream: int) -> None: ...
    def empty(self, shape: Sequence[int], dtype: str) -> Array: ...
    def upload(self, array: Array, stream: int) -> Array: ...
    def download(self, array: Array) -> npt.NDArray[Any]: ...
    def linear(
        self, x: Array, weight: Array, bias: Array | None, y: Array, tokens: int, rows: int, k: int, stream: int
    ) -> Operation: ...
    def moe_up(
        self, x: Array, blocks: Array, scales: Array, bias: Array | None, choice: Array, y: Array, tokens: int,
        chosen: int, experts: int, rows: int, k: int, limit: float, alpha: float, stream: int,
    ) -> Operation: ...
    def moe_down(
        self, h: Array, blocks: Array, scales: Array, bias: Array | None, choice: Array | None, weight: Array | None,
        y: Array, tokens: int, chosen: int, experts: int, rows: int, k: int, stream: int,
    ) -> Operation: ...
    def attention(
        self, q: Array, k: Array, v: Array, sinks: Array, attn: Array, lse: Array, query_counts: Sequence[int],
        key_counts: Sequence[int], heads: int, kv_heads: int, head_dim: int, window: int, stream: int,
    ) -> Operation: ...
    def rms_norm(
        self, x: Array, gain: Array, y: Array, tokens: int, size: int, eps: float, stream: int
    ) -> Operation: ...
    def rope(
        self, x: Array, position: Array, inv_freq: Array, concentration: float, y: Array, tokens: int, heads: int,
        head_dim: int, stream: int,
    ) -> Operation: ...
    def route(
        self, logits: Array, choice: Array, weight: Array, tokens: int, experts: int, chosen: int, stream: int
    ) -> Operation: ...
    def swiglu(
        self, u: Array, y: Array, tokens: int, size: int, limit: float, alpha: float, stream: int
    ) -> Operation: ...
    def dequantize(self, blocks: Array, scales: Array, y: Array, rows: int, k: int, stream: int) -> Operation: ...
    def sample(
        self, logits: Array, sampling: Sequence[Sampling], positions: Sequence[int], next_token: Array, logprob: Array,
        top_token: Array, top_logprob: Array, rows: int, vocab: int, stream: int,
    ) -> Operation: ...
    def time(self, operations: Sequence[Operation], rounds: int) -> list[float]:
        """Seconds of each round by the device's own clock; a round runs all of `operations`, prepared in `stream`."""
    def read_bandwidth(self, bytes: int, seconds: float) -> float:
        """Bytes per second of a plain read of so many bytes, which should be more than the caches."""
    def fma_rate(self, seconds: float) -> float:
        """float32 FLOP per second of multiply-adds on registers."""
    def matrix_rate(self, seconds: float) -> float:
        """FLOP per second of the matrix units, or products of bf16 or integers, that the kernels use; 0 where they use
        none."""

def rope_table(
    head_dim: int, *, theta: float, yarn: bool, factor: float, beta_fast: float, beta_slow: float,
    original_max_position_embeddings: int, truncate: bool,
) -> tuple[npt.NDArray[np.float32], float]:
    """inv_freq (head_dim / 2) and the concentration."""

def measure_read_bandwidth(threads: int, megabytes: int, seconds: float) -> float:
    """Bytes per second of a plain read of a buffer larger than the caches: the ceiling of decode."""

def measure_fma_rate(threads: int, seconds: float) -> float:
    """float32 FLOP per second of the ISA in use, registers only: the ceiling of prefill."""

def measure_matrix_rate(threads: int, seconds: float, exact: bool = False) -> float | None:
    """FLOP per second of products of bf16 or integers, registers only: the ceiling of prefill where the ISA in use
    multiplies those, in `fast` or in `exact`; else None."""
