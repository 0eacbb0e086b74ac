"""Errors as one line for people at the command line, who have options where a program has arguments."""

from __future__ import annotations

from gptoss_native.arguments import PromptTooLong


def explained(error: BaseException) -> str:
    """What went wrong, on one line."""
    if isinstance(error, PromptTooLong):
        return (f"the prompt has {error.tokens:,} tokens, and --max-context is {error.max_context:,}; shorten it, or "
                "give a larger --max-context")
    if isinstance(error, OSError) and error.strerror:
        message = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    else:
        message = str(error)
    return " ".join(message.split()) or type(error).__name__
