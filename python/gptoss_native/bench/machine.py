"""The facts that a number means nothing without: machine, build, versions, date, commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from gptoss_native.native import info


def machine_facts() -> dict[str, Any]:
    native = info()
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "usable_cores": native["usable_cores"],
        "cpu_isa": native["cpu_isa"],
        "memory_bytes": _memory_bytes(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": _system(),
        "gptoss_native": native["version"],
        "compiler": native["compiler"],
        "build_type": native["build_type"],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "command": " ".join(["gptoss-native", *map(_last_part, sys.argv[1:])]),
    }


def _memory_bytes() -> int | None:
    """None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _system() -> str:
    """The kernel, and the release of the system around it."""
    try:
        release = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        release = f"macOS {platform.mac_ver()[0]}" if platform.mac_ver()[0] else ""
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"{kernel} ({release})" if release else kernel


def _cpu_model() -> str:
    """On Linux as /proc has it: by name, or for Arm by the numbers of the implementer and the part."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return _said_by("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    cpu = {key.strip(): value.strip() for key, value in fields.items()}
    numbers = [f"{key} {cpu[key]}" for key in ("cpu family", "model", "CPU implementer", "CPU part") if key in cpu]
    return f"{cpu.get('model name', platform.machine())}{' (' + ', '.join(numbers) + ')' if numbers else ''}"


def _said_by(*command: str) -> str:
    """The output of a program of the system; "" where there is none."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _last_part(argument: str) -> str:
    """Of a path: where somebody keeps his files is nobody's business."""
    return Path(argument).name if "/" in argument else argument


def _commit() -> str:
    """Of the sources that this file lies in, "+" behind it where they were changed; "" outside a checkout."""
    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(Path(__file__).parent), *arguments], capture_output=True, text=True,
                              check=True).stdout.strip()
    try:
        git("ls-files", "--error-unmatch", __file__)  # an installed package may lie inside somebody's checkout
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
