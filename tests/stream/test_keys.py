"""Keys are files, secret ones for their owner alone; the folders say who may connect, and what for."""

import stat
import threading

import pytest
import zmq
import zmq.auth
from click.testing import CliRunner
from zmq.utils import z85

from tomolive.cli.keys import keys as command
from tomolive.errors import SettingsError
from tomolive.stream import keys
from tomolive.stream.keys import ClientKeys, Keyring


@pytest.fixture
def hub(tmp_path):
    """A hub's folder of keys."""
    keys.make_server(tmp_path / "hub")
    return tmp_path / "hub"


@pytest.fixture
def client(tmp_path, hub):
    """Return a function that makes a client's folder, and lets it connect with ``right``."""

    def make(name, right=None):
        public = keys.make_client(tmp_path / name, hub / "server.key")
        if right:
            keys.allow(hub, name, right, public)
        return ClientKeys.load(tmp_path / name)

    return make


def test_secret_keys_are_for_their_owner_alone(tmp_path, hub, client):
    """No file with a secret key can be read by anyone else."""
    client("alice")
    for secret in (hub / "server.key_secret", tmp_path / "alice" / "client.key_secret"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_files_are_certificates_of_zmq(tmp_path, hub, client):
    """zmq.auth, and so bluesky's ClientCurve, reads the same keys from the files."""
    alice = client("alice", "both")
    assert zmq.auth.load_certificate(tmp_path / "alice" / "client.key_secret") == (alice.public, alice.secret)
    assert zmq.auth.load_certificate(hub / "server.key") == (alice.server, None)
    assert zmq.auth.load_certificates(hub / "clients" / "both") == {alice.public: True}


def test_public_files_hold_no_secret(tmp_path, hub, client):
    """What is handed around holds public keys only, also where it was made from a secret file."""
    alice = client("alice")
    keys.allow(hub, "alice", "both", tmp_path / "alice" / "client.key_secret")
    for file in [*hub.rglob("*.key"), *tmp_path.rglob("*.key")]:
        assert "secret" not in file.read_text()
        assert alice.secret.decode() not in file.read_text()


def test_secret_is_not_in_the_repr(client):
    """Logging the keys of a client does not give its secret away."""
    alice = client("alice")
    assert alice.secret.decode() not in repr(alice)


@pytest.mark.parametrize("right", ["publish", "consume", "both"])
def test_rights_are_those_of_the_folder(hub, client, right):
    """A client may do what the folder says that its key lies in."""
    alice, bob = client("alice", right), client("bob")
    keyring = Keyring.load(hub)
    assert keyring.rights(alice.public.decode()) == keys.RIGHTS[right]
    assert keyring.rights(bob.public.decode()) == frozenset()
    assert keyring.rights("") == frozenset()


def test_rights_follow_the_folders(hub, client, monkeypatch):
    """A hub that runs sees within a second who was let in and who was shut out."""
    monkeypatch.setattr(keys, "_LOOK_AGAIN_SECONDS", 0)
    keyring = Keyring.load(hub)
    alice = client("alice", "publish")
    assert keyring.rights(alice.public.decode()) == {"publish"}
    keys.revoke(hub, "alice")
    assert keyring.rights(alice.public.decode()) == frozenset()


def test_rights_follow_a_file_that_is_written_over(tmp_path, hub, client, monkeypatch):
    """A client's new key, copied over its old one, counts from then on; the old one does not."""
    monkeypatch.setattr(keys, "_LOOK_AGAIN_SECONDS", 0)
    keyring = Keyring.load(hub)
    old, new = client("old", "both"), client("new")
    assert keyring.rights(old.public.decode()) == {"publish", "consume"}
    (hub / "clients" / "both" / "old.key").write_text((tmp_path / "new" / "client.key").read_text())
    assert keyring.rights(old.public.decode()) == frozenset()
    assert keyring.rights(new.public.decode()) == {"publish", "consume"}


def test_folder_that_vanishes_shuts_everyone_out(hub, client, monkeypatch):
    """A hub whose folder of clients is removed, or unmounted, goes on and lets nobody in."""
    monkeypatch.setattr(keys, "_LOOK_AGAIN_SECONDS", 0)
    keyring = Keyring.load(hub)
    alice = client("alice", "both")
    assert keyring.rights(alice.public.decode())
    (hub / "clients").rename(hub / "gone")
    assert keyring.rights(alice.public.decode()) == frozenset()


def test_damaged_file_shuts_out_one_client_only(hub, client, monkeypatch):
    """A client's file that is damaged while the hub runs does not end the hub, nor shut out anyone else."""
    monkeypatch.setattr(keys, "_LOOK_AGAIN_SECONDS", 0)
    keyring = Keyring.load(hub)
    alice = client("alice", "publish")
    (hub / "clients" / "both" / "broken.key").write_text("no key")
    assert keyring.rights(alice.public.decode()) == {"publish"}


def request(needed=b"any", mechanism=b"CURVE", key=b"\0" * 32):
    """Return ZeroMQ's question whether a client may connect."""
    return [b"1.0", b"7", needed, b"127.0.0.1", b"", mechanism, key]


@pytest.mark.parametrize(
    ("right", "needed", "status"),
    [
        ("publish", b"publish", b"200"), ("publish", b"consume", b"400"), ("publish", b"any", b"200"),
        ("consume", b"consume", b"200"), ("consume", b"publish", b"400"), ("both", b"publish", b"200"),
        ("both", b"consume", b"200"), (None, b"any", b"400"), ("both", b"else", b"400"),
    ],
)  # fmt: skip
def test_connection_needs_the_right_of_its_port(hub, client, right, needed, status):
    """A port that asks for a right admits those who have it, and knows them by their public key."""
    alice = client("alice", right)
    answer = Keyring.load(hub).answer(request(needed, key=z85.decode(alice.public)))
    assert answer[:3] == [b"1.0", b"7", status]
    assert answer[4] == (alice.public if status == b"200" else b"")
    assert len(answer) == 6


@pytest.mark.parametrize(
    "question",
    [request(mechanism=b"NULL"), request(mechanism=b"PLAIN"), request(key=b""), request(key=b"x" * 31)],
    ids=["no keys", "password", "empty key", "short key"],
)
def test_connection_without_a_key_is_denied(hub, client, question):
    """Nobody connects without a key, also while someone may."""
    client("alice", "both")
    assert Keyring.load(hub).answer(question)[2] == b"400"


@pytest.mark.parametrize(
    "question", [[], [b"1.0"], [b"2.0", *request()[1:]], request()[:-1], [*request(), b""]]
)
def test_malformed_question_is_answered_with_an_error(hub, question):
    """A question of another version or shape gets an error as its answer."""
    answer = Keyring.load(hub).answer(question)
    assert answer[2] == b"500"
    assert len(answer) == 6


class Door:
    """A ROUTER socket that admits by a keyring, and the thread that answers for it."""

    def __init__(self, keyring, needed):
        self._context = zmq.Context()
        self._zap = self._context.socket(zmq.REP)
        self._zap.bind(keys.ZAP_ENDPOINT)
        self.socket = self._context.socket(zmq.ROUTER)
        keyring.apply(self.socket, needed)
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._answer, args=(keyring,))
        self._thread.start()

    def _answer(self, keyring):
        while not self._stop.is_set():
            if self._zap.poll(50):
                self._zap.send_multipart(keyring.answer(self._zap.recv_multipart()))

    def close(self):
        """End the thread and the sockets."""
        self._stop.set()
        self._thread.join()
        self._context.destroy(linger=0)


@pytest.fixture
def door(hub):
    """A bound socket that admits whoever may publish."""
    door = Door(Keyring.load(hub), "publish")
    yield door
    door.close()


def says_hello(door, client_keys, wait):
    """Connect with these keys, say hello, and return what came of it at the other side within ``wait`` ms."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        if client_keys is not None:
            client_keys.apply(socket)
        socket.connect(f"tcp://127.0.0.1:{door.port}")
        socket.send(b"hello")
        if not door.socket.poll(wait):
            return None
        return door.socket.recv_multipart(copy=False)[-1]


def test_real_socket_admits_by_key_and_right(client, door):
    """Over real sockets only a client with a key and the right gets through, known by its public key."""
    alice, eve, reader = client("alice", "publish"), client("eve"), client("reader", "consume")
    came = says_hello(door, alice, wait=30_000)
    assert came.bytes == b"hello"
    assert came.get("User-Id") == alice.public.decode()
    for nobody in (eve, reader, None):
        assert says_hello(door, nobody, wait=300) is None
    assert says_hello(door, alice, wait=30_000).bytes == b"hello"


def test_client_insists_on_the_hubs_key(tmp_path, client, door):
    """A client does not talk to a hub whose key is another than the one it was given."""
    alice = client("alice", "publish")
    impostor, _ = zmq.curve_keypair()
    assert says_hello(door, ClientKeys(alice.public, alice.secret, impostor), wait=300) is None


def test_secret_key_that_others_can_read_is_refused(tmp_path, hub, client):
    """A secret key that lies open is refused with the command that mends it."""
    client("alice")
    (hub / "server.key_secret").chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        Keyring.load(hub)
    (tmp_path / "alice" / "client.key_secret").chmod(0o604)
    with pytest.raises(SettingsError, match="chmod 600"):
        ClientKeys.load(tmp_path / "alice")


def test_keys_are_never_written_over(hub, client):
    """Making keys where there are some is refused, and so is a client's name that is taken."""
    before = (hub / "server.key_secret").read_text()
    with pytest.raises(SettingsError, match="never written over"):
        keys.make_server(hub)
    assert (hub / "server.key_secret").read_text() == before
    client("alice", "publish")
    with pytest.raises(SettingsError, match="revoke it first"):
        keys.allow(hub, "alice", "both", hub / "server.key")


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "a b", "x" * 65])
def test_client_name_is_no_path(hub, name):
    """A client's name cannot lead out of the folder."""
    with pytest.raises(SettingsError, match="not a client's name"):
        keys.allow(hub, name, "both", hub / "server.key")


@pytest.mark.parametrize(
    "text", ["", "curve\n", '    public-key = "short"\n', f'    public-key = "{"ä" * 40}"\n']
)
def test_damaged_certificate_is_refused(tmp_path, hub, text):
    """A file that is no certificate is refused by its name."""
    (tmp_path / "x.key").write_text(text)
    with pytest.raises(SettingsError, match=r"x\.key is no CURVE certificate"):
        keys.allow(hub, "x", "both", tmp_path / "x.key")


def test_missing_files_are_named(tmp_path):
    """Where keys are missing the error names the file or the command that makes it."""
    with pytest.raises(SettingsError, match=r"server\.key_secret"):
        Keyring.load(tmp_path)
    with pytest.raises(SettingsError, match=r"client\.key_secret"):
        ClientKeys.load(tmp_path)
    with pytest.raises(SettingsError, match="tomolive keys server"):
        keys.clients(tmp_path)
    with pytest.raises(SettingsError, match="cannot"):
        keys.make_client(tmp_path / "file" / "x" if (tmp_path / "file").write_text("") else tmp_path / "file")


def test_environment_names_a_clients_folder(tmp_path, client, monkeypatch):
    """TOMOLIVE_KEYS gives every command the keys of a client; without it there are none."""
    alice = client("alice")
    monkeypatch.setenv("TOMOLIVE_KEYS", str(tmp_path / "alice"))
    assert ClientKeys.from_environment() == alice
    monkeypatch.delenv("TOMOLIVE_KEYS")
    assert ClientKeys.from_environment() is None


def test_commands_let_a_client_in_and_out(tmp_path):
    """The commands make both sides' keys, let a client in, list it and shut it out again."""

    def run(*arguments):
        result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    hub, alice = tmp_path / "hub", tmp_path / "alice"
    run("server", hub)
    assert "TOMOLIVE_KEYS" in run("client", alice, "--server", hub / "server.key")
    assert run("allow", hub, "alice", alice / "client.key", "--right", "publish") == "alice may publish\n"
    assert run("list", hub).split() == ["alice", "publish"]
    assert Keyring.load(hub).rights(ClientKeys.load(alice).public.decode()) == {"publish"}
    run("revoke", hub, "alice")
    assert run("list", hub) == ""
    with pytest.raises(SettingsError, match="no client 'alice'"):
        keys.revoke(hub, "alice")
