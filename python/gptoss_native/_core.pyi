"""The native module: devices, engine, sessions. Shapes are numpy shapes; nothing here knows text."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__version__: str

def info() -> dict[str, Any]:
    """What was built and what is present.

    Keys: ``version``, ``compiler``, ``build_type``, ``usable_cores`` (affinity and cgroup quota),
    ``cpu_isas`` (list of ``{"name", "usable", "reason"}``, best first), ``cpu_isa`` (the one in use) and
    ``devices`` (list of ``{"name", "built", "present", "detail"}``; detail says why not and what to do).
    """

def register_device(name: str, path: str) -> None:
    """Make the device plug-in at `path` available as `name`. RuntimeError if it is not of this very build."""

def quantize_mxfp4(
    weight: npt.NDArray[np.uint16],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], float, float]:
    """bf16 ``(in, out)`` -> MXFP4 blocks ``(out, in/32, 16)``, scales ``(out, in/32)``, sum of squared
    errors, sum of squared weights. Releases the GIL. ValueError on a weight that is not finite."""

class Sampling:
    """How the next token is drawn. temperature 0 is greedy (lowest id on ties)."""

    def __init__(self, *, temperature: float, top_p: float, seed: int, index: int = 0) -> None: ...

class Work:
    """What one session contributes to a step: `tokens` follow its cached ones.

    `rows`: indices into `tokens` whose logits are returned. `sampling`: draw the token after the last one.
    """

    def __init__(
        self,
        session: Session,
        tokens: npt.NDArray[np.int32],
        *,
        rows: npt.NDArray[np.int32] | None = None,
        sampling: Sampling | None = None,
    ) -> None: ...

class Output:
    token: int
    """The sampled token, or -1 where no sampling was asked for."""
    logits: npt.NDArray[np.float32]
    """``(len(rows), vocab_size)``"""

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
    ) -> None:
        """`config`: Config.to_dict(). `device`: a name from info(). `precision`: "exact" | "fast".
        `kv_dtype`: "bf16" | "f32". `threads`: 0 means the usable cores. `max_tokens`: tokens of one step.
        `max_outputs`: rows of logits of one step. ValueError names what is wrong; RuntimeError says why a
        device cannot be used."""
    def load_layer(self, index: int, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Names and shapes as Checkpoint.layer(). The arrays are kept alive, not copied."""
    def load_ends(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None: ...
    def start(self) -> None:
        """Allocate activations and the KV pool; nothing is allocated afterwards. MemoryError says what fits."""
    def session(self) -> Session: ...
    def step(self, work: Sequence[Work], interrupted: Callable[[], bool] | None = None) -> list[Output]:
        """One transaction over all of `work`. `interrupted` is asked every few milliseconds, with the GIL
        held; when it says True, or raises, or a signal handler raises, nothing is committed and the step
        raises (InterruptedError, or what was raised)."""
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
        """Facts: name, isa, threads, precision, kv_dtype, memory (bytes by class)."""
    @property
    def free_pages(self) -> int:
        """KV pages of 64 tokens that no session holds."""
    @property
    def max_tokens(self) -> int: ...
    @property
    def max_outputs(self) -> int: ...
    def close(self) -> None: ...

def measure_read_bandwidth(threads: int, megabytes: int, seconds: float) -> float:
    """Bytes per second of a plain read of a buffer larger than the caches: the ceiling of decode."""

def measure_fma_rate(threads: int, seconds: float) -> float:
    """float32 FLOP per second of the ISA in use, registers only: the ceiling of prefill."""
