"""An asset in use: its reader, its frames that are overdue, and how long it has been silent."""

import logging
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace

import numpy as np

from tomolive.errors import FileAccessError, UnknownLayoutError
from tomolive.files.announcements import Announcement, Asset
from tomolive.files.locate import Locator
from tomolive.files.readers.base import Array, BeingWrittenError, FrameReader, NotReadyError, Source
from tomolive.files.readers.handlers import HandlerReader
from tomolive.files.readers.registry import reader_for
from tomolive.files.waiting import Patience

log = logging.getLogger(__name__)

MOST_LOOKS = 10_000
"""So many frames one after the other that are not there, and no others behind them are looked for."""
_LOOKING = 10
"""Overdue frames are looked for in one part in so many of the time."""


class OpenAsset:
    """One asset in use.

    Parameters
    ----------
    asset
        As documents announced it.
    locator
        Says where it is.
    patience
        Seconds without a sign of life.
    empty
        Makes arrays to read into.
    block_bytes
        The most that one array may take.
    threads
        Threads that may decompress a block.
    """

    def __init__(
        self,
        asset: Asset,
        locator: Locator,
        *,
        patience: float,
        empty: Callable[[tuple[int, ...], np.dtype], Array],
        block_bytes: int,
        threads: int,
    ) -> None:
        self.asset = asset
        self.patience = Patience(patience)
        self.overdue: deque[Announcement] = deque()
        self.given_up = False
        """Whether the last wait was in vain; there is no other before the next sign of life."""
        self.told_exclusive = False
        self.reason = ""
        """Why frames were not there when last looked for."""
        self._exclusive_since: float | None = None
        self._next_look = self._cheap_from = 0.0
        self._locator = locator
        self._empty = empty
        self._block_bytes = block_bytes
        self._threads = threads
        self._reader: FrameReader | HandlerReader | None = None

    def read(self, part: Announcement) -> Array:
        """Look once; return the frames of ``part`` that are there from its first on, at least one.

        Raises
        ------
        NotReadyError
            if the first is not there yet.
        FileAccessError
            if waiting cannot help.
        """
        try:
            array = self._read(part)
        except NotReadyError as error:
            self.reason = str(error)
            exclusive = isinstance(error, BeingWrittenError)
            self._exclusive_since = (self._exclusive_since or time.monotonic()) if exclusive else None
            self.patience.look(self.sign_of_life(part))
            raise
        self._exclusive_since = None
        self.given_up = False
        self.patience.reset()
        return array

    @property
    def exclusive_for(self) -> float:
        """Seconds for which only the writer could open the file."""
        return time.monotonic() - self._exclusive_since if self._exclusive_since else 0.0

    def look_is_due(self) -> bool:
        """Whether overdue frames should be looked for now; more rarely the longer nothing happens."""
        now = time.monotonic()
        if now < max(self._next_look, self._cheap_from):
            return False
        self._next_look = now + self.patience.pause()
        return True

    def look_is_cheap(self) -> bool:
        """Whether the last look was so short that another one now holds nobody up."""
        return time.monotonic() >= self._cheap_from

    def keep_looking(self, part: Announcement) -> None:
        """Enter frames among those that are overdue."""
        _append(self.overdue, part)

    def sign_of_life(self, part: Announcement) -> Hashable:
        """Return something that differs once the detector has worked on the file of ``part``."""
        if self._reader is None or isinstance(self._reader, HandlerReader):
            return None
        try:
            return self._reader.sign_of_life(part.position)
        # As with `read`: a plug-in must not end the flow of documents.
        except Exception:
            log.exception("looking at %s failed", self.where)
            return None

    def look_again(
        self, block: Callable[[Announcement], int]
    ) -> Iterator[tuple[Announcement, Array | FileAccessError]]:
        """Yield what has come of the overdue frames, in order; ``block`` says how many to read at once."""
        waiting: deque[Announcement] = deque()
        begun, in_vain = time.monotonic(), 0
        try:
            while self.overdue and in_vain < MOST_LOOKS:
                part = self.overdue.popleft()
                try:
                    array = self.read(part.head(block(part)))
                except NotReadyError as error:
                    came = 1 if error.only and not part.whole else part.count
                    _append(waiting, part.head(came))
                    in_vain += 1
                    if not error.only:
                        break
                except FileAccessError as error:
                    came = part.count
                    yield part, error
                else:
                    in_vain = 0
                    came = part.count if part.whole else len(array)
                    yield part.head(came), array
                if part.count > came:
                    self.overdue.appendleft(part.rest(came))
        finally:
            if waiting and self.overdue:
                _append(waiting, self.overdue.popleft())
            self.overdue.extendleft(reversed(waiting))
            now = time.monotonic()
            self._cheap_from = now + (now - begun) * (_LOOKING - 1)

    def close(self) -> None:
        """Close the files."""
        reader, self._reader = self._reader, None
        if reader is None:
            return
        try:
            reader.close()
        except Exception:
            log.exception("closing %s failed", self.where)

    def _read(self, part: Announcement) -> Array:
        try:
            if self._reader is None:
                self._reader = self._make_reader()
            if isinstance(self._reader, HandlerReader):
                array = self._reader.read(part.datum_kwargs or {})
                return array.reshape(-1, *array.shape[-2:]) if array.ndim > 2 else array[np.newaxis]
            return self._reader.read(part.position, part.position + part.count)
        except (NotReadyError, FileAccessError):
            raise
        except FileNotFoundError as error:
            raise NotReadyError(f"{error.filename} is not there so far") from error
        except OSError as error:
            raise NotReadyError(f"{error.filename or self.where}: {error.strerror or error}") from error
        except ImportError as error:
            raise UnknownLayoutError(f"{self.where}: {error}; pip install 'tomolive[formats]'") from error
        # Readers are plug-ins; whatever is wrong with one must not end the flow of documents.
        except Exception as error:
            log.exception("reading %s failed", self.where)
            raise FileAccessError(f"{self.where}: {type(error).__name__}: {error}") from error

    @property
    def where(self) -> str:
        """The place as documents name it."""
        return self.asset.uri or f"{self.asset.root}/{self.asset.resource_path}"

    def _make_reader(self) -> FrameReader | HandlerReader:
        asset = self.asset
        path = (
            self._locator.map(asset.uri)
            if asset.uri
            else self._locator.map_resource(asset.root, asset.resource_path)
        )
        self._locator.confine(path, announced=self.where)
        source = Source(
            path, self._locator.confine, asset.parameters, self._empty, self._block_bytes, self._threads
        )
        return reader_for(asset.mimetype)(source) if asset.mimetype else HandlerReader(asset.spec, source)


def _append(queue: deque[Announcement], part: Announcement) -> None:
    """Append frames, as one part with those before them where they follow these in stream and file."""
    last = queue[-1] if queue else None
    if (
        last is not None
        and last.datum_kwargs is part.datum_kwargs is None
        and last.track == part.track
        and (last.first + last.count, last.position + last.count) == (part.first, part.position)
    ):
        queue[-1] = replace(last, count=last.count + part.count)
    else:
        queue.append(part)
