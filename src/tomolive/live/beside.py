"""Questions about a scan that take a while, answered beside the reconstruction by a thread of its own.

A question holds arrays of its own, so that the reconstruction goes on; what comes of the answer is up to the
thread that asked. Of questions with one name only the newest is answered.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Asked:
    about: Any
    future: Future[Any]
    answered: Callable[[Any], None]


class Beside:
    """One thread for questions, first come, first served; only the thread that asks may call its methods."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="beside")
        self._asked: dict[str, _Asked] = {}

    def ask(
        self, name: str, about: Any, question: Callable[[], Any], answered: Callable[[Any], None]
    ) -> None:
        """Ask something about a scan; `poll` calls ``answered`` with the answer.

        An older question of this name that is not answered yet is forgotten.
        """
        self.forget(name)
        self._asked[name] = _Asked(about, self._pool.submit(question), answered)

    def forget(self, name: str) -> None:
        """Take back a question: its answer is not wanted any more."""
        if old := self._asked.pop(name, None):
            old.future.cancel()

    def asks(self, name: str, about: Any = None) -> bool:
        """Whether a question of this name, about this scan if one is given, waits for its answer."""
        asked = self._asked.get(name)
        return asked is not None and (about is None or asked.about is about)

    def poll(self) -> bool:
        """Hand out the answers that there are; return whether there were any."""
        done = [name for name, asked in self._asked.items() if asked.future.done()]
        for name in done:
            self._hand_out(name)
        return bool(done)

    def wait(self, name: str) -> None:
        """Wait for an answer, and hand it out."""
        if name in self._asked:
            self._hand_out(name)

    def close(self) -> None:
        """Forget all questions, and end the thread."""
        for name in list(self._asked):
            self.forget(name)
        self._pool.shutdown(cancel_futures=True)

    def _hand_out(self, name: str) -> None:
        asked = self._asked[name]
        try:
            answer = asked.future.result()
        except Exception:
            # The reconstruction is right without it.
            log.exception("%s could not be worked out", name)
            answer = None
        del self._asked[name]
        asked.answered(answer)
