"""`tomolive check beamline.yml`: each mistake is told with its line, setting, reason, and what to do."""

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from click.testing import CliRunner

from tomolive.cli.check import check
from tomolive.config import Settings
from tomolive.operations.finding import Finding
from tomolive.operations.settings_check import check_settings
from tomolive.stream import keys

SEEDED = [
    # what is written
    ("hub:\n  nativ: 127.0.0.1:5569\n", 2, "hub.nativ", "did you mean 'native'?"),
    ("hubb:\n  native: 127.0.0.1:5569\n", 1, "hubb", "did you mean 'hub'?"),
    ("live:\n  tiles:\n    cam:\n      colum: 3\n", 4, "live.tiles.cam.colum", "did you mean 'column'?"),
    (
        "live:\n  corrections:\n    paganin:\n      energy: 20\n",
        4,
        "live.corrections.paganin.energy",
        "did you mean 'energy_kev'?",
    ),
    ("live:\n  threads: many\n", 2, "live.threads", "valid integer"),
    ("live:\n  threads: 0\n", 2, "live.threads", "greater than or equal to 1"),
    ("files:\n  patience_s: -1\n", 2, "files.patience_s", "greater than 0"),
    ("hub:\n  fsync: sometimes\n", 2, "hub.fsync", "'always', 'interval' or 'never'"),
    ("live:\n  filter: ramp\n  filter: hann\n", 3, "live.filter", "given twice"),
    ("live:\n  corrections:\n    binning: 3\n", 3, "live.corrections.binning", "1, 2, 4 or 8"),
    (
        "live:\n  corrections:\n    paganin: {energy_kev: 25, distance_m: 1, pixel_size_um: 1}\n",
        3,
        "live.corrections.paganin.delta_beta",
        "required",
    ),
    # what does not fit together
    ("hub:\n  native: 127.0.0.1\n", 2, "hub.native", "expected HOST:PORT"),
    ("page:\n  listen: 127.0.0.1:5569\n", 2, "page.listen", "that of hub.native already"),
    ("hub:\n  native: 0.0.0.0:5569\n", 2, "hub.native", "tomolive keys server"),
    ("hub:\n  address: http://hub:5569\n", 2, "hub.address", "begins with none of"),
    ("hub:\n  keep_size: lots\n", 2, "hub.keep_size", "not a size"),
    ("files:\n  mounts: {detector: /mnt}\n", 2, "files.mounts", "not an absolute path"),
    ("files:\n  roots: [data]\n", 2, "files.roots", "not an absolute path"),
    ("live:\n  filter: rampe\n", 2, "live.filter", "known are ramp"),
    ("live:\n  center: -3\n", 2, "live.center", "outside the detector"),
    ("catalog:\n  database: postgresql://a@b/c\n", 1, "catalog.storage", "go together"),
    ("catalog:\n  database: sqlite://x\n  storage: postgresql://a@b/d\n", 2, "catalog.database", "postgresql://"),
    ("catalog:\n  uri: localhost:8010\n", 2, "catalog.uri", "http://"),
    # what is not there
    ("files:\n  roots: [/no/such/folder]\n", 2, "files.roots", "is the file system mounted?"),
    ("hub:\n  keys: /no/such/keys\n", 2, "hub.keys", "/no/such/keys"),
    ("page:\n  token_file: /no/such/token\n", 2, "page.token_file", "/no/such/token"),
    ("live:\n  memory_mb: 900000000\n", 2, "live.memory_mb", "this machine has"),
    ("live:\n  results: /proc/results\n", 2, "live.results", "cannot write"),
    ("hub:\n  keep_size: 900T\n  journal: /tmp/journal\n", 2, "hub.keep_size", "more than the whole disk"),
    ("volume:\n  dask: tcp://127.0.0.1:1\n", 2, "volume.dask", "nothing answers"),
    ("hub:\n  stock_in: no-such-host.invalid:5567\n", 2, "hub.stock_in", "no address of a machine"),
]  # fmt: skip


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "beamline.yml"
    path.write_text(text)
    return path


def _mistakes(path: Path) -> list[Finding]:
    return [found for found in check_settings(path, {}) if found.level == "mistake"]


@pytest.mark.parametrize(("text", "line", "key", "words"), SEEDED, ids=[s[2] for s in SEEDED])
def test_a_seeded_mistake_is_found(tmp_path: Path, text: str, line: int, key: str, words: str) -> None:
    """The finding names the line and the setting, and its text says what is wrong."""
    path = _file(tmp_path, text)
    found = [f for f in _mistakes(path) if f.key == key]
    assert found, _mistakes(path)
    assert any(f.where == f"{path}:{line}" and words in f.text for f in found), found


def test_more_than_twenty_mistakes_are_seeded() -> None:
    """The list above is as long as it is said to be, with no mistake twice."""
    assert len({(text, key) for text, _, key, _ in SEEDED}) >= 20


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    """Whoever mends a file need not run the check once for each mistake."""
    path = _file(tmp_path, "hub:\n  nativ: x\nlive:\n  threads: 0\nfiles:\n  patience_s: no\n")
    assert {found.key for found in _mistakes(path)} == {"hub.nativ", "live.threads", "files.patience_s"}


def test_a_variable_is_named_where_it_is_wrong(tmp_path: Path) -> None:
    """What overrides the file is blamed, not the file."""
    path = _file(tmp_path, "live:\n  filter: hann\n")
    found = list(check_settings(path, {"TOMOLIVE_LIVE__FILTER": "rampe"}, look=False))
    assert [(f.where, f.key) for f in found if f.level == "mistake"] == [
        ("TOMOLIVE_LIVE__FILTER", "live.filter")
    ]


def test_good_settings_have_no_mistake(tmp_path: Path) -> None:
    """A complete file, with folders that are there, ends with exit code 0 and tells what was looked at."""
    images, token = tmp_path / "images", tmp_path / "token"
    images.mkdir()
    (images / "a.h5").touch()
    token.write_text("a-token-of-some-length\n")
    token.chmod(0o600)
    server_key = keys.make_server(tmp_path / "keys")
    client = keys.make_client(tmp_path / "client", server_key)
    keys.allow(tmp_path / "keys", "analysis", "consume", client)
    path = _file(
        tmp_path,
        f"""
hub: {{native: "0.0.0.0:5569", journal: {tmp_path}/journal, keys: {tmp_path}/keys, keep_size: 1G}}
files: {{mounts: {{/detector: {images}}}}}
live: {{results: {tmp_path}/results, filter: hann, memory_mb: 200}}
volume: {{memory_mb: 200, folder: {tmp_path}/volumes}}
page: {{listen: "0.0.0.0:8000", token_file: {token}}}
catalog: {{directory: {tmp_path}/catalog, readable: [{images}]}}
""",
    )
    assert _mistakes(path) == []
    result = CliRunner().invoke(check, [str(path)])
    assert result.exit_code == 0, result.output
    assert "1 clients may connect" in result.output
    assert "0 mistakes" in result.output
    assert not (tmp_path / "results").exists()  # looking changes nothing


def test_the_command_ends_with_1_if_there_is_a_mistake(tmp_path: Path) -> None:
    """A script can stop there."""
    result = CliRunner().invoke(check, [str(_file(tmp_path, "live:\n  filter: rampe\n")), "--no-look"])
    assert result.exit_code == 1
    assert "beamline.yml:2, live.filter" in result.output


def test_a_folder_that_we_make_ourselves_need_not_be_there(tmp_path: Path) -> None:
    """What the catalog reads and results are written to is made by the first result; any other must exist."""
    results, other = tmp_path / "results", tmp_path / "other"
    text = f"live: {{results: {results}}}\ncatalog: {{readable: [{results}, {other}]}}\n"
    found = [f for f in check_settings(_file(tmp_path, text), {}) if f.key == "catalog.readable"]
    assert [(f.level, str(f.text).split()[-1]) for f in found if str(results) in f.text] == [
        ("fine", "written")
    ]
    assert [f.level for f in found if str(other) in f.text] == ["mistake"]


def test_an_empty_mount_and_an_open_token_are_told(tmp_path: Path) -> None:
    """An empty mount point is suspicious; a token that others can read is a mistake."""
    (tmp_path / "mnt").mkdir()
    (tmp_path / "token").write_text("a-token-of-some-length")
    (tmp_path / "token").chmod(0o644)
    path = _file(tmp_path, f"files: {{roots: [{tmp_path}/mnt]}}\npage: {{token_file: {tmp_path}/token}}\n")
    found = {f.key: f for f in check_settings(path, {}) if "empty" in f.text or "others can read" in f.text}
    assert found["files.roots"].level == "warning"
    assert found["page.token_file"].level == "mistake"


@pytest.fixture
def hub_an_hour_ahead() -> Iterator[int]:
    """Serve /healthz with a clock that is an hour ahead; yield the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", formatdate(time.time() + 3600, usegmt=True))
            self.end_headers()
            self.wfile.write(b'{"ok": true}')

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_clocks_that_disagree_are_a_mistake(tmp_path: Path, hub_an_hour_ahead: int) -> None:
    """Lags and ages would lie."""
    path = _file(tmp_path, f"hub:\n  http: 127.0.0.1:{hub_an_hour_ahead}\n")
    found = [f for f in _mistakes(path) if f.key == "hub.http"]
    assert len(found) == 1
    assert "3600 s ahead of this one" in found[0].text or "3599 s ahead" in found[0].text


@pytest.mark.parametrize("scheme", ["nats", "kafka"])
def test_each_server_of_a_broker_is_asked(tmp_path: Path, scheme: str, free_port: int) -> None:
    """One of three that is away is a warning, as the others do without it; all of them are a mistake."""
    with socket.create_server(("127.0.0.1", 0)) as there:
        hosts = [f"127.0.0.1:{port}" for port in (there.getsockname()[1], free_port)]
        path = _file(tmp_path, f"hub:\n  address: {scheme}://me:secret@{','.join(hosts)}/scans\n")
        found = [f for f in check_settings(path, {}) if f.key == "hub.address"]
    assert [(f.level, host in f.text) for f, host in zip(found, hosts, strict=True)] == [
        ("fine", True), ("warning", True),
    ]  # fmt: skip
    assert not any("secret" in f.text for f in found)
    assert [f.key for f in _mistakes(path) if f.key == "hub.address"] == ["hub.address"] * 2


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ("hub: {address: 'nats://one:4222,two:many/scans'}", "hub.address"),
        ("hub: {address: 'kafka://me:secret@:9092/scans'}", "hub.address"),
    ],
)
def test_an_address_that_cannot_be_understood_is_a_mistake(tmp_path: Path, settings: str, key: str) -> None:
    """It is told with its setting, and its password is not."""
    found = [f for f in _mistakes(_file(tmp_path, settings)) if f.key == key]
    assert any("HOST:PORT" in f.text for f in found), found
    assert not any("secret" in f.text for f in found)


def test_every_setting_says_what_it_is() -> None:
    """The reference is made from these descriptions."""
    for name, section in Settings.model_fields.items():
        fields = section.annotation.model_fields  # type: ignore[union-attr]
        for key, field in fields.items():
            assert field.description or hasattr(field.annotation, "model_fields"), f"{name}.{key}"
