"""A volume made from what the catalog says of a run is the one made from the run's own documents."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from tomolive.catalog.archive import Archive
from tomolive.config import FilesSettings, VolumeSettings
from tomolive.live.volume.documents import DocumentSource
from tomolive.live.volume.request import VolumeRequest
from tomolive.live.volume.volume import VolumeResult, make_volume
from tomolive.stream.recorded import write_documents

ROWS, COLUMNS = 5, 7
ANGLES = np.arange(24) * 7.5
STREAMS = ("darks", "flats", "projections")


def scattered_scan(scan: type, files: int) -> Any:
    """Return a scan with flats before, amid and after the projections, in one file or in two."""
    tomography = {
        "version": 1, "image_key": "det", "angle_key": "angle", "num_projections": len(ANGLES),
        "angle_start": 0.0, "angle_stop": 180.0, "streams": {name: name for name in STREAMS},
    }  # fmt: skip
    run = scan(40, tomography=tomography)
    rng = np.random.default_rng(7)
    with h5py.File(run.path, "r+") as file:
        frames: Any = file["entry/data/data"]
        frames[:] = rng.integers(2000, 3000, frames.shape)
        frames[:2] = 100
        for flats in (slice(2, 5), slice(17, 19), slice(31, 33)):
            frames[flats] = rng.integers(4000, 5000, (flats.stop - flats.start, ROWS, COLUMNS))
    image = {"shape": [1, ROWS, COLUMNS], "external": "STREAM:"}
    angle = {"angle": {"source": "sim", "dtype": "number", "shape": [], "units": "deg"}}
    streams = {
        name: run.descriptor(name, dict(image), **(angle if name == "projections" else {}))
        for name in STREAMS
    }
    resource = run.stream_resource()
    parts = [("darks", 0, 2), ("flats", 2, 5), ("projections", 5, 17), ("flats", 17, 19)]
    parts += [("projections", 19, 31), ("flats", 31, 33)]
    for stream, first, last in parts[: 4 if files == 2 else None]:
        run.stream_datum(resource, streams[stream], first, last)
    if files == 2:
        second = run.path.with_name(f"{run.uid}-second.h5")
        with h5py.File(run.path) as file, h5py.File(second, "w") as other:
            frames = file["entry/data/data"]
            other.create_dataset("entry/data/data", data=frames[19:], chunks=(1, ROWS, COLUMNS))
        resource = run.stream_resource()
        run.documents[-1][1]["uri"] = f"file://localhost{second}"
        for stream, first, last in parts[4:]:
            run.stream_datum(resource, streams[stream], first - 19, last - 19)
    for number, degrees in enumerate(ANGLES, 1):
        run.event(streams["projections"], number, angle=float(degrees))
    run.stop()
    return run


def volume_of(run: Any, source: DocumentSource, out: Path) -> VolumeResult:
    """Make the volume of a run."""
    request = VolumeRequest(
        run.uid,
        source,
        center=3.0,
        volume=VolumeSettings(folder=str(out), processes=1),
        files=FilesSettings(roots=(str(run.folder),), patience_s=0.5),
    )
    return make_volume(request)


@pytest.mark.parametrize("files", [1, 2])
def test_frames_that_lie_in_several_places(client: Any, server: Any, scan: type, tmp_path: Path, files: int):
    """Flats before, amid and after the projections, in one file or two: the same volume to the bit."""
    run = scattered_scan(scan, files)
    write_documents(tmp_path / "run.jsonl", run.documents)
    archive = Archive(client)
    for name, doc in run.documents:
        archive(name, doc)
    archive.close()

    recorded = volume_of(run, DocumentSource(file=str(tmp_path / "run.jsonl")), tmp_path / "recorded")
    kept = volume_of(run, DocumentSource(catalog=server.uri), tmp_path / "kept")

    assert (recorded.about["frames"]["used"], recorded.about["frames"]["flats"]) == (24, 7)
    assert recorded.about["frames"] == kept.about["frames"]
    assert kept.about["notes"] == []
    expected, found = (zarr.open_array(made.path / "0", mode="r")[:] for made in (recorded, kept))
    np.testing.assert_array_equal(found, expected)
    with h5py.File(run.path) as file:
        frames: Any = file["entry/data/data"]
        expected = np.concatenate([frames[2:5], frames[17:19], frames[31:33]])
    np.testing.assert_array_equal(client[run.uid]["flats"]["det"].read(), expected)
