"""A volume made from what the catalog says of a run is the one made from the run's own documents."""

from itertools import chain
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
LEVELS = {"darks": 0, "projections": 2000}
"""Least counts of a frame; those of flats are higher."""
SCATTERED = [
    [("darks", 0, 2), ("flats", 2, 5), ("projections", 5, 17), ("flats", 17, 19)],
    [("projections", 0, 12), ("flats", 12, 14)],
]
IN_ONE_FILE = [[*SCATTERED[0], ("projections", 19, 31), ("flats", 31, 33)]]
BEFORE_AND_AFTER = [[("darks", 0, 2), ("flats", 2, 5), ("projections", 5, 29), ("flats_after", 29, 33)]]


def scan_with_flats(scan: type, parts: list[list[tuple[str, int, int]]]) -> Any:
    """Return a scan whose frames lie in a file for each of ``parts``: stream, first frame, and one past."""
    streams = [stream for stream, *_ in chain(*parts)]
    run = scan(sum(last - first for _, first, last in chain(*parts)), num_projections=len(ANGLES))
    run.documents[0][1]["plan_name"] = "tomo_plan"
    rng = np.random.default_rng(7)
    image = {"shape": [1, ROWS, COLUMNS], "external": "STREAM:"}
    angle = {"angle": {"source": "sim", "dtype": "number", "shape": [], "units": "deg"}}
    descriptors = {
        name: run.descriptor(name, dict(image), **(angle if name == "projections" else {}))
        for name in sorted(set(streams))
    }
    for number, part in enumerate(parts):
        path = file_of(run, number)
        levels = [LEVELS.get(stream, 4000) for stream, first, last in part for _ in range(first, last)]
        frames = (
            rng.integers(0, 1000, (len(levels), ROWS, COLUMNS), "u2") + np.array(levels, "u2")[:, None, None]
        )
        with h5py.File(path, "w") as file:
            file.create_dataset("entry/data/data", data=frames, chunks=(1, ROWS, COLUMNS))
        resource = run.stream_resource()
        run.documents[-1][1]["uri"] = f"file://localhost{path}"
        for stream, first, last in part:
            run.stream_datum(resource, descriptors[stream], first, last)
    for number, degrees in enumerate(ANGLES, 1):
        run.event(descriptors["projections"], number, angle=float(degrees))
    run.stop()
    return run


def file_of(run: Any, number: int) -> Path:
    """Return where the frames of a part of a run are."""
    return run.path.with_name(f"{run.uid}-{number}.h5")


def frames_of(run: Any, parts: list[list[tuple[str, int, int]]], wanted: str) -> np.ndarray:
    """Return what the files hold of a stream, in the order of taking."""
    found = []
    for number, part in enumerate(parts):
        with h5py.File(file_of(run, number)) as file:
            frames: Any = file["entry/data/data"]
            found += [frames[first:last] for stream, first, last in part if stream == wanted]
    return np.concatenate(found)


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


@pytest.mark.parametrize("parts", [SCATTERED, IN_ONE_FILE, BEFORE_AND_AFTER])
def test_flats_of_several_times(
    client: Any, server: Any, scan: type, tmp_path: Path, parts: list[list[tuple[str, int, int]]]
):
    """Before, amid and after the projections, in two files or two streams: the same volume to the bit."""
    run = scan_with_flats(scan, parts)
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
    for stream in {stream for stream, *_ in chain(*parts)}:
        np.testing.assert_array_equal(client[run.uid][stream]["det"].read(), frames_of(run, parts, stream))
