"""What pages tell people to type: commands that exist, names that can be imported, valid settings."""

import ast
import doctest
import importlib
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from tomolive.cli import group
from tomolive.config import Settings

ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for path in (
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "examples").rglob("*.md")),
    )
    if "_build" not in path.parts
]
_NAMES = {path: str(path.relative_to(ROOT)) for path in PAGES}


def _blocks(page: Path, *languages: str) -> Iterator[str]:
    for found in re.finditer(r"^ *```(\w+)\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL):
        if found[1] in languages:
            yield found[2]


def _commands(block: str) -> Iterator[list[str]]:
    """Return the words of each tomolive command of a shell block."""
    for line in block.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|;|\|", line.partition(" #")[0].removeprefix("$ ")):
            words = shlex.split(part.strip().rstrip("&"), comments=True)
            while words and ("=" in words[0] or words[0] in ("sudo", "exec")):
                words = words[1:]
            if words and Path(words[0]).name == "tomolive":
                yield words[1:]


def _parse(words: list[str]) -> None:
    """Have click read a command line, as it would before it runs it."""
    command: click.Command = group
    context = click.Context(group, info_name="tomolive")
    while isinstance(command, click.Group):
        assert words, "a command is named"
        below = command.get_command(context, words[0])
        assert below is not None or words[0].startswith("--"), f"there is no command {words[0]!r}"
        if below is None:
            return
        command, words = below, words[1:]
    # Files that the page speaks of are not here; values are only read, not looked at.
    command.make_parser(context).parse_args(args=list(words))


@pytest.mark.parametrize("page", PAGES, ids=_NAMES.get)
def test_commands_exist(page: Path) -> None:
    """Each `tomolive` line of a shell block is understood by today's command line."""
    for block in _blocks(page, "sh", "bash", "console"):
        for words in _commands(block):
            try:
                _parse(words)
            except click.ClickException as error:
                pytest.fail(f"tomolive {shlex.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("page", PAGES, ids=_NAMES.get)
def test_python_can_be_read_and_its_names_of_ours_exist(page: Path) -> None:
    """Each block is Python, and what it imports from tomolive is there."""
    for block in _blocks(page, "python"):
        if block.startswith(">>>"):
            example = doctest.DocTestParser().get_doctest(block, {}, str(page), str(page), 0)
            assert doctest.DocTestRunner(verbose=False).run(example).failed == 0
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tomolive":
                module = importlib.import_module(node.module or "")
                for name in node.names:
                    if not hasattr(module, name.name):
                        importlib.import_module(f"{node.module}.{name.name}")


@pytest.mark.parametrize("page", PAGES, ids=_NAMES.get)
def test_data_can_be_read_and_settings_are_valid(page: Path) -> None:
    """YAML, JSON and TOML parse; YAML that is settings has no mistake."""
    for block in _blocks(page, "json"):
        json.loads(block)
    for block in _blocks(page, "toml"):
        tomllib.loads(block)
    for block in _blocks(page, "yaml", "yml"):
        values = yaml.safe_load(block)
        if isinstance(values, dict) and values and set(values) <= set(Settings.model_fields):
            Settings.model_validate(values)


def test_a_wrong_command_is_noticed() -> None:
    """The look at commands can fail."""
    with pytest.raises(AssertionError):
        _parse(["hubb"])
    with pytest.raises(click.NoSuchOption):
        _parse(["hub", "--jornal", "x"])
    assert list(_commands("FOO=1 .venv/bin/tomolive hub --journal x &\n")) == [["hub", "--journal", "x"]]
