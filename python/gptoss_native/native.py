"""The only place that imports the native module, and where its exceptions become those of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gptoss_native.errors import Cancelled, DeviceError, GptOssError, OutOfMemory

try:
    from gptoss_native import _core
except ImportError as error:
    raise ImportError(
        f"the native module of gptoss_native cannot be imported ({error}); it is compiled when the package is "
        "installed: run `pip install .` in the source folder, and use the Python that it was installed for"
    ) from error

__all__ = ["_core", "info", "native_errors"]


@contextmanager
def native_errors(invalid: type[GptOssError] | None = None, where: str = "") -> Iterator[None]:
    """Translate what the native module raises.

    MemoryError -> OutOfMemory, InterruptedError -> Cancelled, RuntimeError -> DeviceError, and ValueError ->
    `invalid`, where given. `where` is put before the message. Anything else, KeyboardInterrupt above all, passes.
    """
    prefix = f"{where}: " if where else ""
    try:
        yield
    except GptOssError:
        raise
    except InterruptedError:
        raise Cancelled(f"{prefix}the work was stopped by its caller") from None
    except MemoryError as error:
        raise OutOfMemory(f"{prefix}{error}") from error
    except ValueError as error:
        if invalid is None:
            raise
        raise invalid(f"{prefix}{error}") from error
    except RuntimeError as error:
        raise DeviceError(f"{prefix}{error}") from error


def info() -> dict[str, Any]:
    """What was built and what is present, as plain data.

    Keys: version, compiler, build_type, usable_cores, cpu_isas (list of {name, usable, reason}, best first),
    cpu_isa (the one in use) and devices (list of {name, built, present, detail}; detail says why not, and what
    to do).
    """
    return _core.info()
