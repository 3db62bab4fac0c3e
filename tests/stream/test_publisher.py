"""The Publisher and its spool: the scan never waits for the network and never dies of it."""

import json
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky import plans as bp
from ophyd.sim import det

from tomolive import Publisher, metrics
from tomolive.errors import AddressError, JournalError
from tomolive.stream import spool as spools
from tomolive.stream.exchange import Limits

TIMEOUT = 60


def counted(metric) -> float:
    """Return the value of a counter."""
    return metric.collect()[0].samples[0].value


def test_the_scan_goes_on_without_a_hub_and_arrives_later(
    hub, publishing, listen, make_run, wait_for, tmp_path
):
    """With the hub down nothing waits or raises; when it is back everything arrives, in order, once."""
    run = make_run(2000)
    hub.stop()
    with publishing(hub.native) as publish:
        for name, doc in run:
            publish(name, doc)
        assert publish.waiting == len(run)
        hub.start()
        listener = listen(hub.native, start="all")
        wait_for(lambda: len(listener.documents) >= len(run))
        assert publish.flush(TIMEOUT)
    assert listener.documents == run
    assert not list((tmp_path / "spool").iterdir()), "an empty spool is removed"


def test_a_run_engine_publishes(hub, publishing, listen, wait_for):
    """A real RunEngine with ``RE.subscribe(Publisher(...))``."""
    engine = RunEngine({}, call_returns_result=False)
    listener = listen(hub.native)
    with publishing(hub.native) as publish:
        engine.subscribe(publish)
        (uid,) = engine(bp.count([det], 5))
        wait_for(lambda: listener.documents and listener.documents[-1][0] == "stop")
    assert [name for name, _ in listener.documents] == ["start", "descriptor", *["event"] * 5, "stop"]
    assert listener.documents[0][1]["uid"] == uid


def test_the_document_is_taken_as_it_was(hub, publishing, listen, make_run, wait_for):
    """What is done to a document after the call changes nothing: it is encoded at once."""
    run = make_run(3)
    listener = listen(hub.native)
    hub.stop()
    with publishing(hub.native) as publish:
        for name, doc in run:
            mine = dict(doc)
            publish(name, mine)
            mine.clear()
        hub.start()
        wait_for(lambda: len(listener.documents) >= len(run))
    assert listener.documents == run


def test_arrays_keep_type_shape_and_bits(hub, publishing, listen, make_run, wait_for):
    """A big-endian array of a megabyte travels in an event."""
    run = make_run(1)
    image = np.random.default_rng(5).integers(0, 60000, (500, 1000)).astype(">u2")
    run[1][1]["data_keys"]["image"] = {"source": "PV:i", "dtype": "array", "shape": [500, 1000]}
    run[2][1]["data"]["image"], run[2][1]["timestamps"]["image"] = image, 1.0
    listener = listen(hub.native)
    with publishing(hub.native) as publish:
        for name, doc in run:
            publish(name, doc)
        wait_for(lambda: len(listener.documents) >= len(run))
    got = listener.documents[2][1]["data"]["image"]
    assert got.dtype == image.dtype
    np.testing.assert_array_equal(got, image)


@pytest.mark.parametrize("value", [np.array([object()]), object(), 1 << 100])
def test_what_cannot_travel_is_loud_and_harmless(hub, publishing, make_run, caplog, value):
    """The document's name and uid are logged, it is counted, nothing is raised, the others go out."""
    run = make_run(2)
    bad = {**run[2][1], "data": {**run[2][1]["data"], "motor_0": value}}
    before = counted(metrics.PUBLISHER_LOST)
    with publishing(hub.native) as publish, caplog.at_level(logging.CRITICAL):
        publish(*run[0])
        publish("event", bad)
        publish(*run[1])
        assert publish.flush(TIMEOUT)
    assert counted(metrics.PUBLISHER_LOST) == before + 1
    assert f"the event document {bad['uid']} is not published" in caplog.text
    assert hub.hub.journal.head == 2


def test_a_full_disk_is_loud_and_the_scan_goes_on(hub, publishing, make_run, caplog, monkeypatch):
    """What cannot be spooled is logged and counted; when there is room again the rest goes out."""
    run = make_run(10)
    before = counted(metrics.PUBLISHER_LOST)
    real = os.pwrite

    def no_room(fd, data, position):
        if threading.current_thread() is threading.main_thread():
            raise OSError(28, "No space left on device")
        return real(fd, data, position)

    with publishing(hub.native) as publish, caplog.at_level(logging.CRITICAL):
        publish(*run[0])
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", no_room)
            publish(*run[1])
            publish(*run[2])
        publish(*run[1])
        assert publish.flush(TIMEOUT)
    assert counted(metrics.PUBLISHER_LOST) == before + 2
    assert "No space left on device" in caplog.text
    assert hub.hub.journal.head == 2


def test_a_spool_that_cannot_be_made_is_an_error_before_the_scan(tmp_path):
    """It names the folder and the argument that chooses another."""
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"cannot make a spool in .*file.*spool="):
        Publisher("tcp://127.0.0.1:1", spool=tmp_path / "file")


@pytest.mark.parametrize("address", ["nowhere", "http://hub:80", "tcp://hub", "tcp://hub:99999"])
def test_an_address_that_is_none_is_an_error_before_the_scan(address, tmp_path):
    """It says what an address looks like."""
    with pytest.raises(AddressError, match=r"address .*"):
        Publisher(address, spool=tmp_path)


SCRIPT = """
    import sys, os, signal, pickle
    from pathlib import Path
    from tomolive import Publisher
    publish = Publisher(sys.argv[1], spool=Path(sys.argv[2]), linger=float(sys.argv[4]))
    for name, doc in pickle.load(open(sys.argv[3], "rb")):
        publish(name, doc)
"""


def publish_in_a_process(address, folder, run, ending: str = "", linger: float = 0.0) -> int:
    """Publish a run in a process that ends without closing the Publisher."""
    documents = folder / "documents.pickle"
    documents.write_bytes(pickle.dumps(run))
    script = textwrap.dedent(SCRIPT) + ending
    arguments = [sys.executable, "-c", script, address, folder / "spool", documents, str(linger)]
    return subprocess.run(list(map(str, arguments)), timeout=TIMEOUT, check=False).returncode


def test_the_process_waits_at_its_end(hub, listen, make_run, wait_for, tmp_path):
    """Without close, what is not out yet goes out before the process ends."""
    run = make_run(500)
    assert publish_in_a_process(hub.native, tmp_path, run, linger=30.0) == 0
    assert hub.hub.journal.head == len(run)
    assert not list((tmp_path / "spool").iterdir())


def test_what_a_killed_process_left_is_sent_by_the_next_publisher(
    hub, publishing, listen, make_run, wait_for, tmp_path
):
    """SIGKILL right after the last document, with the hub down: the next Publisher sends it first."""
    left, run = make_run(100), make_run(3)
    hub.stop()
    killed = publish_in_a_process(hub.native, tmp_path, left, "os.kill(os.getpid(), signal.SIGKILL)")
    assert killed == -signal.SIGKILL
    hub.start()
    listener = listen(hub.native, start="all")
    with publishing(hub.native) as publish:
        for name, doc in run:
            publish(name, doc)
        wait_for(lambda: len(listener.documents) >= len(left) + len(run))
        assert publish.flush(TIMEOUT)
    assert listener.documents == [*left, *run]
    assert not list((tmp_path / "spool").iterdir())


def test_a_torn_spool_is_mended(hub, publishing, listen, make_run, wait_for, tmp_path):
    """The whole documents of a spool whose last record was cut by a crash are sent."""
    left = make_run(5)
    hub.stop()
    publish_in_a_process(hub.native, tmp_path, left, "os.kill(os.getpid(), signal.SIGKILL)")
    (segment,) = (tmp_path / "spool").glob("*/*.log")
    os.truncate(segment, segment.stat().st_size - 5)
    hub.start()
    listener = listen(hub.native, start="all")
    with publishing(hub.native):
        wait_for(lambda: len(listener.documents) >= len(left) - 1)
    assert listener.documents == left[:-1]


def test_a_damaged_spool_is_set_aside(hub, publishing, make_run, wait_for, tmp_path, caplog):
    """It is named loudly, kept, and does not hold up the next Publisher."""
    hub.stop()
    publish_in_a_process(hub.native, tmp_path, make_run(5), "os.kill(os.getpid(), signal.SIGKILL)")
    (segment,) = (tmp_path / "spool").glob("*/*.log")
    content = bytearray(segment.read_bytes())
    content[500] ^= 1
    segment.write_bytes(content)
    hub.start()
    with publishing(hub.native) as publish, caplog.at_level(logging.ERROR):
        publish(*make_run(0)[0])
        assert publish.flush(TIMEOUT)
    assert "set aside as" in caplog.text
    assert len(list((tmp_path / "spool").glob("damaged-*"))) == 1


def test_publishers_side_by_side_have_spools_of_their_own(hub, publishing, listen, make_run, wait_for):
    """Two in one process, at the same time: each run arrives whole and in order."""
    runs = [make_run(300), make_run(300)]
    listener = listen(hub.native)

    def publish_all(publish, run) -> None:
        for name, doc in run:
            publish(name, doc)

    with publishing(hub.native) as first, publishing(hub.native) as second:
        threads = [
            threading.Thread(target=publish_all, args=pair)
            for pair in zip((first, second), runs, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: len(listener.documents) >= 606)
    for run in runs:
        uids = [doc["uid"] for _, doc in run]
        assert [doc["uid"] for _, doc in listener.documents if doc["uid"] in uids] == uids


def test_a_forked_child_publishes_with_a_spool_of_its_own(hub, publishing, listen, make_run, wait_for):
    """Neither side loses or doubles a document, and the child's documents arrive too."""
    run, child_run = make_run(20), make_run(20)
    listener = listen(hub.native)
    with publishing(hub.native) as publish:
        publish(*run[0])
        child = multiprocessing.get_context("fork").Process(
            target=_publish_in_child, args=(publish, child_run)
        )
        child.start()
        for name, doc in run[1:]:
            publish(name, doc)
        child.join(TIMEOUT)
        assert child.exitcode == 0
        wait_for(lambda: len(listener.documents) >= len(run) + len(child_run))
    for sent in (run, child_run):
        uids = [doc["uid"] for _, doc in sent]
        assert [doc["uid"] for _, doc in listener.documents if doc["uid"] in uids] == uids


def _publish_in_child(publish, run) -> None:
    for name, doc in run:
        publish(name, doc)
    publish.close(TIMEOUT)


def test_a_spool_grows_over_several_segments(
    hub, publishing, listen, make_run, wait_for, monkeypatch, tmp_path
):
    """Sent segments are deleted while later ones are written; nothing is lost between them."""
    monkeypatch.setattr(spools, "SEGMENT_BYTES", 5000)
    run = make_run(500)
    hub.stop()
    listener = listen(hub.native, start="all", wait=False)
    with publishing(hub.native) as publish:
        for name, doc in run[:300]:
            publish(name, doc)
        assert len(list((tmp_path / "spool").glob("*/*.log"))) > 5
        hub.start()
        for name, doc in run[300:]:
            publish(name, doc)
        wait_for(lambda: len(listener.documents) >= len(run))
        assert publish.flush(TIMEOUT)
        wait_for(lambda: len(list((tmp_path / "spool").glob("*/*.log"))) == 1)
    assert listener.documents == run


def test_a_document_that_is_too_large_is_left_out_alone(
    make_hub, publishing, listen, make_run, wait_for, caplog
):
    """The hub's limit is said loudly, and the documents after it go out."""
    hub = make_hub(limits=Limits(largest=20_000))
    run = make_run(3)
    large = ("start", {**make_run(0)[0][1], "note": "x" * 30_000})
    listener = listen(hub.native)
    with publishing(hub.native) as publish, caplog.at_level(logging.ERROR):
        for name, doc in [*run[:2], large, *run[2:]]:
            publish(name, doc)
        wait_for(lambda: len(listener.documents) >= len(run))
        assert publish.flush(TIMEOUT)
    assert listener.documents == run
    assert "larger than the hub takes" in caplog.text


PROXY = """
    from bluesky.callbacks.zmq import Proxy
    proxy = Proxy("127.0.0.1:*", "127.0.0.1:*")
    print(proxy.in_port, proxy.out_port, flush=True)
    proxy.start()
"""


def test_stock_addresses_reach_an_unmodified_proxy(make_run, listen, wait_for):
    """Publisher and RemoteDispatcher on both sides of bluesky's own Proxy."""
    run, first = make_run(10), make_run(0)[0]
    command = [sys.executable, "-c", textwrap.dedent(PROXY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        into, out = (port.replace("tcp", "stock") for port in proxy.stdout.readline().split())
        listener = listen(out)
        publish = Publisher(into)
        wait_for(lambda: publish(*first) or listener.documents)  # PUB drops until it is connected
        for name, doc in run:
            publish(name, doc)
        wait_for(lambda: run[-1] in listener.documents)
        publish.close()
        proxy.terminate()
    assert [document for document in listener.documents if document != first] == run


def test_one_hub_has_one_folder_of_spools(tmp_path, monkeypatch):
    """However its address is spelt; TOMOLIVE_SPOOL says where the folders lie."""
    monkeypatch.setenv("TOMOLIVE_SPOOL", str(tmp_path))
    folders = {spools.default_folder(text) for text in ("tcp://hub:5569", "hub:5569", "tcp://HUB:5569")}
    assert len(folders) == 1
    assert folders.pop().parent == tmp_path


def test_a_spool_of_another_machine_is_left_alone(tmp_path):
    """In a folder that machines share, nobody takes what may belong to a living Publisher elsewhere."""
    theirs = spools.Spool.create(tmp_path, "tcp://hub:5569", "theirs")
    theirs.append([b"frame"])
    theirs.abandon()
    about = theirs.path / "publisher.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "host": "another"}))
    assert spools.Spool.adopt(theirs.path) is None
    assert list(spools.orphans(tmp_path)) == []
    (line,) = spools.describe_all(tmp_path)
    assert "of another machine" in line


def test_a_torn_description_of_a_spool_hides_nothing(tmp_path):
    """A spool whose Publisher died while it wrote publisher.json is shown, and can be taken over."""
    left = spools.Spool.create(tmp_path, "tcp://hub:5569", "left")
    left.append([b"frame"])
    left.abandon()
    (left.path / "publisher.json").write_text("{")
    (line,) = spools.describe_all(tmp_path)
    assert "left behind" in line
    adopted = spools.Spool.adopt(left.path)
    assert adopted is not None
    assert adopted.waiting == 1
    adopted.abandon()
