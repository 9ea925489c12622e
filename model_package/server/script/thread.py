"""A thread that reads requests and writes responses, beside those for images and for HTTP."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any

_Work = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class ScriptThread(threading.Thread):
    """Runs the script's short functions, one after another.

    Encoding a picture takes up to a tenth of a second, which would delay /ping in the thread of
    HTTP, and the GPU in that of the worker. A daemon: an executor's threads would keep the process
    from ending. Another one does what has to wait for a network.
    """

    def __init__(self, name: str) -> None:
        super().__init__(daemon=True, name=name)
        self._work: queue.SimpleQueue[_Work] = queue.SimpleQueue()

    async def call(self, function: Callable[[], Any]) -> Any:
        """Return what a function returns in the thread; raises what it raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._work.put((function, loop, future))
        return await future

    def run(self) -> None:
        while True:
            function, loop, future = self._work.get()
            try:
                result, error = function(), None
            except Exception as raised:  # noqa: BLE001 - for whoever awaits it
                result, error = None, raised
            loop.call_soon_threadsafe(_set, future, result, error)


def _set(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():  # whoever awaited it was cancelled
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
