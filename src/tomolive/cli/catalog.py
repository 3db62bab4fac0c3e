"""``tomolive catalog`` and ``tomolive archive``."""

import os
from pathlib import Path

import click

from tomolive import service
from tomolive.errors import SettingsError

PREFIXES = "/there=/here"


@click.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path, file_okay=False), required=True,
              help="Folder of the catalog; made if it is not there.")  # fmt: skip
@click.option("--listen", default="127.0.0.1:8010", show_default=True, metavar="HOST:PORT",
              help="Port 0 lets the system choose.")  # fmt: skip
@click.option("--readable", type=click.Path(path_type=Path, file_okay=False), multiple=True,
              help="Folder where detectors write (repeat); files elsewhere are not read.")  # fmt: skip
@click.option(
    "--database", metavar="URI", help="postgresql://USER@HOST/NAME for metadata, instead of SQLite."
)
@click.option("--storage", metavar="URI", help="postgresql://USER@HOST/NAME for tables, instead of DuckDB.")
@click.option("--show-config", is_flag=True,
              help="Print the configuration for `tiled serve config` instead, and end.")  # fmt: skip
def catalog(
    directory: Path,
    listen: str,
    readable: tuple[Path, ...],
    database: str | None,
    storage: str | None,
    show_config: bool,
) -> None:
    """Serve a Tiled catalog for this machine, on SQLite and DuckDB in one folder, or on PostgreSQL.

    The key of its one user is taken from TILED_SINGLE_USER_API_KEY, or made once and kept in the folder.
    """
    from tomolive.catalog.server import CatalogServer, Databases, configuration_in, require_loopback

    if (database is None) != (storage is None):
        raise SettingsError("--database and --storage go together: two databases, each with its own name")
    databases = Databases(database, storage) if database and storage else None
    if show_config:
        import yaml

        click.echo(
            yaml.safe_dump(configuration_in(directory, readable, databases), sort_keys=False), nl=False
        )
        return
    service.setup_logging()
    host, port = parse_listen(listen)
    require_loopback(host)
    server = CatalogServer(directory, readable, databases, host=host, port=port)
    service.stop_on_signals(server.request_stop)

    def ready() -> None:
        click.echo(f"catalog at {server.uri}")
        service.notify_ready(uri=server.uri)

    server.run(ready)


@click.command()
@click.option(
    "--hub", "address", default="tcp://127.0.0.1:5569", show_default=True, help="Where documents are."
)
@click.option("--catalog", "uri", required=True, help="Address of the Tiled server.")
@click.option("--mount", "mounts", multiple=True, metavar=PREFIXES,
              help="The Tiled server sees the files under /there in documents as /here.")  # fmt: skip
@click.option("--api-key", envvar=["TILED_API_KEY", "TILED_SINGLE_USER_API_KEY"],
              help="Key of the Tiled server, if it is not in the address.")  # fmt: skip
def archive(address: str, uri: str, mounts: tuple[str, ...], api_key: str | None) -> None:
    """Write every run of the hub to a Tiled catalog, from where the last archive stopped."""
    # Tiled's client would try in silence for most of a minute; the archive waits by itself, and says so.
    os.environ.setdefault("TILED_RETRY_TIMEOUT", "4")
    from tomolive.catalog.keeper import ArchiveKeeper
    from tomolive.stream.sockets import require_listener

    service.setup_logging()
    keeper = ArchiveKeeper(address, uri, api_key=api_key, mounts=parse_mounts(mounts))
    require_listener(address)
    service.stop_on_signals(keeper.stop)

    def ready() -> None:
        click.echo(f"archiving {address} to {uri.partition('?')[0]}")
        service.notify_ready()

    keeper.run(ready)


def parse_listen(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``.

    >>> parse_listen("[::1]:8010")
    ('::1', 8010)
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise SettingsError(f"--listen {text}: expected HOST:PORT, such as 127.0.0.1:8010")
    return host.strip("[]"), int(port)


def parse_mounts(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return ``{"/there": "/here"}`` from ``("/there=/here",)``."""
    for pair in pairs:
        there, _, here = pair.partition("=")
        if not there.startswith("/") or not here.startswith("/"):
            raise SettingsError(f"--mount {pair}: expected two absolute paths, {PREFIXES}")
    return dict(pair.split("=", 1) for pair in pairs)
