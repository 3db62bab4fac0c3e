"""Documents in -> the same documents with arrays, and the frames that they announce."""

import logging
import threading
from collections.abc import Iterator
from typing import Any, Literal, cast

from event_model import EventPage, unpack_event_page

from tomolive.errors import FileAccessError
from tomolive.files.announcements import Announcement, Announcements, Asset, Track, merge
from tomolive.files.assets import MOST_LOOKS, OpenAsset
from tomolive.files.event_image import EventImage
from tomolive.files.frames import Frames, MissingFrames
from tomolive.files.locate import Locator
from tomolive.files.pool import FramePool
from tomolive.files.readers.base import Array, BeingWrittenError, NotReadyError
from tomolive.files.waiting import Patience
from tomolive.metrics import BYTES_READ, FRAMES_LATE, FRAMES_MISSING, FRAMES_READ

log = logging.getLogger(__name__)

Document = dict[str, Any]
Item = (
    tuple[Literal["document"], str, Document]
    | tuple[Literal["frames"], Frames]
    | tuple[Literal["missing"], MissingFrames]
)

_MOST_RUNS = 64
_MOST_FILES = 32
_EXCLUSIVE_S = 1.0
"""A file that only its writer can open for so long is not one that is just being made ready for readers."""


class Filler:
    """Adds to a stream of documents what their files hold.

    For a ``stream_datum`` the document comes first, then its frames, in blocks that memory allows. With
    ``fill_events``, events come with arrays in them: one frame an event as (rows, columns), several as
    (n, rows, columns), in both styles of documents and whether or not the descriptor's shape has a leading 1.
    An event whose frames did not come passes unfilled (``filled[key]`` is False), after the word that they
    are missing.

    Frames that do not come in time are reported, neighbours at once, and still looked for (behind 10,000 that
    are not there no others are, before one of these comes): whenever a document comes, and before
    the run's stop document, which is held back until they have come or a grace period without a
    sign of life is over.

    Parameters
    ----------
    locator
        Says where files are and which may be opened.
    patience
        Seconds without a sign of life after which frames are missing; also the grace period.
    fill_events
        Put arrays into events. An array that is bigger than a quarter of ``memory`` lies in a file without a
        name in the system's temporary folder.
    frames
        Yield `Frames`.
    memory
        Bytes of frames in flight; one block takes at most a quarter.
    threads
        Threads that decompress a block; 1 leaves that to HDF5.
    """

    def __init__(
        self,
        locator: Locator,
        *,
        patience: float = 10.0,
        fill_events: bool = False,
        frames: bool = True,
        memory: int = 512_000_000,
        threads: int = 2,
    ) -> None:
        self._locator = locator
        self._seconds = patience
        self._fill_events = fill_events
        self._frames = frames
        self._block_bytes = memory // 4
        self._pool = FramePool(keep=memory // 2)
        self._threads = threads
        self._announcements = Announcements()
        self._open: dict[str, OpenAsset] = {}
        self._recent: dict[tuple[str, str], Frames] = {}
        self._stopped = threading.Event()
        self.interrupted = False
        """Whether `stop` came while something of the last document was still to be passed on."""

    def process(self, name: str, doc: Document) -> Iterator[Item]:
        """Yield what is to be passed on for one document; may wait for files.

        Documents are never changed in place. Once `stop` was called the iterator may end early;
        `interrupted` then says that the document was not passed on completely and must not be acknowledged.
        """
        yield from self.poll()
        match name:
            case "stream_datum":
                yield "document", name, doc
                for announced in self._announcements.take(name, doc):
                    if self._frames:
                        yield from self._deliver(announced)
            case "event":
                yield from self._event(doc)
            case "event_page" if self._announcements.has_images(str(doc.get("descriptor"))):
                # One by one, so that a page of images need not fit into memory.
                for event in unpack_event_page(cast(EventPage, doc)):
                    yield from self._event(event)
            case "stop":
                yield from self._finish(str(doc.get("run_start")), grace=Patience(self._seconds))
                if self._stopped.is_set():
                    self.interrupted = True
                    return
                yield "document", name, doc
            case "start":
                yield from self._forget_old_runs()
                self._announcements.take(name, doc)
                yield "document", name, doc
            case _:
                self._announcements.take(name, doc)
                yield "document", name, doc

    def poll(self) -> Iterator[Item]:
        """Yield overdue frames that have come; call it now and then while no documents come."""
        for opened in list(self._open.values()):
            if opened.overdue and opened.look_is_due():
                yield from self._look_again(opened)

    def stop(self) -> None:
        """End any wait, from any thread."""
        self._stopped.set()

    def close(self) -> None:
        """End any wait and close all files; call it from the thread that processes."""
        self.stop()
        for opened in self._open.values():
            opened.close()
        self._open.clear()
        self._recent.clear()

    def _event(self, doc: Document) -> Iterator[Item]:
        images = self._announcements.take("event", doc)
        if not self._fill_events:
            yield "document", "event", doc
            for image in images:
                if self._frames and image.datum_kwargs is not None:
                    yield from self._deliver(image)
            return
        found = [EventImage(image, self._block_bytes) for image in images]
        for image in found:
            for item in self._frames_of_event(image.announced):
                if item[0] == "frames":
                    image.add(item[1])
                else:
                    yield item
        if self._stopped.is_set():
            self.interrupted = True
            return
        for image in found:
            if image.problem and not self._frames:
                yield _missing(image.announced, image.problem, final=True)
        yield "document", "event", _filled(doc, found)
        for image in found:
            if self._frames and image.announced.datum_kwargs is not None:
                for block in image.blocks():
                    yield "frames", block

    def _frames_of_event(self, image: Announcement) -> Iterator[Item]:
        if image.datum_kwargs is None and self._frames:
            # They were delivered, or reported missing, when their stream_datum came.
            recent = self._recent.get((image.track.descriptor_uid, image.track.data_key))
            if (
                recent is not None
                and recent.first <= image.first
                and image.first + image.count <= recent.last
            ):
                offset = image.first - recent.first
                yield "frames", _frames(image.track, image.first, recent.array[offset : offset + image.count])
                return
            if image.asset and self._is_overdue(image):
                return
        yield from self._deliver(image, insist=True)

    def _is_overdue(self, image: Announcement) -> bool:
        opened = image.asset and self._open.get(image.asset.uid)
        return bool(opened) and any(
            image.track == late.track and image.overlaps(late) for late in opened.overdue
        )

    def _deliver(self, announced: Announcement, insist: bool = False) -> Iterator[Item]:
        """Yield frames as they come, and the word that they are missing where they do not.

        ``insist``: wait also for a file that only its writer can open, since nobody can use the frames later.
        """
        if announced.asset is None:
            yield _missing(announced, announced.problem, final=True)
            return
        opened = self._opened(announced.asset)
        if opened.overdue and opened.look_is_cheap():
            yield from self._look_again(opened)
        part = announced
        late: list[Announcement] = []
        reason = ""
        while part.count and not self._stopped.is_set():
            try:
                array = self._wait_for(opened, part.head(self._block(part)), insist)
            except BeingWrittenError as error:
                yield from self._report(late, reason)
                late = []
                if not opened.told_exclusive:
                    opened.told_exclusive = True
                    yield _missing(part, str(error), final=False)
                    continue
                yield from self._give_up(opened, part, error)
                return
            except NotReadyError as error:
                if self._stopped.is_set():
                    break
                one = error.only and not part.whole and len(late) < MOST_LOOKS
                late.append(part.head(1) if one else part)
                reason = reason or str(error)
                opened.given_up = True
                if self._frames:
                    opened.keep_looking(late[-1])
                part = part.rest(late[-1].count)
            except FileAccessError as error:
                yield from self._report(late, reason)
                yield _missing(part, str(error), final=True)
                return
            else:
                yield from self._report(late, reason)
                late, reason = [], ""
                yield self._hand_out(part, array)
                part = part.rest(part.count if part.whole else len(array))
        yield from self._report(late, reason)
        self.interrupted |= bool(part.count)

    def _report(self, late: list[Announcement], reason: str) -> Iterator[Item]:
        for part in merge(late):
            yield _missing(part, reason, final=not self._frames)

    def _give_up(self, opened: OpenAsset, late: Announcement, error: NotReadyError) -> Iterator[Item]:
        """Report frames that have not come; they are still looked for if someone can use them later."""
        if self._stopped.is_set():
            self.interrupted = True
            return
        opened.given_up = True
        look_on = self._frames
        if look_on:
            opened.keep_looking(late)
        if not (isinstance(error, BeingWrittenError) and look_on):
            yield _missing(late, str(error), final=not look_on)

    def _wait_for(self, opened: OpenAsset, part: Announcement, insist: bool) -> Array:
        """Return what is there of ``part``, at least one frame, as soon as that is.

        Raises
        ------
        NotReadyError
            if patience is exhausted.
        FileAccessError
            if waiting cannot help.
        """
        while True:
            try:
                return opened.read(part)
            except BeingWrittenError:
                impatient = opened.exclusive_for > _EXCLUSIVE_S and not (insist and opened.told_exclusive)
                if impatient or opened.patience.exhausted or self._stopped.is_set():
                    raise
            except NotReadyError:
                # While frames of this file are overdue, others need not be waited for one after the other.
                if opened.overdue or opened.patience.exhausted or self._stopped.is_set():
                    raise
            self._stopped.wait(opened.patience.pause())

    def _hand_out(self, part: Announcement, array: Array) -> Item:
        frames = _frames(part.track, part.first, array)
        FRAMES_READ.inc(len(array))
        BYTES_READ.inc(array.nbytes)
        if self._fill_events:
            self._recent[part.track.descriptor_uid, part.track.data_key] = frames
        return "frames", frames

    def _look_again(self, opened: OpenAsset) -> Iterator[Item]:
        for part, came in opened.look_again(self._block):
            if isinstance(came, FileAccessError):
                yield _missing(part, str(came), final=True)
            else:
                yield self._hand_out(part, came)

    def _forget_old_runs(self) -> Iterator[Item]:
        """Drop runs that have never stopped, such as those of a RunEngine that was killed."""
        for run_uid in self._announcements.run_uids[:-_MOST_RUNS]:
            yield from self._finish(run_uid, grace=Patience(0))

    def _finish(self, run_uid: str, grace: Patience) -> Iterator[Item]:
        """Wait for what is overdue in a run that has ended, say what will never come, close its files."""
        mine = [opened for opened in self._open.values() if opened.asset.run_uid == run_uid]
        while any(opened.overdue for opened in mine) and not self._stopped.is_set():
            for opened in mine:
                yield from self._look_again(opened)
            grace.look(tuple((len(o.overdue), o.sign_of_life(o.overdue[0])) for o in mine if o.overdue))
            if grace.exhausted:
                break
            self._stopped.wait(grace.pause())
        if self._stopped.is_set():
            return
        for opened in mine:
            for late in merge(opened.overdue):
                yield _missing(late, opened.reason, final=True)
            opened.close()
            del self._open[opened.asset.uid]
        for track in [track for track in self._recent if self._recent[track].run_uid == run_uid]:
            del self._recent[track]
        self._announcements.forget(run_uid)

    def _opened(self, asset: Asset) -> OpenAsset:
        opened = self._open.pop(asset.uid, None) or OpenAsset(
            asset,
            self._locator,
            patience=self._seconds,
            empty=self._pool.empty,
            block_bytes=self._block_bytes,
            threads=self._threads,
        )
        # Newest last. Runs with a file for each point would otherwise run out of open files.
        self._open[asset.uid] = opened
        for old in list(self._open.values())[-_MOST_FILES - 1 : -_MOST_FILES]:
            old.close()
        if not opened.given_up:
            opened.patience.reset()
        return opened

    def _block(self, part: Announcement) -> int:
        """Return how many frames of ``part`` to read at once."""
        return min(part.count, max(self._block_bytes // part.track.frame_bytes, 1))


def _frames(track: Track, first: int, array: Array) -> Frames:
    return Frames(track.run_uid, track.stream, track.descriptor_uid, track.data_key, first, array)


def _missing(part: Announcement, reason: str, *, final: bool) -> Item:
    (FRAMES_MISSING if final else FRAMES_LATE).inc(part.count)
    track = part.track
    last = part.first + part.count
    return "missing", MissingFrames(
        track.run_uid, track.stream, track.descriptor_uid, track.data_key, part.first, last, reason, final
    )


def _filled(doc: Document, found: list[EventImage]) -> Document:
    """Return a copy of an event with the images that were found in it."""
    doc = {
        **doc,
        "data": dict(doc["data"]),
        "timestamps": dict(doc["timestamps"]),
        "filled": dict(doc.get("filled", {})),
    }
    for image in found:
        key = image.announced.track.data_key
        doc["filled"][key] = image.complete
        if image.complete:
            doc["data"][key] = image.value()
            doc["timestamps"].setdefault(key, doc["time"])
    return doc
