"""The tiny demonstration model: a gpt-oss checkpoint in the released form, made by demo_model/ of the repository."""

from __future__ import annotations

from pathlib import Path

__all__ = ["path"]


def path() -> Path:
    """The folder with its config.json, model.safetensors, tokenizer.json and generation_config.json."""
    return Path(__file__).parent
