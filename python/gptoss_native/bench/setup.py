"""How the model is run while it is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptoss_native.bench.costs import Model
from gptoss_native.checkpoint.checkpoint import Checkpoint, open_checkpoint
from gptoss_native.native import _core, info


@dataclass(frozen=True)
class Setup:
    """threads: how many; as many as the process may use, for example."""

    folder: Path
    precision: str
    kv_dtype: str
    dense: str
    threads: int

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of load()."""
        return {"device": "cpu", "precision": self.precision, "kv_dtype": self.kv_dtype, "dense": self.dense,
                "threads": self.threads}

    @property
    def settings(self) -> dict[str, Any]:
        """What every row says."""
        return {"threads": self.threads, "isa": info()["cpu_isa"], "precision": self.precision,
                "kv_dtype": self.kv_dtype, "dense": self.dense}

    def open_native(self, **limits: Any) -> _core.Engine:
        """The engine below the public one, for what that does not show. limits: arguments of _core.Engine."""
        checkpoint = self.checkpoint()
        engine = _core.Engine(checkpoint.config.to_dict(), **self.options, **limits)
        for layer in range(checkpoint.config.num_hidden_layers):
            engine.load_layer(layer, checkpoint.layer(layer))
        engine.load_ends(checkpoint.ends())
        engine.start()
        return engine

    def checkpoint(self) -> Checkpoint:
        return open_checkpoint(self.folder)

    def model(self) -> Model:
        checkpoint = self.checkpoint()
        return Model(checkpoint.config, checkpoint.expert_format, self.kv_dtype, self.dense)
