"""Where files are, and which are never opened."""

import socket

import pytest

from tomolive.errors import OutsideRootsError, SettingsError
from tomolive.files.locate import Locator


@pytest.fixture
def here(tmp_path):
    """A mounted folder with a file, and a secret beside it."""
    (tmp_path / "mount/scans").mkdir(parents=True)
    (tmp_path / "mount/scans/a b%20c#1?.h5").touch()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/file.h5").touch()
    return tmp_path


def test_a_uri_is_taken_verbatim(here):
    """Producers do not percent-encode: spaces, %, # and ? are part of the name."""
    locator = Locator({"/data": str(here / "mount")})
    path = locator.resolve("file://localhost/data/scans/a b%20c#1?.h5")
    assert path == (here / "mount/scans/a b%20c#1?.h5").resolve()
    assert path.exists()


def test_the_longest_prefix_wins_and_matches_whole_names(here):
    """/data/b is not under /data/a's mount, /database is not under /data's."""
    locator = Locator({"/data": "/x", "/data/a/": "/y", "/": "/z"}, roots=["/"])
    places = ["/data/f", "/data/a/f", "/data/ab/f", "/database/f"]
    assert [str(locator.map(place)) for place in places] == ["/x/f", "/y/f", "/x/ab/f", "/z/database/f"]


def test_windows_paths_can_be_mounted(here):
    """AreaDetector on Windows announces drives and backslashes."""
    locator = Locator({"X:\\data": str(here / "mount")})
    assert locator.map("X:\\data\\scans\\f.tif") == here / "mount/scans/f.tif"
    assert locator.map("file://localhost/X:/data/scans/f.tif") == here / "mount/scans/f.tif"


@pytest.mark.parametrize(
    "uri",
    [
        "file://localhost/data/../secret/file.h5",
        "file://localhost/data/scans/../../secret/file.h5",
        "/data/link/file.h5",
        "/etc/passwd",
        "{here}/secret/file.h5",
        "file://{host}/data/scans/x.h5",
        "file://evil.example/data/scans/x.h5",
        "http://localhost/data/scans/x.h5",
        "/data/\0",
        "",
        "relative/path.h5",
    ],
)
def test_what_lies_outside_is_refused(here, uri):
    """By .., by symbolic link, by another host, by another scheme, by an absolute path: never opened."""
    (here / "mount/link").symlink_to(here / "secret")
    locator = Locator({"/data": str(here / "mount")})
    host = socket.gethostname()
    with pytest.raises(OutsideRootsError):
        locator.resolve(uri.replace("{here}", str(here)).replace("{host}", host))


@pytest.mark.parametrize(
    ("root", "resource_path"),
    [
        ("/data", "../secret/file.h5"),
        ("/data", "/etc/passwd"),
        ("/data/scans/../..", "secret/file.h5"),
        ("/", "etc/passwd"),
        ("/data", "link/file.h5"),
    ],
)
def test_a_resource_cannot_lead_outside(here, root, resource_path):
    """Neither its root nor its resource_path, absolute or not."""
    (here / "mount/link").symlink_to(here / "secret")
    locator = Locator({"/data": str(here / "mount")})
    with pytest.raises(OutsideRootsError):
        locator.confine(locator.map_resource(root, resource_path))


def test_a_resource_is_found_by_root_and_path(here):
    """Relative to the root, or absolute in its own right; slashes at the end of the root do not matter."""
    locator = Locator({"/data": str(here / "mount")})
    places = [("/data/", "scans/f"), ("/data/scans", "f"), ("/", "data/scans/f"), ("/other", "/data/scans/f")]
    assert {locator.map_resource(*place) for place in places} == {here / "mount/scans/f"}


def test_another_host_can_be_allowed(here):
    """A site that announces its file server by name says so in its settings."""
    locator = Locator({"/data": str(here / "mount")}, hosts=["fileserver"])
    assert locator.resolve("file://FileServer/data/scans/f") == (here / "mount/scans/f").resolve()


def test_roots_can_be_links_themselves(here):
    """A mount point that is a symbolic link is allowed with all that it leads to."""
    (here / "nice").symlink_to(here / "mount")
    assert (
        Locator({"/data": str(here / "nice")}).resolve("/data/scans/f") == (here / "mount/scans/f").resolve()
    )


def test_nothing_is_allowed_without_roots():
    """The error says what to do."""
    with pytest.raises(OutsideRootsError, match="give mounts or roots"):
        Locator({}).resolve("/tmp/x.h5")


def test_a_relative_root_is_a_mistake():
    """It would depend on where the process was started."""
    with pytest.raises(SettingsError, match="absolute"):
        Locator({}, roots=["data"])
