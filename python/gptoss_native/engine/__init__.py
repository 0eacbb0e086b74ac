"""The model as an object: loading it, and what can be asked of it."""

from gptoss_native.engine.engine import Engine
from gptoss_native.engine.loading import load

__all__ = ["Engine", "load"]
