"""``tomolive status``."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from tomolive.cli.options import config_option
from tomolive.config import Settings


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(config: Path | None, as_json: bool) -> None:
    """Show everything that the settings name: whether it runs, how far it is behind, its last error.

    The exit code is 1 if something does not answer or is not well.
    """
    from tomolive.operations.status import ask_all, in_rows, in_words

    found = ask_all(Settings.load(config))
    if as_json:
        click.echo(json.dumps([asdict(service) for service in found], indent=1))
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("service", "state", "up", "behind", "last error", show_lines=True)
        for service, row in zip(found, in_rows(found), strict=True):
            table.add_row(*row, style=None if service.is_well else "bold red")
        console = Console()
        console.print(table)
        console.print(in_words(found))
    sys.exit(0 if all(service.is_well for service in found) else 1)
