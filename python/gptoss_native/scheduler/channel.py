"""From the driver thread to one caller: a queue that a thread or a coroutine may read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from threading import current_thread, main_thread
from time import monotonic
from typing import Generic, TypeVar

Item = TypeVar("Item")

SIGNAL_SECONDS = 0.05
"""How often the main thread looks up from its wait: a signal that reached another thread does not wake it."""


class Channel(Generic[Item]):
    """Any thread may put, also from a signal handler or a destructor; one reader at a time."""

    def __init__(self) -> None:
        self._items: SimpleQueue[Item] = SimpleQueue()
        self._wake: Callable[[], object] | None = None  # the coroutine that waits; only the reader sets it

    def put(self, item: Item) -> None:
        self._items.put(item)
        wake = self._wake
        if wake is not None:
            try:
                wake()
            except RuntimeError:
                pass  # its event loop is closed: nobody waits any more

    def get(self, timeout: float | None) -> Item:
        """Wait for an item, seconds at most; TimeoutError then. Ctrl-C ends the wait of the main thread."""
        ends = None if timeout is None else monotonic() + timeout
        look = SIGNAL_SECONDS if current_thread() is main_thread() else None
        while True:
            left = None if ends is None else max(0.0, ends - monotonic())
            try:
                return self._items.get(timeout=left if look is None else look if left is None else min(left, look))
            except Empty:
                if left is not None and (look is None or left <= look):
                    raise TimeoutError from None

    async def aget(self, timeout: float | None) -> Item:
        """get() for a coroutine."""
        import asyncio  # here, so that importing the package does not pay for it

        loop = asyncio.get_running_loop()
        ends = None if timeout is None else loop.time() + timeout
        try:
            while True:
                arrived = asyncio.Event()
                self._wake = partial(loop.call_soon_threadsafe, arrived.set)
                try:
                    return self._items.get_nowait()  # after _wake was set: what comes later will wake us
                except Empty:
                    pass
                if ends is None:
                    await arrived.wait()
                    continue
                if loop.time() >= ends:
                    raise TimeoutError
                timer = loop.call_at(ends, arrived.set)
                try:  # not wait_for(), which before Python 3.12 loses a cancellation that comes with the item
                    await arrived.wait()
                finally:
                    timer.cancel()
        finally:
            self._wake = None
