"""CURVE on the native port: who may connect, and what for."""

import asyncio
import logging
import threading

import pytest
from bluesky.callbacks.zmq import ClientCurve
from bluesky.callbacks.zmq import Publisher as StockPublisher
from bluesky.callbacks.zmq import RemoteDispatcher as StockDispatcher

from tomolive.errors import AddressError
from tomolive.stream import keys as keyring
from tomolive.stream.keys import ClientKeys

TIMEOUT = 60


@pytest.fixture
def folders(tmp_path):
    """Keys of a hub, and of clients that may publish, consume, both, or nothing."""
    server_key = keyring.make_server(tmp_path / "hub")
    clients = {}
    for name in ("publish", "consume", "both", "nothing"):
        public = keyring.make_client(tmp_path / name, server_key)
        if name != "nothing":
            keyring.allow(tmp_path / "hub", name, name, public)
        clients[name] = ClientKeys.load(tmp_path / name)
    return tmp_path / "hub", clients


@pytest.fixture
def locked(make_hub, folders):
    """A hub with keys."""
    return make_hub(keys=folders[0])


def test_documents_flow_between_clients_with_their_rights(
    locked, folders, publishing, listen, make_run, wait_for
):
    """A key for publishing publishes, a key for consuming consumes."""
    clients = folders[1]
    run = make_run(20)
    listener = listen(locked.native, keys=clients["consume"])
    with publishing(locked.native, keys=clients["publish"]) as publish:
        for name, doc in run:
            publish(name, doc)
        wait_for(lambda: len(listener.documents) >= len(run))
    assert listener.documents == run


def test_a_key_for_publishing_may_not_consume(locked, folders, listen):
    """It is refused with the reason."""
    listener = listen(locked.native, wait=False, keys=folders[1]["publish"])
    listener.join()
    assert isinstance(listener.error, AddressError)
    assert "may not consume" in str(listener.error)


def test_a_key_for_consuming_may_not_publish(locked, folders, publishing, make_run, caplog, wait_for):
    """It is refused with the reason, the documents stay in the spool, and the scan does not notice."""
    run = make_run(3)
    with publishing(locked.native, keys=folders[1]["consume"]) as publish:
        with caplog.at_level(logging.CRITICAL):
            for name, doc in run:
                publish(name, doc)
            wait_for(lambda: "may not publish" in caplog.text)
        assert publish.waiting == len(run)
    assert locked.hub.journal.head == 0


def test_an_unlisted_or_missing_key_is_not_let_in(locked, folders, publishing, make_run):
    """Neither a client without a key nor one that was never allowed gets a document in."""
    for nobody in (folders[1]["nothing"], None):
        with publishing(locked.native, keys=nobody) as publish:
            for name, doc in make_run(3):
                publish(name, doc)
            assert not publish.flush(1.0)
    assert locked.hub.journal.head == 0


def test_a_consumer_without_a_key_says_why_nothing_comes(locked, listen, wait_for, caplog, monkeypatch):
    """The hub does not answer strangers; the stranger's own log says what may be the reason, once."""
    monkeypatch.setattr("tomolive.stream.sources._SILENT_SECONDS", 0.5)
    listener = listen(locked.native, wait=False)
    wait_for(lambda: "TOMOLIVE_KEYS" in caplog.text)
    assert not listener.dispatcher.wait_ready(1)
    assert caplog.text.count("nothing comes from") == 1


def test_a_client_that_is_shut_out_gets_no_more(locked, folders, publishing, listen, make_run, wait_for):
    """Revoking the key of a consumer that is connected ends it, with the reason; others go on."""
    hub, clients = folders
    shut_out = listen(locked.native, keys=clients["consume"])
    stays = listen(locked.native, keys=clients["both"])
    keyring.revoke(hub, "consume")
    with publishing(locked.native, keys=clients["publish"]) as publish:
        shut_out.join()
        run = make_run(3)
        for name, doc in run:
            publish(name, doc)
        wait_for(lambda: len(stays.documents) >= len(run))
    assert isinstance(shut_out.error, AddressError)
    assert "no longer" in str(shut_out.error)
    assert shut_out.documents == []
    assert stays.documents == run


def test_bluesky_classes_use_the_same_files(locked, folders, tmp_path, make_run, wait_for):
    """Bluesky's Publisher and RemoteDispatcher connect with the files as their ClientCurve, by right."""

    def curve(name):
        return ClientCurve(tmp_path / name / "client.key_secret", tmp_path / "hub" / "server.key")

    heard = []
    dispatcher = StockDispatcher(locked.stock_out, curve_config=curve("consume"))
    dispatcher.subscribe(lambda name, doc: heard.append((name, doc)))
    thread = threading.Thread(target=_run_stock, args=(dispatcher,))
    thread.start()
    denied = StockPublisher(locked.stock_in, curve_config=curve("consume"))
    allowed = StockPublisher(locked.stock_in, curve_config=curve("publish"))
    try:
        wait_for(lambda: locked.hub.stock_listeners > 0)
        probe = make_run(0)[0]

        def is_through():
            denied("start", {"uid": "by a consumer", "time": 1.0})
            allowed(*probe)
            return probe in heard

        wait_for(is_through)
        run = make_run(3)
        for name, doc in run:
            allowed(name, doc)
        wait_for(lambda: run[-1] in heard)
    finally:
        denied.close()
        allowed.close()
        dispatcher.loop.call_soon_threadsafe(dispatcher._task.cancel)
        thread.join(TIMEOUT)
    assert [document for document in heard if document != probe] == run


def test_a_stock_publisher_that_is_shut_out_is_not_heard(locked, folders, tmp_path, make_run, wait_for):
    """A key that is revoked while bluesky's Publisher is connected publishes no more; others go on."""

    def curve(name):
        return ClientCurve(tmp_path / name / "client.key_secret", tmp_path / "hub" / "server.key")

    shut_out = StockPublisher(locked.stock_in, curve_config=curve("publish"))
    stays = StockPublisher(locked.stock_in, curve_config=curve("both"))
    journal = locked.hub.journal
    try:
        wait_for(
            lambda: (
                shut_out("start", {"uid": "earlier", "time": 1.0}) or journal.find_run("earlier") is not None
            )
        )
        keyring.revoke(folders[0], "publish")
        denied = locked.hub.exchange.counts.denied
        wait_for(
            lambda: (
                shut_out("start", {"uid": "earlier", "time": 1.0})
                or locked.hub.exchange.counts.denied > denied
            )
        )
        shut_out("start", {"uid": "later", "time": 1.0})
        wait_for(
            lambda: stays("start", {"uid": "stays", "time": 1.0}) or journal.find_run("stays") is not None
        )
    finally:
        shut_out.close()
        stays.close()
    assert journal.find_run("later") is None


def _run_stock(dispatcher):
    with pytest.raises(asyncio.CancelledError):
        dispatcher.start()


def test_a_publisher_that_was_refused_tries_again(
    locked, folders, publishing, make_run, caplog, wait_for, monkeypatch
):
    """When its key gets the right, everything that waited arrives."""
    monkeypatch.setattr("tomolive.stream.publisher._AFTER_FAILURE_SECONDS", 0.5)
    folder, clients = folders
    with publishing(locked.native, keys=clients["consume"]) as publish:
        with caplog.at_level(logging.CRITICAL):
            for name, doc in make_run(3):
                publish(name, doc)
            wait_for(lambda: "may not publish" in caplog.text)
        keyring.revoke(folder, "consume")
        keyring.allow(folder, "consume", "both", folder.parent / "consume" / "client.key")
        assert publish.flush(TIMEOUT)
    assert locked.hub.journal.head == 6
