"""``tomolive keys``: who may connect to a hub."""

from pathlib import Path

import click

from tomolive.stream import keys as keyring

HUB_KEYS = click.Path(path_type=Path, file_okay=False)
RIGHT = click.Choice(list(keyring.RIGHTS))


@click.group()
def keys() -> None:
    """Make keys, and say who may connect to a hub."""


@keys.command()
@click.argument("folder", type=HUB_KEYS)
def server(folder: Path) -> None:
    """Make a hub's keys in FOLDER, for `tomolive hub --keys FOLDER`."""
    public = keyring.make_server(folder)
    click.echo(f"the hub's keys are in {folder}; every client needs a copy of {public}")


@keys.command()
@click.argument("folder", type=HUB_KEYS)
@click.option("--server", "server_key", type=click.Path(path_type=Path), help="The hub's server.key.")
def client(folder: Path, server_key: Path | None) -> None:
    """Make a client's keys in FOLDER, on the machine that will use them."""
    public = keyring.make_client(folder, server_key)
    click.echo(f"give {public} to whoever keeps the hub's keys: `tomolive keys allow HUB_KEYS NAME {public}`")
    if server_key is None:
        click.echo(f"and put a copy of the hub's server.key beside it, as {folder / 'server.key'}")
    click.echo(f"then set {keyring.ENVIRONMENT}={folder}")


@keys.command()
@click.argument("folder", type=HUB_KEYS)
@click.argument("name")
@click.argument("public_key", type=click.Path(path_type=Path))
@click.option("--right", type=RIGHT, default="both", show_default=True, help="What this client may do.")
def allow(folder: Path, name: str, public_key: Path, right: str) -> None:
    """Let the client of PUBLIC_KEY connect, as NAME, to the hub whose keys are in FOLDER."""
    keyring.allow(folder, name, right, public_key)
    click.echo(f"{name} may {' and '.join(sorted(keyring.RIGHTS[right], reverse=True))}")


@keys.command()
@click.argument("folder", type=HUB_KEYS)
@click.argument("name")
def revoke(folder: Path, name: str) -> None:
    """Let NAME no longer connect to the hub whose keys are in FOLDER."""
    keyring.revoke(folder, name)
    click.echo(f"{name} may no longer connect")


@keys.command(name="list")
@click.argument("folder", type=HUB_KEYS)
def list_(folder: Path) -> None:
    """List who may connect to the hub whose keys are in FOLDER."""
    for file, right in keyring.clients(folder):
        click.echo(f"{file.stem:24} {right}")
