"""``tomolive check``."""

from pathlib import Path

import click

from tomolive.cli.options import layout_options


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@layout_options
def check(file: Path, **paths: str | None) -> None:
    """Say what a scan FILE holds, and what a replay would use of it."""
    from tomolive.acquire.layouts import Paths
    from tomolive.acquire.scanfile import open_scan

    with open_scan(file, Paths(**paths)) as scan:
        scan.projections[0]
        click.echo("\n".join(scan.describe()))
        for path, target in scan.tree.broken.items():
            click.echo(f"  note: {path} leads to {target}, which is not there; not needed")
        given = [f"--{name.replace('_', '-')} {path}" for name, path in paths.items() if path is not None]
        click.echo(" ".join(["replay it with: tomolive replay", str(file), *given]))
