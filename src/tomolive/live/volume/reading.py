"""A finished run is read: darks and flats first, then its projections, whose rows are then at hand.

Two passes over the documents, which cost little, so that references that were taken at the end of a scan, or
in another run, are known when the projections come. Corrections that need whole frames are made on the way;
those that do not are left to whoever reads the rows, since counts take half the room of line integrals.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.config import CorrectionSettings, FilesSettings
from tomolive.errors import ReconstructionError, ScanError
from tomolive.files.filler import Filler, Item
from tomolive.files.locate import Locator
from tomolive.live.beam import Brightness, without_beam_in_words
from tomolive.live.documents.references import UNUSABLE, References, averaged, check_frames
from tomolive.live.documents.rules import Rules
from tomolive.live.documents.run import Batch, Note, Scan
from tomolive.live.documents.scan import ScanReader
from tomolive.live.volume.in_place import RowsInPlace, find_rows
from tomolive.live.volume.rows import RowLayout, Rows
from tomolive.recon.binning import binned_shape
from tomolive.recon.flat_field import AnyField, FlatField, FlatSeries, flat_field
from tomolive.recon.pipeline import context_rows, correct_projections

Document = tuple[str, dict[str, Any]]
Fetch = Callable[[str], Iterable[Document]]

_AHEAD = 3
"""Blocks of frames that are read while others are being written."""


@dataclass(frozen=True)
class Reading:
    """How a run is to be read."""

    files: FilesSettings = field(default_factory=FilesSettings)
    corrections: CorrectionSettings = field(default_factory=CorrectionSettings)
    rules: Sequence[Rules] | None = None
    threads: int = 2
    camera: str | None = None
    """Data key; None: the camera that rules or start document name."""
    told: Callable[[int, int], object] = lambda _done, _total: None
    """Called with the projections that are read, and how many there are; may raise to end it."""
    in_place: Callable[[RowsInPlace], object] | None = None
    """Told of rows that stay in the files where they are; None: all are copied."""


@dataclass(eq=False)
class ScanRows:
    """The projections of a scan, turned by rows."""

    store: Rows
    scan: Scan
    corrected: bool
    """Whether the store holds line integrals; else counts, to be corrected with ``field``."""
    flat_field: AnyField
    angles: npt.NDArray[np.float64]
    """(frames,), radians."""
    present: npt.NDArray[np.bool_]
    """(frames,); False for a projection that no file holds, or that saw no beam."""
    without_beam: npt.NDArray[np.int64]
    """Numbers of the latter."""
    numbers: npt.NDArray[np.int64]
    """(frames,), of the projections within the scan."""
    darks: int
    """How many frames the correction was made of ..."""
    flats: int
    shape: tuple[int, int]
    """Rows and columns of a frame, before binning."""
    notes: list[str]


def understand(
    documents: Sequence[Document], rules: Sequence[Rules] | None, camera: str | None = None
) -> Scan:
    """Return what the documents of a run say of it.

    Raises
    ------
    ScanError
        if it is no tomography scan, or one that cannot be understood.
    """
    reader = ScanReader(rules, camera=camera)
    notes = [note for name, doc in documents for note in reader.document(name, doc)]
    uid = next((doc["uid"] for name, doc in documents if name == "start"), "")
    scan = reader.scan(uid)
    if scan is None:
        reasons = "; ".join(note.text for note in notes if isinstance(note, Note))
        raise ScanError(f"run {uid[:8]} cannot be reconstructed: {reasons or 'it has no start document'}")
    if scan.failure:
        raise ScanError(f"run {uid[:8]} cannot be reconstructed: {scan.failure}")
    return scan


def read_scan(
    documents: Sequence[Document],
    fetch: Fetch,
    make_store: Callable[[RowLayout], Rows],
    how: Reading,
    take: "Callable[..., Projections] | None" = None,
) -> ScanRows:
    """Read the run with these documents.

    Parameters
    ----------
    documents
        From its start to its stop document.
    fetch
        Returns the documents of another run, for darks and flats that were taken there.
    make_store
        Makes the store once the size of the projections is known.
    take
        Makes what takes the projections, out of what `Projections` is made of; default: that.

    Raises
    ------
    ScanError
        if it is no scan, or has no projections or angles.
    FileAccessError
        if no image can be read.
    """
    scan = understand(documents, how.rules, how.camera)
    found, notes, counts = _read_references(scan, documents, fetch, how)
    rows = (take or Projections)(scan, found, make_store, how, notes, documents)
    try:
        _take_projections(rows, documents, scan, how)
    except BaseException:
        rows.close()
        raise
    return rows.result(darks=counts["dark"], flats=counts["flat"])


def _take_projections(rows: "Projections", documents: Sequence[Document], scan: Scan, how: Reading) -> None:
    """Read the projections of a run, and have them taken by several threads."""
    reader = ScanReader(how.rules, camera=how.camera)
    with ThreadPoolExecutor(how.threads, thread_name_prefix="rows") as pool:
        pending: deque[Future[None]] = deque()
        for out in _batches(_images_last(documents, scan), how, reader, wanted={"projection"}):
            if isinstance(out, Note):
                _keep(rows.notes, out)
                continue
            rows.prepare(out)
            how.told(rows.done, rows.total)
            pending.append(pool.submit(rows.take, out))
            if len(pending) > _AHEAD + how.threads:
                pending.popleft().result()
        for future in pending:
            future.result()


def _read_references(
    scan: Scan, documents: Sequence[Document], fetch: Fetch, how: Reading
) -> tuple[References, list[str], Counter[str]]:
    """Read the darks and flats of a run, and of those that it names; count them by kind."""
    found, notes, counts = References(), [], Counter[str]()
    sources = [documents, *(list(fetch(uid)) for uid in scan.references)]
    for source in sources:
        reader = ScanReader(how.rules, camera=how.camera)
        for out in _batches(source, how, reader, wanted={"dark", "flat"}):
            if isinstance(out, Note):
                _keep(notes, out)
                continue
            of = reader.scan(out.run_uid)
            found.add(out, of.planned if of else None)
            counts[out.kind] += len(out.array)
    return found, notes, counts


def _keep(notes: list[str], note: Note) -> None:
    if note.problem and note.text not in notes:
        notes.append(note.text)


def _batches(
    documents: Iterable[Document], how: Reading, reader: ScanReader, wanted: set[str]
) -> Iterator[Batch | Note]:
    """Yield the frames of the wanted kinds, and what there is to say; other images are not read."""
    roots = how.files.roots or how.files.mounts.values()
    filler = Filler(
        Locator(how.files.mounts, roots),
        patience=how.files.patience_s,
        memory=how.files.memory_mb * 1_000_000,
        threads=how.files.threads,
    )
    try:
        for name, doc in documents:
            plain: Iterable[Item] = [("document", name, doc)]
            for item in filler.process(name, doc) if _is_wanted(reader, doc, wanted) else plain:
                if item[0] == "document":
                    outs = reader.document(item[1], item[2])
                else:
                    outs = reader.frames(item[1]) if item[0] == "frames" else reader.missing(item[1])
                yield from (out for out in outs if isinstance(out, Note) or out.kind in wanted)
            if name == "stop":
                # what is said of kinds that were not asked for is not true
                own = "projection" if "projection" in wanted else None
                for out in reader.close(doc["run_start"]):
                    if own is None or (isinstance(out, Batch) and out.kind == own):
                        yield out
    finally:
        filler.close()


def _is_wanted(reader: ScanReader, doc: dict[str, Any], wanted: set[str]) -> bool:
    """Whether what a document may announce is to be read; what other cameras see is not."""
    if "descriptor" not in doc:
        return True
    scan = reader.scan_of(doc["descriptor"])
    stream = scan.streams.get(doc["descriptor"]) if scan else None
    if scan is None or stream is None:
        return False
    if "stream_resource" in doc:
        data_key = scan.data_keys.get(doc["stream_resource"], stream.image_key)
        if data_key != stream.image_key and data_key not in stream.columns:
            return False
    return stream.kind is None or stream.kind in wanted


def _images_last(documents: Sequence[Document], scan: Scan) -> list[Document]:
    """Sort so that angles are known before the images come: a catalog announces a whole stream at once."""
    images = {uid for uid, key in scan.data_keys.items() if key == scan.camera}
    streams = set(scan.streams)

    def rank(document: Document) -> int:
        name, doc = document
        if name in ("start", "descriptor"):
            return 0
        if name in ("resource", "stream_resource", "datum", "datum_page"):
            return 1
        if name == "stop":
            return 4
        if name == "stream_datum":
            return 3 if doc["stream_resource"] in images else 2
        has_images = doc.get("descriptor") in streams and scan.camera in doc.get("data", ())
        return 3 if has_images else 2

    return sorted(documents, key=rank)


class Projections:
    """Puts projections into a store; `take` may be called by several threads at once."""

    def __init__(
        self,
        scan: Scan,
        found: References,
        make_store: Callable[[RowLayout], Rows],
        how: Reading,
        notes: list[str],
        documents: Sequence[Document] = (),
    ) -> None:
        self._documents = documents
        self._scan, self._found, self._make_store, self._how = scan, found, make_store, how
        self.notes = notes
        ranges = list(scan.announced)
        self._firsts = np.array([first for first, _ in ranges], np.int64)
        self._places = np.concatenate([[0], np.cumsum([last - first for first, last in ranges])]).astype(int)
        self.total = int(self._places[-1])
        self.done = 0
        self._angles = np.full(self.total, np.nan)
        self._present = np.zeros(self.total, bool)
        self._store: Rows | None = None
        self._field: AnyField | None = None
        self._brightness = Brightness()
        self._plain_field: FlatField | None = None
        self._dtype = np.dtype("u2")
        self._shape = (0, 0)
        # What needs whole frames is done here; a binned frame of line integrals is smaller than the counts.
        context = context_rows(how.corrections)
        self._corrected = context is None or how.corrections.binning > 1
        self._context = 0 if self._corrected else context or 0

    def prepare(self, batch: Batch) -> None:
        """Count a batch; of the first one, see what kind of frames they are."""
        if batch.angles is None:
            raise ScanError("the angles of its projections are not in its documents")
        self.done += len(batch.array)
        self._brightness.add(batch.first, batch.array)
        if self._store is not None:
            return
        self._shape, self._dtype = batch.array.shape[1:], batch.array.dtype
        self._correct_with_references(batch.array[0])
        layout = self._layout()
        if self._how.in_place is not None and not self._corrected:
            self._store = find_rows(self._documents, self._scan, self._how.files, layout, self._numbers)
            if self._store is not None:
                self._how.in_place(self._store)
                return
        self._store = self._make_store(layout)

    def _correct_with_references(self, first: npt.NDArray[np.generic]) -> None:
        """See what corrects the projections, of which ``first`` is one; the live slices come to the same."""
        runs = (self._scan.run_uid, *self._scan.references)
        darks, (flats, times, shut) = self._found.dark(runs), self._found.lit_flats(runs)
        try:
            check_frames(darks, flats, first.shape)
            self._field, assumed = averaged(darks, flats, times, self._how.corrections, first)
            # as the live reconstruction sees how bright a projection is
            self._plain_field = flat_field(np.concatenate(flats), darks) if flats else None
            self.notes += shut
        except ReconstructionError as error:
            self.notes.append(UNUSABLE.format(error))
            self._field, assumed = averaged(None, [], None, self._how.corrections, first)
        self.notes += assumed

    @property
    def _numbers(self) -> npt.NDArray[np.int64]:
        """Numbers of all projections that were announced."""
        every = [np.arange(first, last) for first, last in self._scan.announced]
        return np.concatenate([np.empty(0, np.int64), *every])

    def _layout(self) -> RowLayout:
        rows, columns = binned_shape(self._shape, self._how.corrections.binning)
        dtype = np.dtype("<f4") if self._corrected else self._dtype.newbyteorder("<")
        return RowLayout(self.total, rows, columns, dtype.str, self._context)

    def _frames(self, batch: Batch) -> npt.NDArray[np.generic]:
        """Return what is kept of a batch."""
        return self._corrected_frames(batch, self._how.corrections) if self._corrected else batch.array

    def _corrected_frames(self, batch: Batch, corrections: CorrectionSettings) -> npt.NDArray[np.float32]:
        assert self._field is not None  # noqa: S101  prepare has made it
        numbers = batch.first + np.arange(len(batch.array))
        times = numbers if isinstance(self._field, FlatSeries) else None
        return correct_projections(batch.array, self._field, corrections, times=times, threads=1)

    def take(self, batch: Batch) -> None:
        """Write a batch, corrected if that needs whole frames."""
        assert self._store is not None  # noqa: S101  prepare has made it
        assert self._field is not None  # noqa: S101
        assert batch.angles is not None  # noqa: S101
        if batch.array.shape[1:] != self._shape or not np.can_cast(batch.array.dtype, self._dtype, "safe"):
            raise ReconstructionError(
                f"projections of {batch.array.shape[1:]} pixels, {batch.array.dtype}, follow others of "
                f"{self._shape}, {self._dtype}"
            )
        part = np.searchsorted(self._firsts, batch.first, side="right") - 1
        place = int(self._places[part] + batch.first - self._firsts[part])
        frames = self._frames(batch)
        self._put(self._store, place, frames)
        self._angles[place : place + len(frames)] = batch.angles
        self._present[place : place + len(frames)] = True

    def _put(self, store: Rows, place: int, frames: npt.NDArray[np.generic]) -> None:
        store.write(place, frames)

    def result(self, *, darks: int, flats: int) -> ScanRows:
        """Return what has been read."""
        numbers = self._numbers
        dark = self._brightness.without_beam(self._plain_field, self._how.corrections.least_beam)
        self.notes += without_beam_in_words(dark)
        present = self._present & np.isfinite(self._angles) & ~np.isin(numbers, dark)
        if self._store is None or self._field is None or present.sum() < 2:
            self.close()
            why = "; ".join(self.notes) or "its documents announce none"
            raise ScanError(
                f"run {self._scan.run_uid[:8]} has no two projections that can be reconstructed: {why}"
            )
        return ScanRows(
            self._store,
            self._scan,
            self._corrected,
            self._field,
            self._angles,
            present,
            dark,
            numbers,
            darks,
            flats,
            (self._shape[0], self._shape[1]),
            self.notes,
        )

    def close(self) -> None:
        """Let go of what has been read."""
        if self._store is not None:
            self._store.close()
