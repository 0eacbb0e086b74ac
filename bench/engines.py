"""Engines that are raced: each in a process of its own, so that neither's threads or memory are the other's.

`Racer(ours, folder, ...)` starts a process, loads there, and asks it for what is timed there.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]


class Engine(Protocol):
    facts: dict[str, Any]

    def prefill(self, ids: Ids) -> float:
        """Seconds from a prompt, of which nothing is cached, to what its last token says."""
    def decode(self, ids: Ids) -> float:
        """Seconds of one token after another, behind a prompt of one token and with an empty cache."""
    def logits(self, ids: Ids) -> npt.NDArray[np.float32]:
        """After the last token."""


class Ours:
    """gptoss_native through its public interface; a token of decode includes the greedy draw."""

    def __init__(self, folder: Path, threads: int, max_context: int, options: dict[str, Any]) -> None:
        import gptoss_native
        self.greedy = lambda tokens: gptoss_native.SamplingParams(temperature=0, min_tokens=tokens, max_tokens=tokens)
        self.engine = gptoss_native.load(folder, device="cpu", threads=threads, max_context=max_context,
                                         max_sequences=1, **options)
        self.facts = {"version": gptoss_native.__version__, "device": str(self.engine.device)}

    def prefill(self, ids: Ids) -> float:
        return self.engine.generate(ids, self.greedy(1)).prefill_seconds

    def decode(self, ids: Ids) -> float:
        return self.engine.generate(ids[:1], self.greedy(1 + len(ids))).decode_seconds

    def logits(self, ids: Ids) -> npt.NDArray[np.float32]:
        return self.engine.logits(ids, rows=[-1])[0]


class LlamaCpp:
    """llama.cpp through the C interface of llama-cpp-python, as its own llama-bench does it: nothing is drawn. Its
    defaults, among them a cache in float16, flash attention, and weights that are repacked at load where it can."""

    def __init__(self, file: Path, threads: int, max_context: int, options: dict[str, Any]) -> None:
        import llama_cpp
        self.llama = llama_cpp
        self._log = llama_cpp.llama_log_callback(lambda level, text, data: None)  # kept: it is called from C
        llama_cpp.llama_log_set(self._log, None)
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(str(file).encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {file}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch = max_context, max_context
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError(f"llama.cpp makes no context of {max_context} tokens for {file}")
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.facts = {"version": llama_cpp.__version__,
                      "device": llama_cpp.llama_print_system_info().decode().strip(" |")}

    def prefill(self, ids: Ids) -> float:
        self._clear()
        start = perf_counter()
        self._run(ids)
        return perf_counter() - start

    def decode(self, ids: Ids) -> float:
        self._clear()
        self._run(ids[:1])
        start = perf_counter()
        for i in range(len(ids)):
            self._run(ids[i:i + 1])
        return perf_counter() - start

    def logits(self, ids: Ids) -> npt.NDArray[np.float32]:
        self._clear()
        self._run(ids)
        found = self.llama.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(found, (self.vocab_size,)).copy()

    def _clear(self) -> None:
        self.llama.llama_memory_clear(self.llama.llama_get_memory(self.context), True)

    def _run(self, ids: Ids) -> None:
        tokens = (self.llama.llama_token * len(ids))(*ids.tolist())
        status = self.llama.llama_decode(self.context, self.llama.llama_batch_get_one(tokens, len(ids)))
        if status:
            raise RuntimeError(f"llama_decode of {len(ids)} tokens returned {status}")
        self.llama.llama_synchronize(self.context)


class Racer:
    """An engine in another process. load_seconds: there, from the first import to a loaded model."""

    def __init__(self, engine: Callable[..., Engine], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, engine, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self.load_seconds, self.facts = self._answer()

    def call(self, method: str, *arguments: Any) -> Any:
        self._pipe.send((method, arguments))
        return self._answer()

    def private_bytes(self) -> int | None:
        """What it holds beside mapped files; None where the system does not say."""
        try:
            lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        except OSError:
            return None
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), None)

    def close(self) -> None:
        self._pipe.close()
        self._process.join(30)
        self._process.kill()

    def _answer(self) -> Any:
        try:
            failed, answer = self._pipe.recv()
        except EOFError:
            raise RuntimeError("an engine's process has ended unasked: was there enough memory?") from None
        if failed:
            raise RuntimeError(answer)
        return answer


def _serve(pipe: Any, make: Callable[..., Engine], arguments: tuple[Any, ...]) -> None:
    try:
        start = perf_counter()
        engine = make(*arguments)
        pipe.send((False, (perf_counter() - start, engine.facts)))
        while True:
            method, given = pipe.recv()
            pipe.send((False, getattr(engine, method)(*given)))
    except EOFError:  # nobody asks any more
        return
    except Exception as error:
        pipe.send((True, f"{make.__name__}: {error}"))
