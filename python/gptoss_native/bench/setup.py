"""How the model is run while it is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptoss_native.bench.costs import Model
from gptoss_native.checkpoint.checkpoint import Checkpoint, open_checkpoint
from gptoss_native.native import info


@dataclass(frozen=True)
class Setup:
    """threads: how many; as many as the process may use, for example."""

    folder: Path
    precision: str
    kv_dtype: str
    threads: int

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of load()."""
        return {"device": "cpu", "precision": self.precision, "kv_dtype": self.kv_dtype, "threads": self.threads}

    @property
    def settings(self) -> dict[str, Any]:
        """What every row says."""
        return {"threads": self.threads, "isa": info()["cpu_isa"], "precision": self.precision,
                "kv_dtype": self.kv_dtype, "dense": "bf16"}

    def checkpoint(self) -> Checkpoint:
        return open_checkpoint(self.folder)

    def model(self) -> Model:
        checkpoint = self.checkpoint()
        return Model(checkpoint.config, checkpoint.expert_format, self.kv_dtype)
