"""An event loop in a thread, for clients that are asynchronous."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

_PARTING_SECONDS = 0.02


class LoopThread:
    """Runs coroutines for other threads; it goes on while these are busy, so that the broker hears of us."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def submit(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Start ``work`` and return at once."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, Any], timeout: float) -> Any:
        """Return the result of ``work``.

        Raises
        ------
        TimeoutError
            if it takes longer than ``timeout`` seconds; it is cancelled then.
        """
        return self.submit(asyncio.wait_for(work, timeout)).result()

    def close(self) -> None:
        """End the loop with whatever it still does."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.create_task, self._wind_up())
            self._thread.join()

    async def _wind_up(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(_PARTING_SECONDS)  # connections that were closed say good-bye
        self._loop.stop()
