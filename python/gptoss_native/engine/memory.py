"""How much memory there is, and what a model's cache will take: asked before anything large is allocated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from gptoss_native.config.config import Config
from gptoss_native.errors import OutOfMemory

PAGE_TOKENS = 64
"""Tokens of one page of the KV cache."""
ROLLBACK_RESERVE = 64
"""Tokens that sliding layers keep behind their window."""

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


def kv_bytes(config: Config, kv_dtype: str, max_context: int, max_tokens: int) -> int:
    """Bytes of one sequence's KV cache, as the CPU device allocates it.

    A page holds 64 tokens for all layers of one kind, full or sliding. Full layers have pages for `max_context`;
    sliding ones for the window, the reserve and one step of `max_tokens`, which may begin and end inside a page.
    Values are padded to 16 elements per head.
    """
    full = sum(kind == "full_attention" for kind in config.layer_types)
    sliding = config.num_hidden_layers - full
    context_pages = _pages(max_context)
    window_pages = min(context_pages, _pages(config.sliding_window + ROLLBACK_RESERVE + max_tokens) + 1)
    pages = (context_pages if full else 0) + (window_pages if sliding else 0)
    per_token = config.num_key_value_heads * (config.head_dim + -(-config.head_dim // 16) * 16)
    return pages * max(full, sliding) * PAGE_TOKENS * per_token * (4 if kv_dtype == "f32" else 2)


def expert_bytes(config: Config) -> int:
    """Bytes of all experts in MXFP4: 17 bytes for 32 weights."""
    weights = 3 * config.intermediate_size * config.hidden_size * config.num_local_experts
    return weights * config.num_hidden_layers * 17 // 32


def check_fits(config: Config, kv_dtype: str, max_context: int, max_tokens: int, planned: Mapping[str, int],
               copied_weights: int) -> None:
    """Raise OutOfMemory, with figures and what would fit, when there is no room.

    planned: what the device will allocate, bytes by class; of these, "kv" depends on max_context.
    copied_weights: bytes of weights that do not stay in the mapped files.
    """
    available = available_bytes()
    needed = sum(planned.values()) + copied_weights
    if available is None or needed <= available:
        return
    classes = dict(planned) | ({"quantised experts": copied_weights} if copied_weights else {})
    figures = ", ".join(f"{gigabytes(count)} of {name}" for name, count in classes.items())
    room = available - (needed - planned["kv"])
    raise OutOfMemory(
        f"max_context={max_context} with kv_dtype={kv_dtype!r} needs {gigabytes(needed)} ({figures}), but "
        f"{gigabytes(available)} are available; {_what_fits(config, kv_dtype, max_context, max_tokens, room)}")


def _what_fits(config: Config, kv_dtype: str, max_context: int, max_tokens: int, room: int) -> str:
    fitting = 0
    step = 1 << max(0, max_context.bit_length() - 1)
    while step:  # the largest context below max_context, one bit at a time
        tried = fitting + step
        if tried < max_context and kv_bytes(config, kv_dtype, tried, max_tokens) <= room:
            fitting = tried
        step //= 2
    if fitting == 0:
        return "no context fits: free some memory or raise the limit of this process"
    smaller_dtype = ", and about twice as much with kv_dtype='bf16'" if kv_dtype == "f32" else ""
    return f"max_context={fitting} would fit{smaller_dtype}"


def gigabytes(count: int) -> str:
    """Bytes for people: 3.02 GB, 12.4 MB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _pages(tokens: int) -> int:
    return -(-tokens // PAGE_TOKENS)


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
