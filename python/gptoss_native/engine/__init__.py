"""The model as an object: loading opens a folder, planning says what memory that takes, engine is what users see."""

from gptoss_native.engine.engine import Engine
from gptoss_native.engine.loading import load

__all__ = ["Engine", "load"]
