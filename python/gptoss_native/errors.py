"""Every error the package raises on purpose. Each message says what was expected, what came and what to do."""

from __future__ import annotations


class GptOssError(Exception):
    """Base of all errors of this package."""


class CheckpointError(GptOssError, ValueError):
    """A checkpoint folder, file, header, tensor or config is not what it should be."""


class TokenizerError(GptOssError, ValueError):
    """A tokenizer file is missing or broken, or a text or id cannot be handled."""


class DeviceError(GptOssError, RuntimeError):
    """A device was not built, is not present, or failed."""


class OutOfMemory(GptOssError, MemoryError):
    """The request does not fit; the message says how much is needed and what would fit."""


class Cancelled(GptOssError):
    """The work was stopped by its caller; the session holds what it held before the step."""


class Timeout(GptOssError, TimeoutError):
    """The work took longer than the `timeout` that its caller gave, and was stopped."""


class QueueFull(GptOssError):
    """As many sequences wait for the engine as its `max_queue` allows; try again later."""
