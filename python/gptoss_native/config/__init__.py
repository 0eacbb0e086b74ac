"""The checkpoint's configuration, checked."""

from gptoss_native.config.config import Config, RopeScaling

__all__ = ["Config", "RopeScaling"]
