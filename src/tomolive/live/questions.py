"""Questions about a scan that take a while, answered beside the reconstruction by a thread of its own.

A question holds arrays of its own, so that the reconstruction goes on; what comes of the answer is up to the
thread that asked. What is asked again before it is answered is worked out once more, for all who asked.
"""

import logging
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Asked:
    future: Future[Any]
    answered: tuple[Callable[[Any], None], ...]


class Questions:
    """One thread for questions, first come, first served; only the thread that asks may call its methods.

    A question has a name, and is about a scan, or whatever else can be told from others.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="questions")
        self._asked: dict[tuple[str, Hashable], _Asked] = {}

    def ask(
        self, name: str, about: Hashable, question: Callable[[], Any], answered: Callable[[Any], None]
    ) -> None:
        """Ask something; `poll` calls ``answered`` with the answer.

        Whoever still waits for an older answer to the same gets this one.
        """
        waiting: tuple[Callable[[Any], None], ...] = ()
        if older := self._asked.get((name, about)):
            older.future.cancel()
            waiting = older.answered
        self._asked[name, about] = _Asked(self._pool.submit(question), (*waiting, answered))

    def asks(self, name: str, about: Hashable) -> bool:
        """Whether this question waits for its answer."""
        return (name, about) in self._asked

    def poll(self) -> bool:
        """Hand out the answers that there are; return whether there were any."""
        done = [key for key, asked in self._asked.items() if asked.future.done()]
        for key in done:
            self._hand_out(key)
        return bool(done)

    def wait(self, name: str, about: Hashable) -> None:
        """Wait for an answer, and hand it out."""
        if (name, about) in self._asked:
            self._hand_out((name, about))

    def close(self) -> None:
        """Forget all questions, and end the thread."""
        self._asked.clear()
        self._pool.shutdown(cancel_futures=True)

    def _hand_out(self, key: tuple[str, Hashable]) -> None:
        try:
            answer = self._asked[key].future.result()
        except Exception:
            # The reconstruction is right without it.
            log.exception("%s could not be worked out", key[0])
            answer = None
        for answered in self._asked.pop(key).answered:
            answered(answer)
