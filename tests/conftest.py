"""Fixtures: small checkpoints on disk, each with its reference model, made once per session."""

from __future__ import annotations

import os
import signal

# A suite started in the background inherits SIGINT as ignored, and the tests that press Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
# The CPU, unless another device is asked for: an emulated one that some other test registered is no device to work on.
os.environ["GPTOSS_BACKEND"] = os.environ.get("GPTOSS_BACKEND") or "cpu"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's products are small, and its threads fight the engine's

# ruff: noqa: E402
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import reference
from make_checkpoint import hf_config, make_tensors, write_hf
from shapes import Shape


@dataclass(frozen=True, eq=False)
class Case:
    """A checkpoint in `folder`, the same model for the reference, and a prompt."""

    shape: Shape
    folder: Path
    model: reference.Model
    tokens: npt.NDArray[np.int32]

    @cached_property
    def trace(self) -> reference.Trace:
        """The reference's run over the whole prompt."""
        return reference.forward(self.model, self.tokens)


Edit = Callable[[dict[str, npt.NDArray[Any]]], None]
"""Changes tensors in place before they are written."""

CaseMaker = Callable[..., Case]


@pytest.fixture(scope="session")
def case_of(tmp_path_factory: pytest.TempPathFactory) -> CaseMaker:
    """case_of(shape, seed=0, edit=None): the checkpoint of a shape; those without edits are kept."""
    made: dict[tuple[str, int], Case] = {}

    def make(shape: Shape, seed: int = 0, edit: Edit | None = None) -> Case:
        if edit is None and (shape.name, seed) in made:
            return made[shape.name, seed]
        config: Mapping[str, Any] = hf_config(**shape.fields)
        tensors = make_tensors(dict(config), seed, random_nibbles=shape.random_nibbles)
        if edit is not None:
            edit(tensors)
        folder = tmp_path_factory.mktemp(shape.name)
        write_hf(folder, config, tensors, files=2, tokenizer=False)
        tokens = np.random.default_rng(seed + 1).integers(0, config["vocab_size"], shape.prompt).astype(np.int32)
        case = Case(shape, folder, reference.Model(config, tensors), tokens)
        if edit is None:
            made[shape.name, seed] = case
        return case

    return make


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of specifications and tools that may stand beside the checkout."""
    folder = Path(os.environ.get("GPTOSS_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "tools" / "make_oracle_checkpoint.py").exists():
        pytest.skip(f"no oracle tool: {folder}/tools is absent (set GPTOSS_SHARED)")
    return folder
