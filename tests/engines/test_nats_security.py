"""Who may come to NATS, and how it is known that it is the right one: passwords, tokens, keys, TLS."""

import base64
import gc
import hashlib
import json
import logging
import secrets
import subprocess
import time

import nkeys
import pytest

from tomolive.bench.brokers import NatsBroker
from tomolive.errors import AddressError, SettingsError
from tomolive.stream.publisher import Publisher


def test_user_and_password_open_the_door_and_are_never_shown(
    start_broker, tmp_path, publish, listen, make_run, wait_for, caplog, monkeypatch
):
    """The password may stand in the address or in the environment; no log line and no spool holds it."""
    settings = 'authorization { user: "alice", password: "s3cret-word" }'
    caplog.set_level(logging.DEBUG)
    with start_broker(NatsBroker, tmp_path / "nats", settings=settings, user="alice:s3cret-word@") as broker:
        run = make_run(3)
        publish(broker.address, run)
        monkeypatch.setenv("TOMOLIVE_NATS_PASSWORD", "s3cret-word")
        without = broker.address.replace(":s3cret-word@", "@")
        listener = listen(without, start="all")
        wait_for(lambda: len(listener.documents) >= len(run))
        assert listener.documents == run
        monkeypatch.setenv("TOMOLIVE_NATS_PASSWORD", "wrong-word")
        refused = listen(without, start="all", wait=False)
        refused.join()
        assert isinstance(refused.error, AddressError)
    spooled = [file.read_bytes() for file in (tmp_path / "spool").rglob("*") if file.is_file()]
    words = [caplog.text.encode(), str(refused.error).encode(), *spooled]
    assert not any(b"s3cret-word" in text or b"wrong-word" in text for text in words)


def test_a_token_opens_the_door(start_broker, tmp_path, publish, listen, make_run, wait_for):
    """A token stands where the user would."""
    settings = 'authorization { token: "t0ken" }'
    with start_broker(NatsBroker, tmp_path / "nats", settings=settings, user="t0ken@") as broker:
        run = make_run(2)
        publish(broker.address, run)
        listener = listen(broker.address, start="all")
        wait_for(lambda: listener.documents == run)


def test_a_refused_publisher_keeps_its_documents_and_says_why(
    start_broker, tmp_path, make_run, wait_for, caplog
):
    """With a wrong password documents stay in the spool, and the log says that the broker refuses."""
    settings = 'authorization { user: "alice", password: "right" }'
    with start_broker(NatsBroker, tmp_path / "nats", settings=settings, user="alice:wr0ng@") as broker:
        publisher = Publisher(broker.address, spool=tmp_path / "spool")
        for name, doc in make_run(2):
            publisher(name, doc)
        wait_for(lambda: "refuses this Publisher" in caplog.text)
        assert publisher.waiting == 5
        publisher.close(0)
    assert "wr0ng" not in caplog.text


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, and certificates of 127.0.0.1 and of a client that it has signed."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ["-newkey", "rsa:2048", "-nodes"]
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=ca",
            "-addext", "keyUsage=critical,keyCertSign", "-addext",
            "basicConstraints=critical,CA:TRUE")  # fmt: skip
    openssl("req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1")
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "server.pem", "-days", "2", "-extfile", "ext")  # fmt: skip
    openssl("req", *new_key, "-keyout", "client.key", "-out", "client.csr", "-subj", "/CN=beamline")
    openssl("x509", "-req", "-in", "client.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "client.pem", "-days", "2")  # fmt: skip
    return folder


def _key(prefix: int) -> nkeys.KeyPair:
    """Make a key; its letter says whose it is."""
    return nkeys.from_seed(nkeys.encode_seed(secrets.token_bytes(32), prefix))


def _user_key() -> nkeys.KeyPair:
    return _key(nkeys.PREFIX_BYTE_USER)


def _jwt(signed_by: nkeys.KeyPair, about: nkeys.KeyPair, kind: str, **claims) -> str:
    """Return a signed statement in NATS' format about a key."""

    def part(value: dict) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    body = {
        "iat": int(time.time()), "iss": signed_by.public_key.decode(), "name": kind,
        "sub": about.public_key.decode(), "nats": {"type": kind, "version": 2, **claims},
    }  # fmt: skip
    body["jti"] = base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).rstrip(b"=").decode()
    text = f"{part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{part(body)}"
    return f"{text}.{base64.urlsafe_b64encode(signed_by.sign(text.encode())).rstrip(b'=').decode()}"


def test_a_key_opens_the_door_and_another_one_does_not(
    start_broker, tmp_path, publish, listen, make_run, wait_for
):
    """The broker knows public keys; the seed stays in a file here, which the address names."""
    ours, other = _user_key(), _user_key()
    for name, key in (("ours", ours), ("other", other)):
        (tmp_path / name).write_bytes(key.seed)
    (tmp_path / "nonsense").write_text("SUNONSENSE")
    settings = f"authorization {{ users: [ {{ nkey: {ours.public_key.decode()} }} ] }}"
    with start_broker(NatsBroker, tmp_path / "nats", settings=settings) as broker:
        run = make_run(2)
        publish(f"{broker.address}?nkey={tmp_path}/ours", run)
        listener = listen(f"{broker.address}?nkey={tmp_path}/ours", start="all")
        wait_for(lambda: listener.documents == run)
        for name, kind in (("other", AddressError), ("nonsense", SettingsError), ("missing", SettingsError)):
            refused = listen(f"{broker.address}?nkey={tmp_path}/{name}", start="all", wait=False)
            refused.join()
            assert isinstance(refused.error, kind), name
            assert ours.seed.decode() not in str(refused.error)


def test_a_credentials_file_of_an_operator_opens_the_door(
    start_broker, tmp_path, publish, listen, make_run, wait_for, monkeypatch
):
    """What a facility hands out: a JWT that its account has signed, and the seed; also by the environment."""
    operator, account = _key(nkeys.PREFIX_BYTE_OPERATOR), _key(nkeys.PREFIX_BYTE_ACCOUNT)
    user, stranger = _user_key(), _key(nkeys.PREFIX_BYTE_ACCOUNT)
    system = _key(nkeys.PREFIX_BYTE_ACCOUNT)  # in which the servers talk of themselves
    everything = dict.fromkeys(
        ["subs", "conn", "leaf", "imports", "exports", "data", "payload", "mem_storage", "disk_storage",
         "streams", "consumer"], -1,
    ) | {"wildcards": True}  # fmt: skip
    unlimited = dict.fromkeys(["subs", "data", "payload"], -1)
    accounts = {key.public_key.decode(): key for key in (account, system)}
    known = "\n".join(
        f"{name}: {_jwt(operator, key, 'account', limits=everything if key is account else unlimited)}"
        for name, key in accounts.items()
    )
    settings = (
        f"operator: {_jwt(operator, operator, 'operator')}\nsystem_account: {system.public_key.decode()}\n"
        f"resolver: MEMORY\nresolver_preload: {{\n{known}\n}}"
    )

    def credentials(name: str, signed_by: nkeys.KeyPair) -> None:
        about = _jwt(signed_by, user, "user", **unlimited)
        (tmp_path / name).write_text(
            f"-----BEGIN NATS USER JWT-----\n{about}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
        )

    credentials("ours.creds", account)
    credentials("forged.creds", stranger)
    with start_broker(NatsBroker, tmp_path / "nats", settings=settings) as broker:
        run = make_run(2)
        publish(f"{broker.address}?creds={tmp_path}/ours.creds", run)
        monkeypatch.setenv("TOMOLIVE_NATS_CREDS", str(tmp_path / "ours.creds"))
        listener = listen(broker.address, start="all")
        wait_for(lambda: listener.documents == run)
        (tmp_path / "nonsense.creds").write_text("nonsense")
        for name, kind in (("forged", AddressError), ("nonsense", SettingsError)):
            refused = listen(f"{broker.address}?creds={tmp_path}/{name}.creds", start="all", wait=False)
            refused.join()
            assert isinstance(refused.error, kind), name


# nats-py leaves the socket of a handshake that failed to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_with_an_authority_of_ones_own(
    start_broker, tmp_path, certificates, publish, listen, make_run, wait_for
):
    """The broker must show a certificate that the named authority has signed."""
    settings = f'tls {{ cert_file: "{certificates}/server.pem", key_file: "{certificates}/server.key" }}'
    options = f"?ca={certificates}/ca.pem"
    with start_broker(NatsBroker, tmp_path / "nats", settings=settings, options=options) as broker:
        run = make_run(2)
        publish(broker.address, run)
        listener = listen(broker.address, start="all")
        wait_for(lambda: listener.documents == run)
        distrusting = listen(broker.address.partition("?")[0] + "?tls=yes", start="all", wait=False)
        distrusting.join()
        assert "certificate" in str(distrusting.error)
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broker_may_ask_for_a_certificate(
    start_broker, tmp_path, certificates, publish, listen, make_run, wait_for, caplog
):
    """With a certificate of our own the broker lets us in; without it, documents stay in the spool."""
    settings = (
        f'tls {{ cert_file: "{certificates}/server.pem", key_file: "{certificates}/server.key", '
        f'ca_file: "{certificates}/ca.pem", verify: true }}'
    )
    with start_broker(NatsBroker, tmp_path / "nats", settings=settings) as broker:
        authority = f"{broker.address}?ca={certificates}/ca.pem"
        ours = f"{authority}&cert={certificates}/client.pem&key={certificates}/client.key"
        run = make_run(2)
        publish(ours, run)
        listener = listen(ours, start="all")
        wait_for(lambda: listener.documents == run)
        stranger = publish(authority, run, wait=False)
        wait_for(lambda: "documents stay in the spool" in caplog.text or "refuses" in caplog.text)
        assert stranger.waiting == len(run)
    gc.collect()
