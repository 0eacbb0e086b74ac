"""JSON from files that may be damaged or hostile: any surprise is a CheckpointError that names its source."""

from __future__ import annotations

import json
import reprlib
import stat
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from gptoss_native.errors import CheckpointError

MAX_BYTES = 1 << 24
"""More than any JSON read here needs (a header of the 120b has 55 kB); parsed, JSON can grow thirtyfold."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 100
_short.maxlist = _short.maxtuple = _short.maxdict = 8
shown = _short.repr
"""repr() cut to a length that fits in an error message, without anything a terminal would act upon."""


def counted(number: int, noun: str) -> str:
    """"1 byte", "2,000 bytes"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def parse_object(data: bytes, source: str) -> dict[str, Any]:
    """The JSON object in `data` (UTF-8). Duplicate keys, NaN and anything but an object are refused."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
            raise CheckpointError(f"{source}: the key {shown(key)} occurs twice; each is expected once.")
        return result

    def constant(name: str) -> NoReturn:
        raise CheckpointError(f"{source}: {name} is not JSON; a finite number is expected.")

    try:
        parsed = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
        if b"\\u" in data:
            json.dumps(parsed, ensure_ascii=False).encode()
    except CheckpointError:
        raise
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{source}: not UTF-8 at byte {error.start}; JSON is expected.") from None
    except UnicodeEncodeError:
        raise CheckpointError(f"{source}: a text holds half a surrogate pair (\\ud800 to \\udfff); download the file "
                              "again.") from None
    except ValueError as error:
        if not isinstance(error, json.JSONDecodeError):  # more digits than Python converts
            raise CheckpointError(f"{source}: a number of thousands of digits; download the file again.") from None
        raise CheckpointError(f"{source}: not JSON ({error}); download the file again.") from None
    except RecursionError:
        raise CheckpointError(f"{source}: nested too deeply; a few levels are expected.") from None
    if not isinstance(parsed, dict):
        raise CheckpointError(f"{source}: a JSON object is expected, but it is {shown(parsed)}.")
    return parsed


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. CheckpointError where it cannot be read or is larger than MAX_BYTES."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path}: a JSON file is expected, but it is not a regular file.")
        if status.st_size > MAX_BYTES:
            raise CheckpointError(f"{path}: at most {MAX_BYTES:,} bytes are expected, but it has "
                                  f"{status.st_size:,}.")
        data = path.read_bytes()
    except OSError as error:
        remedy = "; download it too" if isinstance(error, FileNotFoundError) else ""
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}){remedy}.") from None
    return parse_object(data, str(path))
