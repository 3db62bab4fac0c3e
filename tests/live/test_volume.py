"""The volume of a finished scan: what is in it, what it takes, and how it goes on after a kill."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from tomolive.config import CorrectionSettings, FilesSettings, VolumeSettings
from tomolive.errors import FileAccessError, ScanError, SettingsError
from tomolive.geometry import angle_weights
from tomolive.live.volume.disk import require_room
from tomolive.live.volume.documents import DocumentSource
from tomolive.live.volume.in_place import MovedError, RowsInPlace
from tomolive.live.volume.memory import share_memory
from tomolive.live.volume.preparation import Preparation
from tomolive.live.volume.request import VolumeRequest
from tomolive.live.volume.rows import RowLayout, RowStore
from tomolive.live.volume.volume import CancelledError, make_volume
from tomolive.recon import normalize, reconstruct, widen

LONG = 120


@pytest.fixture(autouse=True)
def local_disk(monkeypatch):
    """Whatever disk these tests write to, it counts as one of this machine."""
    monkeypatch.setattr("tomolive.live.volume.in_place.is_local", lambda _: True)


def request_of(scan, out: Path, **options) -> VolumeRequest:
    """A volume of a scan on disk."""
    volume = {"processes": 1, **options.pop("volume", {})}
    return VolumeRequest(
        scan.uid,
        DocumentSource(file=str(scan.jsonl)),
        volume=VolumeSettings(folder=str(out), **volume),
        files=FilesSettings(roots=(str(scan.folder),), patience_s=0.5),
        **options,
    )


def content(path: Path) -> dict[str, bytes]:
    """Every file below a path, to the byte."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path)): p.read_bytes() for p in files}


def values(path: Path) -> np.ndarray:
    """The full volume."""
    if path.suffix == ".nxs":
        with h5py.File(path) as file:
            return file["entry/data/data"][:]
    return zarr.open_array(path / "0", mode="r")[:]


def inside(picture: np.ndarray) -> np.ndarray:
    """Pixels in 0.9 of the reconstruction circle."""
    half = (len(picture) - 1) / 2
    y, x = np.mgrid[: len(picture), : len(picture)] - half
    return x**2 + y**2 < (0.9 * half) ** 2


def test_volume_is_the_sample(recorded_scan, tmp_path):
    """Every slice is the phantom's within a few per cent, in 1/cm, with the centre found."""
    scan = recorded_scan()
    result = make_volume(request_of(scan, tmp_path / "out"))
    volume = values(result.path)
    assert volume.shape == (40, 96, 96)
    assert volume.dtype == np.float32
    assert result.about["parameters"]["center"] == pytest.approx(scan.center, abs=0.1)
    assert result.about["parameters"]["units"] == "1/cm"
    for row in (0, 15, 16, 39):
        truth = scan.truth(row)
        off = (volume[row] - truth)[inside(truth)]
        assert np.sqrt(np.mean(off**2)) < 0.12 * truth.max()


def test_blocks_change_nothing(recorded_scan, tmp_path):
    """The volume equals the one that the kernels make of all frames at once, to the rounding of float32."""
    scan = recorded_scan(rows=37, pixel_um=None)
    result = make_volume(request_of(scan, tmp_path / "out", center=scan.center))
    with h5py.File(scan.file) as file:
        frames = file["entry/data/data"][:]
    integrals = normalize(frames[5:], frames[2:5], frames[:2])
    sinograms = integrals.transpose(1, 0, 2)
    expected = reconstruct(sinograms, np.deg2rad(scan.angles), scan.center)
    np.testing.assert_allclose(values(result.path), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    "corrections",
    [
        {"zingers": True, "rings": "sorting"},
        {"binning": 2},
        {"paganin": {"energy_kev": 25, "distance_m": 0.1, "pixel_size_um": 1, "delta_beta": 50}},
    ],
    ids=["zingers and rings", "binning", "paganin"],
)
def test_corrections_are_those_of_the_live_chain(recorded_scan, tmp_path, corrections):
    """With any correction the volume is what the shared chain gives for whole frames."""
    from tomolive.recon.binning import binned_place
    from tomolive.recon.pipeline import correct_projections, correct_sinograms, references

    scan = recorded_scan(pixel_um=None)
    settings = CorrectionSettings.model_validate(corrections)
    result = make_volume(request_of(scan, tmp_path / "out", center=scan.center, corrections=settings))
    with h5py.File(scan.file) as file:
        frames = file["entry/data/data"][:]
    field = references(frames[2:5].mean(0), frames[:2].mean(0), settings)
    integrals = correct_projections(frames[5:], field, settings)
    sinograms = correct_sinograms(integrals.transpose(1, 0, 2), settings)
    place = binned_place(scan.center, settings.binning)
    expected = reconstruct(sinograms, np.deg2rad(scan.angles), place)
    found = values(result.path)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_centre_is_that_of_the_live_reconstruction(recorded_scan, tmp_path):
    """The default centre agrees with the live one to a hundredth of a column."""
    from tomolive.live.slices.accumulate import SliceAccumulator

    scan = recorded_scan()
    with h5py.File(scan.file) as file:
        frames = file["entry/data/data"][:]
    live = SliceAccumulator(scan.rows, scan.columns)
    live.set_references(frames[:2], frames[2:5])
    for first in range(0, len(scan.angles), 16):
        part = slice(first, min(first + 16, len(scan.angles)))
        live.add(frames[5:][part], np.deg2rad(scan.angles[part]), range(part.start, part.stop))
    live.finish()
    result = make_volume(request_of(scan, tmp_path / "out"))
    assert result.about["parameters"]["center"] == pytest.approx(live.center, abs=0.01)


def test_projections_that_are_missing_are_named(recorded_scan, tmp_path):
    """A volume without some frames is made of the others, and says which were missing."""
    scan = recorded_scan(lost=[60])
    result = make_volume(request_of(scan, tmp_path / "out"))
    assert result.about["frames"]["missing"] == [[50, 100]]
    assert result.about["frames"]["used"] == 71


def test_projections_without_beam_are_left_out(recorded_scan, tmp_path):
    """A volume is made of the frames that saw the beam, as live slices are, and names the others."""
    scan = recorded_scan(rows=16, columns=64, unlit=[7, 60, 61, 120])
    request = request_of(scan, tmp_path / "out", center=31.0)
    result = make_volume(request)
    with h5py.File(scan.file) as file:
        frames = file["entry/data/data"][:]
    used = np.delete(np.arange(121), [7, 60, 61, 120])
    sinograms = normalize(frames[5:][used], frames[2:5], frames[:2]).transpose(1, 0, 2)
    expected = reconstruct(sinograms, np.deg2rad(scan.angles[used]), 31.0) * 1e4
    np.testing.assert_allclose(values(result.path), expected, atol=1e-4 * expected.max())
    about = result.about["frames"]
    assert (about["used"], about["missing"]) == (117, [])
    assert about["without_beam"] == [[7, 8], [60, 62], [120, 121]]
    assert "Projections 7, 60 to 61, 120 saw hardly any beam, and are left out." in result.about["notes"]
    everything = make_volume(replace(request, corrections=CorrectionSettings(least_beam=0)))
    assert everything.about["frames"]["used"] == 121


def test_flats_of_no_use_are_done_without(recorded_scan, tmp_path):
    """As in live slices the beam is guessed then, and both are said."""
    scan = recorded_scan(rows=8, columns=48)
    with h5py.File(scan.file, "r+") as file:
        frames = file["entry/data/data"]
        frames[2:5] = frames[0]
        projections = frames[5:]
    result = make_volume(request_of(scan, tmp_path / "out", center=scan.center))
    beam = np.full((1, 8, 48), np.percentile(projections[0], 99.9))
    sinograms = normalize(projections, beam).transpose(1, 0, 2)
    expected = reconstruct(sinograms, np.deg2rad(scan.angles), scan.center) * 1e4
    np.testing.assert_allclose(values(result.path), expected, atol=1e-4 * np.abs(expected).max())
    assert [note.split(":")[0] for note in result.about["notes"]] == [
        "Darks and flats cannot be used", "No darks", "No flats",
    ]  # fmt: skip


def test_half_acquisition_that_was_broken_off(recorded_scan, tmp_path):
    """What the plan would have turned through counts, as it does in the live slices."""
    plan = {"version": 1, "image_key": "camera", "angle_key": "angle", "angle_start": 0, "angle_stop": 360}
    plan["streams"] = {"darks": "darks", "flats": "flats", "projections": "projections"}
    scan = recorded_scan(rows=16, angles=np.arange(0, 200, 4.0), columns=48, tomography=plan)
    result = make_volume(request_of(scan, tmp_path / "out", center=8.0))
    assert result.about["parameters"]["shape"] == [16, 79, 79]


def test_half_acquisition_can_be_said(recorded_scan, tmp_path):
    """Where the turn and the centre show none, it is made on demand; and the other way round."""
    half = {side: CorrectionSettings(half_acquisition=side) for side in (True, False)}
    scan = recorded_scan(rows=16, angles=np.linspace(0, 359, 90), columns=48)
    for center, said, width in ((16.0, None, 48), (16.0, True, 63), (8.0, None, 79), (8.0, False, 48)):
        corrections = half.get(said, CorrectionSettings())
        request = request_of(scan, tmp_path / "out", center=center, corrections=corrections)
        assert make_volume(request).about["parameters"]["shape"] == [16, width, width]
    alone = request_of(scan, tmp_path / "out", center=2.0, corrections=half[True])
    assert "No half acquisition can be made of it" in make_volume(alone).about["notes"][-1]


def test_half_acquisition_is_widened(recorded_scan, tmp_path):
    """A whole turn about an axis near the edge is as wide as both halves see, which may be uneven."""
    angles = np.r_[np.arange(0, 180, 2.0), np.arange(180, 360, 4.0)]
    scan = recorded_scan(rows=18, angles=angles, columns=64, pixel_um=None)
    result = make_volume(request_of(scan, tmp_path / "out", center=12.0))
    with h5py.File(scan.file) as file:
        frames = file["entry/data/data"][:]
    integrals = normalize(frames[5:], frames[2:5], frames[:2])
    wide, center = widen(integrals.transpose(1, 0, 2), 12.0)
    radians = np.deg2rad(angles)
    expected = reconstruct(wide, radians, center, weights=angle_weights(radians / 2))
    assert expected.shape == (18, 103, 103)
    np.testing.assert_allclose(values(result.path), expected, atol=2e-5 * np.abs(expected).max())


def test_ome_zarr_opens_in_a_reader_that_is_not_ours(recorded_scan, tmp_path):
    """ome-zarr-py finds the pyramid, axes with units and the voxel size; levels are means of the first."""
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    scan = recorded_scan(rows=34, columns=600, angles=np.linspace(0, 180, 31), pixel_um=0.65)
    result = make_volume(request_of(scan, tmp_path / "out", center=scan.center))
    location = parse_url(result.path)
    assert location is not None
    (node,) = list(Reader(location)())
    assert [level.shape for level in node.data] == [(34, 600, 600), (17, 300, 300), (9, 150, 150)]
    assert [axis["unit"] for axis in node.metadata["axes"]] == ["micrometer"] * 3
    assert node.metadata["coordinateTransformations"][1][0]["scale"] == [1.3, 1.3, 1.3]
    full, half = (np.asarray(node.data[level]) for level in (0, 1))
    expected = full[:, :, :].reshape(17, 2, 300, 2, 300, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(half, expected, rtol=1e-4, atol=1e-4)


def test_nxtomoproc_follows_the_definition(recorded_scan, tmp_path):
    """Classes, defaults and axes lead a NeXus reader to the volume, which is that of the other format."""
    scan = recorded_scan()
    ours = values(make_volume(request_of(scan, tmp_path / "out", center=scan.center)).path)
    request = request_of(scan, tmp_path / "out", center=scan.center, volume={"format": "nxtomoproc"})
    result = make_volume(request)
    with h5py.File(result.path) as file:
        entry = file[file.attrs["default"]]
        assert entry.attrs["NX_class"] == "NXentry"
        assert entry["definition"].asstr()[()] == "NXtomoproc"
        data = entry[entry.attrs["default"]]
        assert data.attrs["NX_class"] == "NXdata"
        np.testing.assert_array_equal(data[data.attrs["signal"]][:], ours)
        assert [data[axis].attrs["units"] for axis in data.attrs["axes"]] == ["um"] * 3
        assert entry["reconstruction"].attrs["NX_class"] == "NXprocess"
        assert scan.uid in entry["reconstruction/parameters/raw_file"].asstr()[()]


@pytest.mark.parametrize("format_", ["ome-zarr", "nxtomoproc"])
def test_uint16_states_its_range(recorded_scan, tmp_path, format_):
    """Stored numbers, scaled as the file says, are the float volume within half a step."""
    scan = recorded_scan()
    exact = values(make_volume(request_of(scan, tmp_path / "out", center=scan.center)).path)
    options = {"format": format_, "dtype": "uint16"}
    result = make_volume(request_of(scan, tmp_path / "out", center=scan.center, volume=options))
    stored = values(result.path)
    assert stored.dtype == np.uint16
    if format_ == "ome-zarr":
        told = zarr.open_array(result.path / "0", mode="r").attrs
        step, offset = told["scale_factor"], told["add_offset"]
    else:
        with h5py.File(result.path) as file:
            group = file["entry/data"]
            step, offset = group["data_scaling_factor"][()], group["data_offset"][()]
    low, high = result.about["parameters"]["value_range"]
    assert (offset, offset + 65535 * step) == (pytest.approx(low), pytest.approx(high))
    clipped = np.clip(exact, low, high)
    np.testing.assert_allclose(stored * step + offset, clipped, atol=0.51 * step)


def done_of(request: VolumeRequest) -> int:
    """Blocks of a volume under way that are known to be done."""
    done = request.path.with_name(f".{request.path.name}.partial") / "done"
    return done.read_bytes().count(b"\n") if done.exists() else 0


def test_cancelled_volume_goes_on_to_the_same_bytes(recorded_scan, tmp_path):
    """What was cancelled half way is taken up with the blocks that were done, and ends the same."""
    scan = recorded_scan(rows=80, angles=np.linspace(0, 180, 61))
    whole = make_volume(request_of(scan, tmp_path / "whole", center=scan.center))
    request = request_of(scan, tmp_path / "out", center=scan.center)
    with pytest.raises(CancelledError):  # it is asked for after each block
        make_volume(request, cancelled=lambda: done_of(request) >= 2)
    assert not request.path.exists()
    progress = []
    resumed = make_volume(request, progress.append)
    assert next(p for p in progress if p.total).done == 32
    assert content(resumed.path) == content(whole.path)
    assert [p.name for p in request.path.parent.iterdir() if p.name.startswith(".")] == []


def least_memory(layout: RowLayout, angles: int) -> int:
    """Megabytes with which a volume can be made at all: the rows then lie in a file."""
    for memory in range(100, 4000, 2):
        with contextlib.suppress(SettingsError):
            share_memory(layout, angles, VolumeSettings(memory_mb=memory))
            return memory
    raise AssertionError("no limit is large enough")


KILLED = """
import os, signal, sys
from pathlib import Path
from tomolive.live.volume import in_place
from tomolive.live.volume.volume import make_volume
from tomolive.live.volume.request import VolumeRequest

in_place.is_local = lambda _: True
request = VolumeRequest.from_json(sys.stdin.read())
done = request.path.with_name(f".{request.path.name}.partial") / "done"


def kill_half_way():
    if done.exists() and done.read_bytes().count(b"\\n") >= 2:
        os.kill(os.getpid(), signal.SIGKILL)


make_volume(request, cancelled=kill_half_way)
"""


@pytest.mark.parametrize("rows", ["in place", "in memory", "in a file"])
def test_killed_volume_goes_on_to_the_same_bytes(recorded_scan, tmp_path, rows):
    """SIGKILL in the middle; the second start takes up what was done and gives the same volume.

    So it does where the rows of blocks that are done are no longer there.
    """
    compression = None if rows == "in place" else "gzip"
    scan = recorded_scan(rows=80, angles=np.linspace(0, 180, 61), compression=compression)
    layout = RowLayout(61, 80, 96, "<u2")
    memory = least_memory(layout, 61) if rows == "in a file" else 4096
    request = request_of(scan, tmp_path / "out", center=scan.center, volume={"memory_mb": memory})
    whole = make_volume(request_of(scan, tmp_path / "whole", center=scan.center))
    killed = subprocess.run([sys.executable, "-c", KILLED], input=request.to_json(), text=True, timeout=LONG)
    assert killed.returncode == -signal.SIGKILL
    assert not request.path.exists()
    folder = request.path.with_name(f".{request.path.name}.partial")
    assert (folder / "rows").exists() == (rows == "in a file")
    assert (folder / "rows.npz").exists() == (rows == "in place")
    if rows == "in a file":
        assert (folder / "rows").stat().st_blocks * 512 < layout.nbytes - layout.nbytes // 5
    progress = []
    resumed = make_volume(request, progress.append)
    assert next(p for p in progress if p.total).done == 32
    assert content(resumed.path) == content(whole.path)


def test_killed_at_the_very_end_it_is_only_finished(recorded_scan, tmp_path, monkeypatch):
    """Between the volume's getting its name and the last word about it nothing is lost."""
    scan = recorded_scan(rows=20)
    request = request_of(scan, tmp_path / "out", center=scan.center)
    with monkeypatch.context() as patch:
        patch.setattr("tomolive.live.volume.volume.resident_mb", lambda: raise_(InterruptedError()))
        with pytest.raises(InterruptedError):
            make_volume(request)
    before = content(request.path)
    result = make_volume(request)
    assert content(result.path) == before
    assert result.about["asset"]
    assert [p.name for p in request.path.parent.iterdir() if p.name.startswith(".")] == []


def raise_(error: Exception) -> None:
    """Raise, where only an expression may stand."""
    raise error


def test_a_worker_that_dies_is_replaced(recorded_scan, tmp_path):
    """A process that is killed with blocks in hand costs nothing but time."""
    scan = recorded_scan(rows=80, angles=np.linspace(0, 180, 61))
    whole = make_volume(request_of(scan, tmp_path / "whole", center=scan.center))
    killed = []

    def kill_one() -> bool:
        if not killed:
            children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
            pids = [int(pid) for file in children for pid in file.read_text().split()]
            killed.extend(p for p in pids if b"volume.worker" in Path(f"/proc/{p}/cmdline").read_bytes())
            for pid in killed[:1]:
                os.kill(pid, signal.SIGKILL)
        return False

    request = request_of(scan, tmp_path / "out", center=scan.center, volume={"processes": 2})
    result = make_volume(request, cancelled=kill_one)
    assert killed
    assert content(result.path) == content(whole.path)


def test_dask_cluster_gives_the_same_volume(recorded_scan, tmp_path, monkeypatch):
    """Two workers of a Dask cluster make the volume that processes of this machine make.

    Rows stay to the end: a worker that the cluster has given up may still read them.
    """
    monkeypatch.setattr(RowStore, "release", lambda *_: pytest.fail("rows of a cluster were given back"))
    scan = recorded_scan(rows=70)
    whole = make_volume(request_of(scan, tmp_path / "whole", center=scan.center))
    with dask_cluster(tmp_path) as address:
        volume = {"dask": address}
        result = make_volume(request_of(scan, tmp_path / "out", center=scan.center, volume=volume))
    assert content(result.path) == content(whole.path)


@contextlib.contextmanager
def dask_cluster(folder: Path) -> Iterator[str]:
    """A Dask scheduler and two workers as real processes; the address of the scheduler."""
    told = folder / "scheduler.json"
    processes: list[subprocess.Popen[bytes]] = []

    def start(what: str, *arguments: str) -> None:
        shared = ["--no-dashboard", "--scheduler-file", str(told)]
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments, *shared]
        with (folder / "dask.log").open("ab") as log:
            processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder))

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0")
        deadline = time.monotonic() + LONG
        while not told.exists():
            assert time.monotonic() < deadline, (folder / "dask.log").read_text()
            time.sleep(0.1)
        for _ in range(2):
            # should this test be killed, they end by themselves
            start("worker", "--no-nanny", "--nthreads", "2", "--death-timeout", "60")
        yield json.loads(told.read_text())["address"]
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def test_rows_in_place_are_those_that_are_copied(recorded_scan, tmp_path):
    """What is read where the detector wrote it gives the volume of copied rows, with frames missing, too."""
    corrections = CorrectionSettings(zingers=True, rings="sorting")
    volumes = []
    for compression in (None, "gzip"):
        scan = recorded_scan(lost=[60], unlit=[7], compression=compression)
        request = request_of(scan, tmp_path / "out", center=scan.center, corrections=corrections)
        kept = request.path.with_name(f".{request.path.name}.partial") / "rows.npz"
        with pytest.raises(CancelledError):
            make_volume(request, cancelled=lambda request=request: done_of(request) >= 1)
        assert kept.exists() == (compression is None)
        volumes.append(values(make_volume(request).path))
    np.testing.assert_array_equal(*volumes)


def test_rows_that_are_not_where_they_were_found_are_copied(recorded_scan, tmp_path, monkeypatch):
    """The scan is read once more, and the files that were to be read in place are let go."""
    scan = recorded_scan(rows=16)
    request, begun = request_of(scan, tmp_path / "out", center=scan.center), []
    seen, folder = RowsInPlace.write, tmp_path / "work"
    folder.mkdir()

    def write(rows, first, frames):
        if first + len(frames) > 60:
            raise MovedError
        seen(rows, first, frames)

    monkeypatch.setattr(RowsInPlace, "write", write)
    rows = Preparation(request, folder, lambda *_: None, begun.append).rows()
    assert [type(one) for one in begun] == [RowsInPlace, RowStore]
    assert rows is begun[1]
    with h5py.File(scan.file) as file:
        np.testing.assert_array_equal(rows.read_frame(60), file["entry/data/data"][65])
    rows.close()
    with pytest.raises(IndexError):
        begun[0].read_frame(0)


def test_a_file_that_was_changed_meanwhile_is_read_again(recorded_scan, tmp_path):
    """Half way the detector's file is replaced: all blocks are made of what it holds then."""
    scan = recorded_scan(rows=48, angles=np.linspace(0, 180, 31))
    request = request_of(scan, tmp_path / "out", center=scan.center)
    with pytest.raises(CancelledError):
        make_volume(request, cancelled=lambda: done_of(request) >= 1)
    with h5py.File(scan.file, "r+") as file:
        frames = file["entry/data/data"]
        frames[20:] = frames[20:] * 0.9
    volume = values(make_volume(request).path)
    whole = values(make_volume(request_of(scan, tmp_path / "whole", center=scan.center)).path)
    np.testing.assert_array_equal(volume, whole)


def test_a_file_that_is_written_to_meanwhile_is_copied(recorded_scan, tmp_path):
    """Somebody adds to the detector's file before the first block: a copy of its frames is used."""
    scan = recorded_scan(rows=16)
    request, begun = request_of(scan, tmp_path / "out", center=scan.center), []

    def annotate(progress):
        if progress.total and not begun:  # the rows are known, and no block is made
            begun.append(request.path.with_name(f".{request.path.name}.partial") / "rows.npz")
            assert begun[0].exists()
            with h5py.File(scan.file, "r+") as file:
                file["entry/theta"] = np.arange(3.0)

    volume = values(make_volume(request, tell=annotate).path)
    whole = values(make_volume(request_of(scan, tmp_path / "whole", center=scan.center)).path)
    np.testing.assert_array_equal(volume, whole)


def test_too_little_disk_is_said_with_what_is_needed(tmp_path):
    """The error names the folder, and the larger of volume and stored rows: one gives way to the other."""
    huge = RowLayout(3000, 2**17, 2**17, "<u2")
    with pytest.raises(SettingsError, match=r"needs 10293942\.0 GB of disk in .*make room there"):
        require_room(tmp_path, VolumeSettings(), huge, stored=True)
    narrow = RowLayout(3_000_000, 2**17, 8, "<u2")
    with pytest.raises(SettingsError, match=r"needs 6291\.5 GB"):
        require_room(tmp_path, VolumeSettings(), narrow, stored=True)
    require_room(tmp_path, VolumeSettings(), narrow, stored=False)
    with pytest.raises(SettingsError, match=r"needs 10397021\.\d GB"):  # no rows give way on a cluster
        require_room(tmp_path, VolumeSettings(dask="tcp://cluster:8786"), huge, stored=True)


def test_a_volume_that_is_there_is_not_made_again(recorded_scan, tmp_path):
    """The same request again returns what is there."""
    scan = recorded_scan(rows=16)
    first = make_volume(request_of(scan, tmp_path / "out"))
    again = make_volume(request_of(scan, tmp_path / "out"))
    assert (again.path, again.uid) == (first.path, first.uid)
    assert not again.seconds


def test_too_little_memory_is_said_with_what_is_needed(recorded_scan, tmp_path):
    """A limit that no process can keep is an error that names a limit that will do."""
    scan = recorded_scan(rows=16)
    with pytest.raises(SettingsError, match=r"set volume\.memory_mb to \d+ or more"):
        make_volume(request_of(scan, tmp_path / "out", volume={"memory_mb": 50}))


def test_a_run_that_is_no_scan_is_said(recorded_scan, tmp_path):
    """A run by no rule, and one that is not there, are errors in plain words."""
    scan = recorded_scan(rows=16, plan_name="count", tomography={})
    with pytest.raises(ScanError, match="no tomography scan by any rule"):
        make_volume(request_of(scan, tmp_path / "out"))
    with pytest.raises(ScanError, match="has no run"):
        DocumentSource(file=str(scan.jsonl)).fetch("somebody else")


def test_images_outside_the_roots_are_not_read(recorded_scan, tmp_path):
    """A volume reads only where the settings allow it, and says so."""
    scan = recorded_scan(rows=16)
    (tmp_path / "empty").mkdir()
    files = FilesSettings(roots=(str(tmp_path / "empty"),), patience_s=0.2)
    request = VolumeRequest(
        scan.uid,
        DocumentSource(file=str(scan.jsonl)),
        files=files,
        volume=VolumeSettings(folder=str(tmp_path / "out")),
    )
    with pytest.raises((ScanError, FileAccessError), match="outside the folders that may be read"):
        make_volume(request)


@pytest.mark.parametrize("context", [0, 1])
def test_rows_come_back_as_they_were_written(tmp_path, context):
    """Whatever the order of writing, a band holds the rows of all frames, with its context."""
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 60000, (7, 37, 11)).astype("<u2")
    store = RowStore.create(tmp_path / "rows", RowLayout(7, 37, 11, "<u2", context))
    for first, last in ((4, 7), (0, 3), (3, 4)):
        store.write(first, frames[first:last])
    for band, (top, bottom) in enumerate([(0, 16), (16, 32), (32, 37)]):
        part = frames[:, max(0, top - context) : min(37, bottom + context)]
        np.testing.assert_array_equal(store.read(band), part)
    np.testing.assert_array_equal(store.read_frame(5), frames[5])
    store.close()


def test_request_survives_the_way_to_another_process(recorded_scan, tmp_path):
    """A request as text is the same request."""
    scan = recorded_scan(rows=16)
    corrections = CorrectionSettings(rings="sorting", binning=2)
    request = request_of(scan, tmp_path, center=3.5, corrections=corrections, value_range=(0.0, 1.0))
    assert VolumeRequest.from_json(request.to_json()) == request
