"""Settings: no file is a valid configuration, and every mistake is named with its place."""

from pathlib import Path

import pytest

from tomolive.config import Settings
from tomolive.errors import SettingsError


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "beamline.yml"
    path.write_text(text)
    return path


def test_no_file_is_a_valid_configuration() -> None:
    """Everything has a default."""
    assert Settings.load(environ={}).hub.native == "127.0.0.1:5569"


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    """A variable replaces one key of a section; the others stay the file's."""
    path = _file(tmp_path, "files:\n  patience_s: 3\n  memory_mb: 100\n")
    files = Settings.load(path, {"TOMOLIVE_FILES__PATIENCE_S": "7.5"}).files
    assert (files.patience_s, files.memory_mb) == (7.5, 100)


def test_a_variable_can_hold_text_that_yaml_would_misread() -> None:
    """An IPv6 address is text, a mount map is YAML."""
    settings = Settings.load(
        environ={"TOMOLIVE_HUB__NATIVE": "[::1]:5569", "TOMOLIVE_FILES__MOUNTS": "{/det: /mnt/det}"}
    )
    assert settings.hub.native == "[::1]:5569"
    assert settings.files.mounts == {"/det": "/mnt/det"}


def test_an_empty_section_is_no_mistake(tmp_path: Path) -> None:
    """A section whose keys are commented out takes the defaults, with and without the environment."""
    path = _file(tmp_path, "hub:\n  # native: 1.2.3.4:5569\n")
    assert Settings.load(path, {}) == Settings()
    assert Settings.load(path, {"TOMOLIVE_HUB__NATIVE": "h:1"}).hub.native == "h:1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hub:\n  nativ: 1\n", ("beamline.yml", "hub.nativ")),
        ("files:\n  patience_s: -1\n", ("files.patience_s", "greater than 0")),
        ("hub: 3\n", ("hub",)),
        ("- a list\n", ("expected sections",)),
        ("hub: {native: [\n", ("not YAML",)),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    """The message holds the file, the key and the reason, in one line."""
    with pytest.raises(SettingsError) as caught:
        Settings.load(_file(tmp_path, text), {})
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words)


def test_a_mistake_in_the_environment_is_named() -> None:
    """The message holds the variable's name, not the file's."""
    with pytest.raises(SettingsError, match="TOMOLIVE_FILES__MEMORY_MB"):
        Settings.load(environ={"TOMOLIVE_FILES__MEMORY_MB": "much"})
    with pytest.raises(SettingsError, match="TOMOLIVE_FILES__ROOTS"):
        Settings.load(environ={"TOMOLIVE_FILES__ROOTS": "[half"})


def test_a_file_that_is_no_text_is_said(tmp_path: Path) -> None:
    """Binary files and missing ones end in a message."""
    (tmp_path / "binary.yml").write_bytes(b"\xff\xfe\x00hub")
    with pytest.raises(SettingsError, match=r"binary\.yml"):
        Settings.load(tmp_path / "binary.yml", {})
    with pytest.raises(SettingsError, match=r"nowhere\.yml"):
        Settings.load(tmp_path / "nowhere.yml", {})
