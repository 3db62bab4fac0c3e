"""Groups of commands that import a command's module only when the command runs."""

import importlib
from collections.abc import Mapping

import click


class LazyGroup(click.Group):
    """A group whose commands are named as ``{"hub": "tomolive.cli.stream:hub"}``.

    ``tomolive hub`` then starts without waiting for numba, and acquisition without Tiled.
    """

    def __init__(self, *args, lazy: Mapping[str, str], **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every command's name, in alphabetical order."""
        del ctx
        return sorted(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command ``cmd_name``."""
        del ctx
        if cmd_name not in self._lazy:
            return None
        module, _, attribute = self._lazy[cmd_name].partition(":")
        return getattr(importlib.import_module(module), attribute)
