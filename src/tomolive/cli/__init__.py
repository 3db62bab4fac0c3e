"""The command line: commands parse, load settings and call one function; errors become one line.

Each command lives in a module of this package that is imported only when the command runs, so that
``tomolive hub`` starts without waiting for numba, and acquisition without Tiled.
"""

import importlib
import sys

import click

from tomolive import __version__
from tomolive.errors import TomoliveError

COMMANDS = {
    "archive": "catalog:archive",
    "bench": "bench:bench",
    "catalog": "catalog:catalog",
    "check": "check:check",
    "demo": "demo:demo",
    "hub": "stream:hub",
    "journal": "stream:journal",
    "keys": "stream:keys",
    "live": "live:live",
    "replay": "acquire:replay",
    "simulate": "acquire:simulate",
    "spool": "stream:spool",
    "watch": "stream:watch",
}
"""Command -> module of this package : click command in it."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name, in alphabetical order."""
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command ``cmd_name``."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        return getattr(importlib.import_module(f"tomolive.cli.{module}"), attribute)


@click.group(cls=LazyGroup)
@click.version_option(__version__, prog_name="tomolive")
def group() -> None:
    """Make the data of a Bluesky run usable on another machine while the run is still going."""


def main() -> None:
    """Run the command line; an expected failure is one line and exit code 2."""
    try:
        group(prog_name="tomolive")
    except TomoliveError as error:
        click.echo(f"tomolive: {error}", err=True)
        sys.exit(2)
