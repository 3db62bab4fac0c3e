"""Logging that a peer cannot flood."""

import logging


class SparingFilter(logging.Filter):
    """Lets a burst of lines pass, then a few each second, and says how many it held back."""

    def __init__(self, burst: int = 20, per_second: float = 5.0) -> None:
        super().__init__()
        self._burst, self._per_second = burst, per_second
        self._left, self._seen, self._held_back = float(burst), 0.0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide about one line."""
        self._left = min(self._burst, self._left + (record.created - self._seen) * self._per_second)
        self._seen = record.created
        if self._left < 1:
            self._held_back += 1
            return False
        self._left -= 1
        if self._held_back:
            record.msg = f"{record.msg} (and {self._held_back} lines before were not shown)"
            self._held_back = 0
        return True
