"""The native engine as the tests use it: open a folder, step a session, read every logit.

GPTOSS_BACKEND=cuda runs the tests that open their engines here on that device instead of the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gptoss_native import _core
from gptoss_native.checkpoint.checkpoint import open_checkpoint

Logits = npt.NDArray[np.float32]
DEVICE = os.environ["GPTOSS_BACKEND"]  # see conftest.py
ISAS = [isa["name"] for isa in _core.info()["cpu_isas"]] if DEVICE == "cpu" else [DEVICE]
"""Instruction sets that this build holds, best first; the last is the baseline. Another device counts as one."""

INTEGER_ISAS = {"avx2", "avx2_vnni", "avx512_vnni"}
"""Those that multiply MXFP4 and 8-bit weights by integers in precision="fast"; see csrc/cpu/integers.inl."""


def skip_unless_present(device: str) -> None:
    for entry in _core.info()["devices"]:
        if entry["name"] == device.partition(":")[0]:
            if not (entry["built"] and entry["present"]):
                pytest.skip(f"{device}: {entry['detail']}")
            return
    pytest.skip(f"{device}: no device has this name")


def skip_unless_usable(isa: str) -> None:
    if isa == DEVICE:
        return skip_unless_present(DEVICE)
    [entry] = [entry for entry in _core.info()["cpu_isas"] if entry["name"] == isa]
    if not entry["usable"]:
        pytest.skip(f"{isa}: {entry['reason']}")


def open_engine(folder: Path, *, precision: str = "exact", kv_dtype: str = "f32", threads: int = 0,
                max_context: int = 4096, max_tokens: int = 512, max_outputs: int | None = None,
                max_sequences: int = 1, max_observed: int = 0, dense: str = "bf16",
                isa: str | None = None) -> _core.Engine:
    """The folder on DEVICE; by default a step may ask for the logits of all its tokens."""
    skip_unless_present(DEVICE)
    if isa is not None and isa != DEVICE:
        skip_unless_usable(isa)
        with pytest.MonkeyPatch.context() as patch:  # which is read when an engine is made
            patch.setenv("GPTOSS_CPU_ISA", isa)
            engine = open_engine(folder, precision=precision, kv_dtype=kv_dtype, threads=threads,
                                 max_context=max_context, max_tokens=max_tokens, max_outputs=max_outputs,
                                 max_sequences=max_sequences, max_observed=max_observed, dense=dense)
        assert engine.device["isa"] == isa
        return engine
    checkpoint = open_checkpoint(folder)
    engine = _core.Engine(checkpoint.config.to_dict(), device=DEVICE, precision=precision, kv_dtype=kv_dtype,
                          threads=threads, max_context=max_context, max_sequences=max_sequences,
                          max_tokens=max_tokens, max_outputs=max_tokens if max_outputs is None else max_outputs,
                          max_observed=max_observed, dense=dense)
    engine.load_ends(checkpoint.ends())
    for layer in range(checkpoint.config.num_hidden_layers):
        engine.load_layer(layer, checkpoint.layer(layer))
    engine.start()
    return engine


def ids(tokens: Sequence[int] | npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    return np.asarray(tokens, dtype=np.int32)


def chunks(tokens: npt.NDArray[Any], sizes: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
    """Cut into pieces of these sizes, the last size over and over."""
    start, turn = 0, 0
    while start < len(tokens):
        size = sizes[min(turn, len(sizes) - 1)]
        yield tokens[start:start + size]
        start, turn = start + size, turn + 1


def all_logits(engine: _core.Engine, tokens: Sequence[int] | npt.NDArray[Any], sizes: Sequence[int] = (512,),
               session: _core.Session | None = None) -> Logits:
    """(tokens, vocab_size), computed in steps of the given sizes. The session is closed unless it was given."""
    own = engine.session() if session is None else session
    parts = []
    for chunk in chunks(ids(tokens), sizes):
        rows = np.arange(len(chunk), dtype=np.int32)
        [output] = engine.step([_core.Work(own, chunk, rows=rows)])
        parts.append(output.logits)
    if session is None:
        own.close()
    return np.concatenate(parts)


def logits_together(engine: _core.Engine, prompts: Sequence[npt.NDArray[Any]], sizes: Sequence[int]) -> list[Logits]:
    """all_logits of each of the prompts, which have one length, in steps that they share."""
    sessions = [engine.session() for _ in prompts]
    parts: list[list[Logits]] = [[] for _ in prompts]
    for pieces in zip(*(chunks(prompt, sizes) for prompt in prompts), strict=True):
        work = [_core.Work(session, ids(piece), rows=ids(range(len(piece))))
                for session, piece in zip(sessions, pieces, strict=True)]
        for part, output in zip(parts, engine.step(work), strict=True):
            part.append(output.logits)
    return [np.concatenate(part) for part in parts]


def some_logits(engine: _core.Engine, tokens: Sequence[int] | npt.NDArray[Any], rows: Sequence[int],
                size: int = 512) -> Logits:
    """(rows, vocab_size) of the tokens at these places of a long prompt."""
    session = engine.session()
    parts, start = [], 0
    for chunk in chunks(ids(tokens), [size]):
        here = ids([row - start for row in rows if start <= row < start + len(chunk)])
        [output] = engine.step([_core.Work(session, chunk, rows=here)])
        parts.append(output.logits)
        start += len(chunk)
    session.close()
    return np.concatenate(parts)
