"""RemoteDispatcher: the call shape of bluesky's, cursors, errors of callbacks, images."""

import json
import logging
import subprocess
import sys
import threading

import pytest
from bluesky.callbacks import CallbackBase

from tomolive import RemoteDispatcher
from tomolive.errors import AddressError, SettingsError
from tomolive.stream.messages import Position

TIMEOUT = 60


@pytest.fixture
def publish_run(hub, publishing, make_run):
    """Publish a run and wait until the hub has it."""

    def publish(events: int):
        run = make_run(events)
        with publishing(hub.native) as publisher:
            for name, doc in run:
                publisher(name, doc)
            assert publisher.flush(TIMEOUT)
        return run

    return publish


def test_a_named_consumer_goes_on_where_it_was(hub, publish_run, listen, wait_for):
    """What was done is not given again, what came meanwhile is given; also after a restart of the hub."""
    first = publish_run(10)
    listener = listen(hub.native, name="archive")
    wait_for(lambda: len(listener.documents) >= len(first))
    listener.stop()
    second = publish_run(10)
    hub.stop()
    hub.start()
    again = listen(hub.native, name="archive")
    wait_for(lambda: len(again.documents) >= len(second))
    assert listener.documents == first
    assert again.documents == second


def test_a_document_is_done_when_the_callbacks_have_returned(hub, publish_run, listen, wait_for):
    """One whose callback raised with on_error="stop" comes again; the ones before it do not."""
    listener = listen(hub.native, name="strict", on_error="stop")

    def fail(_name, doc) -> None:
        if doc["seq_num"] == 5:
            raise ValueError("cannot do the fifth")

    listener.dispatcher.subscribe(fail, name="event")
    run = publish_run(10)
    listener.join()
    assert str(listener.error) == "cannot do the fifth"
    again = listen(hub.native, name="strict")
    wait_for(lambda: run[-1] in again.documents)
    assert again.documents == run[6:]


def test_a_raising_callback_is_reported_and_the_others_go_on(hub, publish_run, listen, wait_for, caplog):
    """The log names document and uid; no document and no other callback is left out."""
    listener = listen(hub.native)
    others = []

    def fail(_name, _doc) -> None:
        raise ValueError("no good")

    listener.dispatcher.subscribe(fail, name="descriptor")
    listener.dispatcher.subscribe(lambda name, _doc: others.append(name))
    with caplog.at_level(logging.ERROR):
        run = publish_run(3)
        wait_for(lambda: len(others) >= len(run))
    assert listener.documents == run
    assert f"the descriptor document {run[1][1]['uid']}" in caplog.text
    assert "no good" in caplog.text


def test_positions_make_a_consumer_exact(hub, publish_run, listen, wait_for):
    """A position that was saved with a result leads to the very next document, without a cursor."""
    run = publish_run(10)
    places = {}

    def note(_name, doc) -> None:
        places[doc["uid"]] = dispatcher.position
        if len(places) == len(run):
            dispatcher.stop()

    dispatcher = RemoteDispatcher(hub.native, start="all")
    dispatcher.subscribe(note)
    dispatcher.start()
    fifth = places[run[4][1]["uid"]]
    assert isinstance(fifth, Position)
    again = listen(hub.native, start=fifth)
    wait_for(lambda: len(again.documents) >= len(run) - 5)
    assert again.documents == run[5:]


def test_bluesky_callbacks_subscribe_as_they_are(hub, publish_run, listen, wait_for):
    """A CallbackBase, names of documents, and unsubscribe."""
    listener = listen(hub.native)
    seen = []

    class Callback(CallbackBase):
        def start(self, doc) -> None:
            seen.append(("start", doc["uid"]))

        def stop(self, doc) -> None:
            seen.append(("stop", doc["run_start"]))

    unwanted = listener.dispatcher.subscribe(lambda *_: seen.append("unwanted"))
    listener.dispatcher.subscribe(Callback())
    listener.dispatcher.subscribe(lambda name, _doc: seen.append(name), name="descriptor")
    listener.dispatcher.unsubscribe(unwanted)
    uid = publish_run(3)[0][1]["uid"]
    wait_for(lambda: ("stop", uid) in seen)
    assert seen == [("start", uid), "descriptor", ("stop", uid)]


def test_wait_ready_waits_for_the_hub(hub):
    """False while there is no hub; true once documents published from now on will come."""
    hub.stop()
    dispatcher = RemoteDispatcher(hub.native)
    thread = threading.Thread(target=dispatcher.start)
    thread.start()
    assert not dispatcher.wait_ready(0.5)
    hub.start()
    assert dispatcher.wait_ready(TIMEOUT)
    dispatcher.stop()
    thread.join(TIMEOUT)
    assert not thread.is_alive()


def test_frames_are_asked_for_before_the_start(hub, listen):
    """Later nobody would read them; that is said rather than nothing given."""
    listener = listen(hub.native)
    with pytest.raises(SettingsError, match="before start"):
        listener.dispatcher.subscribe_frames(print)


def test_a_dispatcher_runs_once(hub):
    """Stopped before it began, or started again, ``start`` returns at once."""
    dispatcher = RemoteDispatcher(hub.native)
    dispatcher.stop()
    for _ in range(2):
        thread = threading.Thread(target=dispatcher.start)
        thread.start()
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def test_a_name_belongs_to_one_consumer(hub, listen):
    """Whoever comes later takes the cursor over; the earlier one ends with an error that says so."""
    earlier = listen(hub.native, name="archive")
    listen(hub.native, name="archive")
    earlier.join()
    assert isinstance(earlier.error, AddressError)
    assert "another consumer took over the cursor 'archive'" in str(earlier.error)


@pytest.mark.parametrize(
    "options", [{"on_error": "ignore"}, {"start": "cursor"}, {"start": "all", "address": "stock://h:1"}]
)
def test_options_that_make_no_sense_are_errors(options):
    """Before anything is connected."""
    with pytest.raises(SettingsError):
        RemoteDispatcher(**{"address": "tcp://127.0.0.1:5569", **options})


def test_a_burst_is_given_credit(hub, publish_run, listen, wait_for):
    """Far more documents than may be under way at once arrive, all and in order."""
    run = publish_run(9000)
    listener = listen(hub.native, start="all")
    wait_for(lambda: len(listener.documents) >= len(run))
    assert listener.documents == run


def test_documents_that_are_no_longer_kept_are_counted(
    make_hub, publishing, make_run, listen, wait_for, caplog
):
    """A cursor that the retention has overtaken goes on at the oldest document, with a loud word."""
    hub = make_hub(keep_bytes=20000)
    listener = listen(hub.native, name="slow")
    with publishing(hub.native) as publish:
        publish(*make_run(0)[0])
        wait_for(lambda: len(listener.documents) == 1)
        listener.stop()
        for number, (name, doc) in enumerate(make_run(500)):
            publish(name, doc)
            assert number % 50 or publish.flush(TIMEOUT)
        assert publish.flush(TIMEOUT)
    assert hub.hub.journal.first > 1
    with caplog.at_level(logging.ERROR):
        again = listen(hub.native, name="slow")
        wait_for(lambda: again.documents and again.documents[-1][0] == "stop")
    assert f"no longer has {hub.hub.journal.first - 1} documents" in caplog.text
    assert len(again.documents) == hub.hub.journal.head - hub.hub.journal.first


LATE_CONSUMER = """
import sys
from tomolive import RemoteDispatcher, service

address, root = sys.argv[1:]
dispatcher = RemoteDispatcher(address, name="late_file", roots=[root], patience=600)
dispatcher.subscribe_frames(lambda frames: None)
dispatcher.subscribe(lambda name, doc: print(name, flush=True))
service.stop_on_signals(dispatcher.stop)
dispatcher.start()
"""


def test_sigterm_ends_the_wait_for_a_late_file(hub, publishing, make_run, listen, wait_for, tmp_path):
    """The consumer ends cleanly at once; the document whose frames did not come is given again."""
    run = make_run(0)
    start, descriptor = run[0][1]["uid"], run[1][1]["uid"]
    run[1][1]["data_keys"] = {
        "camera": {
            "source": "x",
            "dtype": "array",
            "shape": [1, 4, 4],
            "dtype_numpy": "<u2",
            "external": "STREAM:",
        }
    }
    resource = {
        "uid": "resource", "run_start": start, "data_key": "camera", "mimetype": "application/x-hdf5",
        "uri": f"file://localhost{tmp_path}/late.h5",
        "parameters": {"dataset": "/entry/data", "chunk_shape": [1]},
    }  # fmt: skip
    bounds = {"indices": {"start": 0, "stop": 1}, "seq_nums": {"start": 1, "stop": 2}}
    datum = {"uid": "datum", "stream_resource": "resource", "descriptor": descriptor, **bounds}
    documents = [*run[:2], ("stream_resource", resource), ("stream_datum", datum), ("stop", run[2][1])]
    with publishing(hub.native) as publish:
        for name, doc in documents:
            publish(name, doc)
        assert publish.flush(TIMEOUT)
    command = [sys.executable, "-c", LATE_CONSUMER, hub.native, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as consumer:
        assert consumer.stdout is not None
        while consumer.stdout.readline() != "stream_datum\n":
            assert consumer.poll() is None
        consumer.terminate()
        assert consumer.wait(TIMEOUT) == 0  # far less than its patience
    again = listen(hub.native, name="late_file")
    wait_for(lambda: again.documents and again.documents[-1][0] == "stop")
    assert again.documents == documents[3:]


LOGGER = """
import logging, sys
from tomolive import RemoteDispatcher, service

service.setup_logging(format="json")
dispatcher = RemoteDispatcher(sys.argv[1], start="all")
stops = []

def tell(name, doc):
    logging.getLogger("mine").info("got a %s", name)
    if name == "stop":
        stops.append(doc)
        if len(stops) == 2:
            dispatcher.stop()

dispatcher.subscribe(tell)
dispatcher.start()
"""


def test_what_a_callback_logs_says_to_which_run_it_belongs(hub, publish_run):
    """With JSON logs each line is an object that names the run of the document at hand."""
    runs = [publish_run(3), publish_run(2)]
    done = subprocess.run(
        [sys.executable, "-c", LOGGER, hub.native],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    events = [json.loads(line) for line in done.stderr.splitlines()]
    told = [(event["message"], event["run"]) for event in events if event["logger"] == "mine"]
    assert told == [(f"got a {name}", run[0][1]["uid"]) for run in runs for name, _ in run]
    assert {event["level"] for event in events} == {"INFO"}
