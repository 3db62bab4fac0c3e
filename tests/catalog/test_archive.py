"""Runs in the catalog as standard tools see them: during the run, after it and after an abort."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np
import pytest

from tomolive.catalog.archive import Archive

ROWS, COLUMNS = 5, 7
ASYNC_IMAGE = {"shape": [1, ROWS, COLUMNS], "external": "STREAM:"}
CLASSIC_IMAGE = {"shape": [1, ROWS, COLUMNS], "external": "FILESTORE:"}
NUMBER = {"source": "sim", "dtype": "number", "shape": []}
on_both_databases = pytest.mark.parametrize(
    "catalog_server", ["server", "postgresql_server"], ids=["sqlite", "postgresql"], indirect=True
)


@pytest.fixture
def archive(client: Any) -> Iterator[Archive]:
    """An archive that writes ten times a second."""
    archive = Archive(client, interval=0.1)
    yield archive
    archive.close()


def put(archive: Archive, documents: list[tuple[str, dict[str, Any]]]) -> None:
    """Give the archive documents."""
    for name, doc in documents:
        archive(name, doc)


def frame_numbers(node: Any) -> list[int]:
    """Return the numbers of the frames in ``node``: each frame holds its number in the file, plus one."""
    # By number: Tiled refuses the whole of an array that has grown since its client last looked.
    images = node[: node.shape[0]]
    assert images.shape[1:] == (ROWS, COLUMNS)
    np.testing.assert_array_equal(images, np.broadcast_to(images[:, :1, :1], images.shape))
    return (images[:, 0, 0].astype(int) - 1).tolist()


def eventually(read: Callable[[], Any], timeout: float = 60.0) -> Any:
    """Return what ``read`` returns, once it returns something and does not fail."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            if (value := read()) is not None:
                return value
            failure = None
        except (KeyError, RuntimeError) as error:
            failure = error
        assert time.monotonic() < deadline, failure
        time.sleep(0.05)


def tomography(scan: type, style: str) -> Any:
    """Return a scan of one detector, staged once, over darks, flats, projections and flats again."""
    run = scan(30)
    image = ASYNC_IMAGE if style == "async" else CLASSIC_IMAGE
    descriptors = {
        name: run.descriptor(name, image, angle=NUMBER) for name in ("darks", "flats", "projections")
    }
    resource = run.stream_resource() if style == "async" else run.resource()
    first = 0
    for stream, frames in (("darks", 4), ("flats", 5), ("projections", 12), ("flats", 3)):
        for frame in range(first, first + frames):
            if style == "async":
                run.stream_datum(resource, descriptors[stream], frame, frame + 1)
            else:
                run.event(descriptors[stream], det=run.datum(resource, frame), angle=frame / 2)
        first += frames
    run.stop()
    return run


@on_both_databases
@pytest.mark.parametrize("style", ["async", "classic"])
def test_one_detector_over_several_streams(style: str, archive: Archive, client: Any, scan: type) -> None:
    """Each stream holds its own frames, also one that comes back after another."""
    run = tomography(scan, style)
    put(archive, run.documents)
    stored = client[run.uid]
    assert frame_numbers(stored["darks"]["det"]) == list(range(4))
    assert frame_numbers(stored["flats"]["det"]) == [*range(4, 9), *range(21, 24)]
    assert frame_numbers(stored["projections"]["det"]) == list(range(9, 21))


@pytest.mark.parametrize("style", ["async", "classic"])
def test_validation_changes_nothing(style: str, archive: Archive, client: Any, scan: type) -> None:
    """run.validate() is content, and changes no frame; run.documents() are those of a run."""
    run = tomography(scan, style)
    put(archive, run.documents)
    assert client[run.uid].validate()
    stored = client[run.uid]
    assert frame_numbers(stored["flats"]["det"]) == [*range(4, 9), *range(21, 24)]
    names = [name for name, _ in stored.documents()]
    assert (names[0], names[-1]) == ("start", "stop")
    assert names.count("descriptor") == 3
    assert names.count("event") == (24 if style == "classic" else 0)


def test_numbers_of_one_stream_keep_their_values(archive: Archive, client: Any, scan: type) -> None:
    """A motor that begins at the integer 0 and goes on with fractions is stored as it was."""
    run = scan(1)
    descriptor = run.descriptor(
        "primary", motor=NUMBER, name={"source": "sim", "dtype": "string", "shape": []}
    )
    put(archive, run.documents)
    positions = [0, 1, 0.5, 2]
    for position in positions:
        before = len(run.documents)
        run.event(descriptor, motor=position, name=f"at {position}")
        put(archive, run.documents[before:])
        time.sleep(0.15)  # so that each comes in a batch of its own
    run.stop()
    put(archive, run.documents[-1:])
    stored = client[run.uid]["primary"]
    assert stored["motor"].read().tolist() == positions
    assert stored["seq_num"].read().tolist() == [1, 2, 3, 4]


@on_both_databases
def test_images_are_readable_during_the_run(archive: Archive, client: Any, scan: type) -> None:
    """While the file is ahead of the documents, exactly the announced frames are served, and soon."""
    run = scan(20)  # the file has all its frames from the beginning
    descriptor = run.descriptor("primary", ASYNC_IMAGE)
    resource = run.stream_resource()
    run.stream_datum(resource, descriptor, 0, 5)
    put(archive, run.documents)
    read = lambda: frame_numbers(client[run.uid]["primary"]["det"]) or None  # noqa: E731
    assert eventually(read) == list(range(5))
    before = len(run.documents)
    run.stream_datum(resource, descriptor, 5, 9)
    put(archive, run.documents[before:])
    assert eventually(lambda: read() if len(read()) != 5 else None) == list(range(9))
    assert client[run.uid].metadata.get("stop") is None


@on_both_databases
def test_an_aborted_fly_scan_is_readable(archive: Archive, client: Any, scan: type) -> None:
    """The file holds more frames than were announced; these, and no others, are in the catalog."""
    run = scan(68)
    descriptor = run.descriptor("primary", ASYNC_IMAGE)
    resource = run.stream_resource()
    run.stream_datum(resource, descriptor, 0, 25)
    run.stop("abort")
    put(archive, run.documents)
    assert client[run.uid].stop["exit_status"] == "abort"
    assert frame_numbers(client[run.uid]["primary"]["det"]) == list(range(25))
    assert client[run.uid].validate()
    assert frame_numbers(client[run.uid]["primary"]["det"]) == list(range(25))


def test_several_collections_an_event(archive: Archive, client: Any, scan: type) -> None:
    """Three frames an event follow each other in the file; they are served as (events, 3, rows, columns)."""
    run = scan(30)
    descriptor = run.descriptor("primary", {"shape": [3, ROWS, COLUMNS], "external": "STREAM:"})
    resource = run.stream_resource()
    run.stream_datum(resource, descriptor, 2, 6)
    run.stop()
    put(archive, run.documents)
    images = client[run.uid]["primary"]["det"].read()
    assert images.shape == (4, 3, ROWS, COLUMNS)
    assert images[:, :, 0, 0].ravel().tolist() == list(range(7, 19))
    assert client[run.uid].validate()
    assert client[run.uid]["primary"]["det"].shape == (4, 3, ROWS, COLUMNS)


def test_a_configuration_that_changes_keeps_one_stream(archive: Archive, client: Any, scan: type) -> None:
    """A stream that is described a second time goes on in the same array."""
    run = scan(10)
    resource = None
    for first, last in ((0, 4), (4, 10)):
        descriptor = run.descriptor("primary", CLASSIC_IMAGE, angle=NUMBER)
        resource = resource or run.resource()
        for frame in range(first, last):
            run.event(descriptor, det=run.datum(resource, frame), angle=float(frame))
    run.stop()
    put(archive, run.documents)
    assert frame_numbers(client[run.uid]["primary"]["det"]) == list(range(10))
    assert client[run.uid]["primary"]["angle"].read().tolist() == list(range(10))


def test_two_runs_at_once(archive: Archive, client: Any, scan: type) -> None:
    """Documents of runs that are interleaved go to their own runs."""
    first, second = tomography(scan, "async"), tomography(scan, "classic")
    rest = max(len(first.documents), len(second.documents))
    for i in range(rest):
        for run in (first, second):
            put(archive, run.documents[i : i + 1])
    for run in (first, second):
        assert frame_numbers(client[run.uid]["projections"]["det"]) == list(range(9, 21))


def test_a_tiff_series(archive: Archive, client: Any, scan: type) -> None:
    """Files of one frame each; every stream gets its own, though the series is announced in many batches."""
    import tifffile

    run = scan(1)
    folder = run.path.with_suffix("")
    folder.mkdir()
    for frame in range(12):
        tifffile.imwrite(folder / f"det_{frame:06d}.tiff", np.full((ROWS, COLUMNS), frame + 1, "u2"))
    descriptors = [run.descriptor(name, ASYNC_IMAGE) for name in ("flats", "projections")]
    resource = run.stream_resource()
    announced = run.documents[-1][1]
    announced |= {"mimetype": "multipart/related;type=image/tiff", "uri": f"file://localhost{folder}/"}
    announced["parameters"] = {"template": "det_{:06d}.tiff", "chunk_shape": [1, ROWS, COLUMNS]}
    put(archive, run.documents)
    for frame in range(12):
        before = len(run.documents)
        run.stream_datum(resource, descriptors[frame >= 4], frame, frame + 1)
        put(archive, run.documents[before:])
        time.sleep(0.05)
    run.stop()
    put(archive, run.documents[-1:])
    assert frame_numbers(client[run.uid]["flats"]["det"]) == list(range(4))
    assert frame_numbers(client[run.uid]["projections"]["det"]) == list(range(4, 12))


def test_files_under_another_path(client: Any, scan: type) -> None:
    """A mount of the Tiled server's machine is applied to what documents announce."""
    archive = Archive(client, mounts={"/beamline/detector": str(scan.folder)})
    run = scan(6)
    descriptor = run.descriptor("primary", ASYNC_IMAGE)
    resource = run.stream_resource()
    run.documents[-1][1]["uri"] = f"file://localhost/beamline/detector/{run.path.name}"
    run.stream_datum(resource, descriptor, 0, 6)
    run.stop()
    put(archive, run.documents)
    archive.close()
    assert frame_numbers(client[run.uid]["primary"]["det"]) == list(range(6))


def test_one_bad_run_is_set_aside(
    archive: Archive, client: Any, scan: type, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that cannot be written is named in the log, with the reason; the next one is written."""
    bad, good = scan(3), tomography(scan, "async")
    descriptor = bad.descriptor("primary", {"shape": [None, ROWS, COLUMNS], "external": "STREAM:"})
    bad.stream_datum(bad.stream_resource(), descriptor, 0, 3)
    bad.stop()
    put(archive, bad.documents)
    put(archive, good.documents)
    assert frame_numbers(client[good.uid]["darks"]["det"]) == list(range(4))
    assert "stop" not in client[bad.uid].metadata
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert bad.uid in record.message
    assert "variable-sized" in record.message


def test_a_growing_file_is_read_while_it_is_written(archive: Archive, client: Any, scan: type) -> None:
    """A file that a detector has open for writing (SWMR) is served in step with the documents."""
    run = scan(1)
    run.path.unlink()
    with h5py.File(run.path, "w", libver="latest") as file:
        data = file.create_dataset(
            "entry/data/data",
            (0, ROWS, COLUMNS),
            "u2",
            maxshape=(None, ROWS, COLUMNS),
            chunks=(1, ROWS, COLUMNS),
        )
        file.swmr_mode = True
        descriptor = run.descriptor("primary", ASYNC_IMAGE)
        resource = run.stream_resource()
        put(archive, run.documents)
        for last in (3, 7):
            before = len(run.documents)
            data.resize(last + 2, axis=0)
            data[:] = np.arange(1, last + 3)[:, None, None]
            data.flush()
            run.stream_datum(resource, descriptor, 0 if last == 3 else 3, last)
            put(archive, run.documents[before:])
            read = lambda: frame_numbers(client[run.uid]["primary"]["det"])  # noqa: E731
            eventually(lambda read=read, last=last: True if read() == list(range(last)) else None)
    run.stop()
    put(archive, run.documents[-1:])
    assert client[run.uid].stop["exit_status"] == "success"
