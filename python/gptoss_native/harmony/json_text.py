"""JSON as the openai-harmony library writes it: compact, members in order, numbers as serde_json prints them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from gptoss_native.config.strict_json import shown
from gptoss_native.harmony.messages import MessageError

MAX_DEPTH = 120
"""serde_json reads 128 levels; a value nested deeper is refused instead of exhausting the stack."""


def json_text(value: Any, depth: int = 0) -> str:
    """Compact JSON of `value`, non-ASCII kept. MessageError for what JSON cannot express."""
    if depth > MAX_DEPTH:
        raise MessageError(f"a JSON value is nested more than {MAX_DEPTH} levels deep; a few are expected")
    if isinstance(value, str):
        return json.dumps(str(value), ensure_ascii=False)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int):
        return str(int(value)) if -(2**63) <= value < 2**64 else _float_text(value)
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, Mapping):
        members = [f"{json_text(_key(key))}:{json_text(item, depth + 1)}" for key, item in value.items()]
        return "{" + ",".join(members) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(json_text(item, depth + 1) for item in value) + "]"
    raise MessageError(f"expected a JSON value, found {shown(value)} of type {type(value).__name__}")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise MessageError(f"expected text as the key of a JSON object, found {shown(key)}")
    return key


def _float_text(value: float) -> str:
    """Shortest digits that round-trip; decimal with a fraction from 1e-5 up to 1e16, else with an exponent."""
    try:
        value = float(value)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise MessageError(f"expected a finite number in JSON, found {value}")
    sign, digit_tuple, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    digits = "".join(map(str, digit_tuple)).rstrip("0") or "0"
    exponent += len(digit_tuple) - len(digits)
    point = len(digits) + exponent  # the value is 0.DIGITS * 10**point
    prefix = "-" if sign else ""
    if value == 0:
        return f"{prefix}0.0"
    if 0 < point <= 16:
        whole = digits[:point].ljust(point, "0")
        return f"{prefix}{whole}.{digits[point:] or '0'}"
    if -5 < point <= 0:
        return f"{prefix}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{prefix}{digits[0]}{fraction}e{point - 1}"
