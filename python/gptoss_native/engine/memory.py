"""How much memory there is: asked before anything large is allocated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_FILES = {  # version: limit, usage, and the key of memory.stat that counts what can be reclaimed
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available_bytes() -> int | None:
    """Bytes that can still be allocated: the smallest of MemAvailable, cgroup and address-space limits.

    None where the system does not say.
    """
    found = [*_mem_available(), *_cgroup_room(), *_address_space_room()]
    return max(0, min(found)) if found else None


def gigabytes(count: int) -> str:
    """Bytes for people: 3.02 GB, 12.4 MB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _mem_available() -> Iterator[int]:
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _cgroup_room() -> Iterator[int]:
    """Room under each limit between this process's group and the root, for both versions of cgroups."""
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            version, root = 2, _CGROUP
        elif "memory" in controllers.split(","):
            version, root = 1, _CGROUP / "memory"
        else:
            continue
        folder = root / group.strip("/")
        for place in (folder, *folder.parents):
            yield from _room_of_group(place, *_FILES[version])
            if place == root:
                break


def _room_of_group(folder: Path, limit_file: str, usage_file: str, reclaimable_key: str) -> Iterator[int]:
    limit, usage = (next(_lines(folder / name), "") for name in (limit_file, usage_file))
    if not limit.isdigit() or not usage.isdigit() or int(limit) >= 1 << 60:  # "max", or version 1's no limit
        return
    pairs = (line.split() for line in _lines(folder / "memory.stat"))
    reclaimable = sum(int(pair[1]) for pair in pairs if pair[0] == reclaimable_key)
    yield int(limit) - int(usage) + reclaimable


def _address_space_room() -> Iterator[int]:
    try:
        import resource  # not on Windows
    except ImportError:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = next(_lines(Path("/proc/self/statm")), "")
    if limit != resource.RLIM_INFINITY and pages:
        yield limit - int(pages.split()[0]) * resource.getpagesize()


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text().splitlines()
    except OSError:
        return
