"""Checkpoint folders: found, checked and mapped, never copied."""

from gptoss_native.checkpoint.checkpoint import Checkpoint, open_checkpoint

__all__ = ["Checkpoint", "open_checkpoint"]
