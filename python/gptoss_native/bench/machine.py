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
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "gptoss_native": native["version"],
        "compiler": native["compiler"],
        "build_type": native["build_type"],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "command": " ".join(["gptoss-native", *map(_last_part, sys.argv[1:])]),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    cpu = {key.strip(): value.strip() for key, value in fields.items()}
    numbers = [f"{key} {cpu[key]}" for key in ("cpu family", "model") if key in cpu]
    return f"{cpu.get('model name', platform.machine())}{' (' + ', '.join(numbers) + ')' if numbers else ''}"


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
