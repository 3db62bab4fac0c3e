"""What a consumer can do while no document waits."""

import threading

import pytest

from tomolive import RemoteDispatcher


@pytest.mark.parametrize("end", ["native", "stock"])
def test_idle_callbacks(hub, listen, publishing, make_run, wait_for, end):
    """They run in the thread of the other callbacks, again and again, until they are unsubscribed."""
    address = hub.native if end == "native" else hub.stock_out.replace("tcp://", "stock://")
    threads = []
    listener = listen(address)
    token = listener.dispatcher.subscribe_idle(lambda: threads.append(threading.current_thread().name))
    wait_for(lambda: len(threads) > 3)
    assert set(threads) == {"listener"}
    with publishing(hub.native) as publish:
        for name, doc in make_run(3):
            publish(name, doc)
        wait_for(lambda: len(listener.documents) == 6)
    before = len(threads)
    wait_for(lambda: len(threads) > before + 1)
    listener.dispatcher.unsubscribe(token)


def test_an_idle_callback_that_raises(hub, listen, publishing, make_run, wait_for):
    """It is reported; documents and the other callbacks go on."""
    calls = []
    listener = listen(hub.native)
    listener.dispatcher.subscribe_idle(lambda: 1 / 0)
    listener.dispatcher.subscribe_idle(lambda: calls.append(1))
    wait_for(lambda: len(calls) > 1)
    with publishing(hub.native) as publish:
        for name, doc in make_run(3):
            publish(name, doc)
        wait_for(lambda: len(listener.documents) == 6)


def test_a_consumer_knows_how_far_it_is_behind(hub, publishing, make_run):
    """While it reads an old run, the documents that wait are counted; at the end none do."""
    with publishing(hub.native) as publish:
        for name, doc in make_run(50):
            publish(name, doc)
        assert publish.flush(60)
    behind = []

    def note(_name, _doc) -> None:
        behind.append(dispatcher.behind)
        if len(behind) == 53:
            dispatcher.stop()

    dispatcher = RemoteDispatcher(hub.native, start="all")
    dispatcher.subscribe(note)
    dispatcher.start()
    assert behind == sorted(behind, reverse=True)
    assert behind[-1] == 0
    assert max(behind) > 10
