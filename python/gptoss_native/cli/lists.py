"""Lists of numbers as arguments, separated by commas."""

from __future__ import annotations

import argparse


def numbers(text: str) -> list[int]:
    return _integers(text, 0)


def positives(text: str) -> list[int]:
    return _integers(text, 1)


def _integers(text: str, low: int) -> list[int]:
    try:
        found = [int(word) for word in text.split(",")]
    except ValueError:
        found = [low - 1]
    if min(found) < low:
        raise argparse.ArgumentTypeError(f"expected integers from {low}, separated by commas, not {text!r}")
    return found


def positive(text: str) -> int:
    found = positives(text)
    if len(found) > 1:
        raise argparse.ArgumentTypeError(f"expected one integer, not {text!r}")
    return found[0]
