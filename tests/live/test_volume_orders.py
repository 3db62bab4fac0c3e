"""Volumes that are ordered at the page, or at each stop document."""

from pathlib import Path

import pytest

from tomolive.config import CorrectionSettings, LiveSettings, VolumeSettings
from tomolive.live.controls import Controls, Wish
from tomolive.live.snapshot import SnapshotStore, VolumeProgress
from tomolive.live.volume.documents import DocumentSource
from tomolive.live.volume.request import VolumeRequest
from tomolive.live.volume_orders import VolumeOrders
from tomolive.live.worker import LiveReconstruction


class Runner:
    """Takes orders, and says what it is told to say."""

    def __init__(self):
        self.requests, self.cancelled, self.says, self.closed = [], [], None, False

    def start(self, request):
        """As VolumeRunner."""
        self.requests.append(request)
        self.says = VolumeProgress("running", request.run_uid, 1, 4)

    def poll(self):
        """As VolumeRunner."""
        return self.says

    def cancel(self, run_uid=""):
        """As VolumeRunner."""
        self.cancelled.append(run_uid)

    def close(self):
        """As VolumeRunner."""
        self.closed = True


@pytest.fixture
def live(tmp_path, scan_of):
    """A live reconstruction that orders volumes of a runner."""

    class Live:
        def __init__(self, **volume):
            self.store, self.controls, self.runner = SnapshotStore(), Controls(), Runner()
            self.feeder = scan_of.Feeder([])

            def request(uid):
                return VolumeRequest(uid, DocumentSource(hub="tcp://here:1"), volume=VolumeSettings(**volume))

            self.worker = LiveReconstruction(
                self.feeder, self.store, self.controls,
                results=Path(tmp_path), settings=LiveSettings(center=21.5),
                orders=VolumeOrders(self.runner, request, VolumeSettings(**volume)),
            )  # fmt: skip

        def wish(self, **what):
            def ask():
                self.controls.post(Wish("Ada", **what))
                self.feeder.be_idle()

            return ask

        def run(self, *items):
            self.feeder.items = list(items)
            self.worker.run()
            return self.store.latest.status

    return Live


def test_a_volume_is_made_with_what_is_in_force(live, scan_of):
    """Centre, filter and corrections are those of the page, and who set them; progress is shown."""
    scan, runs = scan_of.Scan(), live()
    seen = []
    two = CorrectionSettings(zingers=True)
    status = runs.run(
        *scan.whole(), runs.wish(center=20.0), runs.wish(corrections=two), runs.wish(volume="start"),
        lambda: seen.append(runs.store.latest.status.volume),
    )  # fmt: skip
    (request,) = runs.runner.requests
    assert (request.run_uid, request.center, request.center_source) == (scan.uid, 20.0, "set by Ada")
    assert (request.filter, request.corrections) == ("ramp", two)
    assert [change.what for change in request.changes] == ["centre", "corrections"]
    assert seen == [VolumeProgress("running", scan.uid, 1, 4)]
    assert [change.what for change in status.changes][-1] == "volume"
    assert runs.runner.closed


def test_a_volume_wished_during_the_scan_begins_at_its_end(live, scan_of):
    """Until then the page says that it waits; a later centre is the one that counts."""
    scan, runs = scan_of.Scan(), live()
    seen = []

    def look():
        seen.append((runs.store.latest.status.volume, len(runs.runner.requests)))

    opening = [*scan.opening, *scan.level("darks"), *scan.level("flats"), *scan.turn(0, 30)]
    asked = [runs.wish(volume="start"), look, runs.wish(center=20.0)]
    runs.run(*opening, *asked, *scan.turn(30, 60), scan.run.stop(), look)
    (before, none), (_, one) = seen
    assert (before.state, before.run_uid, none, one) == ("waiting", scan.uid, 0, 1)
    assert runs.runner.requests[0].center == 20.0


def test_volumes_can_begin_by_themselves(live, scan_of):
    """With the setting each scan that ends has one; one that is broken off, or has no projections, none."""
    one, two, flats = scan_of.Scan(), scan_of.Scan(), scan_of.Scan()
    runs = live(automatic=True)
    only_flats = [*flats.opening, *flats.level("flats"), flats.run.stop()]
    broken_off = [*two.opening, *two.level("darks"), *two.level("flats"), *two.turn(0, 30)]
    runs.run(*one.whole(), *only_flats, *broken_off)
    assert [request.run_uid for request in runs.runner.requests] == [one.uid]


def test_a_volume_can_be_cancelled(live, scan_of):
    """One that is being made is stopped; one that waits for the end of its scan does not begin."""
    scan, runs = scan_of.Scan(), live()
    opening = [*scan.opening, *scan.level("darks"), *scan.level("flats"), *scan.turn(0, 30)]
    asked = [runs.wish(volume="start"), runs.wish(volume="cancel")]
    runs.run(*opening, *asked, *scan.turn(30, 60), scan.run.stop())
    assert runs.runner.requests == []
    assert runs.runner.cancelled == [scan.uid]


def test_a_volume_of_an_earlier_scan(live, scan_of):
    """It can be cancelled while the next one is shown; one that is no longer held is not begun of another."""
    one, two, runs = scan_of.Scan(), scan_of.Scan(), live()
    items = [*one.whole(), runs.wish(volume="start"), *two.whole()]
    late = [runs.wish(run_uid=one.uid, volume=what) for what in ("cancel", "start")]
    status = runs.run(*items, *late)
    assert runs.runner.cancelled == [one.uid]
    assert [request.run_uid for request in runs.runner.requests] == [one.uid]
    assert f"No volume of run {one.uid[:8]} is begun" in status.message
    assert runs.controls.pending == ()
