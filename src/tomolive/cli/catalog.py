"""``tomolive catalog`` and ``tomolive archive``."""

import contextlib
import os
from pathlib import Path

import click

from tomolive import service
from tomolive.cli.options import config_option, parse_listen, with_scheme
from tomolive.config import Settings
from tomolive.errors import SettingsError

PREFIXES = "/there=/here"


@click.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path, file_okay=False),
              help="Folder of the catalog.  [required, or in the settings]")  # fmt: skip
@click.option("--listen", metavar="HOST:PORT",
              help="Port 0 lets the system choose.  [default: 127.0.0.1:8010]")  # fmt: skip
@click.option("--readable", type=click.Path(path_type=Path, file_okay=False), multiple=True,
              help="Folder where detectors write (repeat); files elsewhere are not read.")  # fmt: skip
@click.option(
    "--database", metavar="URI", help="postgresql://USER@HOST/NAME for metadata, instead of SQLite."
)
@click.option("--storage", metavar="URI", help="postgresql://USER@HOST/NAME for tables, instead of DuckDB.")
@click.option("--show-config", is_flag=True,
              help="Print the configuration for `tiled serve config` instead, and end.")  # fmt: skip
@config_option
def catalog(
    directory: Path | None,
    listen: str | None,
    readable: tuple[Path, ...],
    database: str | None,
    storage: str | None,
    show_config: bool,
    config: Path | None,
) -> None:
    """Serve a Tiled catalog for this machine, on SQLite and DuckDB in one folder, or on PostgreSQL.

    The key of its one user is taken from TILED_SINGLE_USER_API_KEY, or made once and kept in the folder.
    """
    from tomolive.catalog.server import CatalogServer, Databases, configuration_in, require_loopback

    settings = Settings.load(config)
    defaults = settings.catalog
    directory = directory or (Path(defaults.directory) if defaults.directory else None)
    if directory is None:
        raise SettingsError("name the folder of the catalog with --dir DIR, or as catalog.directory")
    readable = readable or tuple(map(Path, defaults.readable))
    database, storage = database or defaults.database, storage or defaults.storage
    if (database is None) != (storage is None):
        raise SettingsError("--database and --storage go together: two databases, each with its own name")
    databases = Databases(database, storage) if database and storage else None
    if show_config:
        import yaml

        click.echo(
            yaml.safe_dump(configuration_in(directory, readable, databases), sort_keys=False), nl=False
        )
        return
    service.setup_logging(settings.log.verbose, settings.log.format)
    host, port = parse_listen(listen or defaults.listen)
    require_loopback(host)
    server = CatalogServer(directory, readable, databases, host=host, port=port)
    service.stop_on_signals(server.request_stop)

    def ready() -> None:
        click.echo(f"catalog at {server.uri}")
        service.notify_ready(uri=server.uri)

    server.run(ready)


@click.command()
@click.option("--hub", "address", help="Where documents are.  [default: hub.address of the settings]")
@click.option("--catalog", "uri", help="Address of the Tiled server.  [required, or in the settings]")
@click.option("--mount", "mounts", multiple=True, metavar=PREFIXES,
              help="The Tiled server sees the files under /there in documents as /here.")  # fmt: skip
@click.option("--api-key", envvar=["TILED_API_KEY", "TILED_SINGLE_USER_API_KEY"],
              help="Key of the Tiled server, if it is not in the address.")  # fmt: skip
@click.option("--name", default="archive", show_default=True,
              help="Of the cursor at the hub: an archive to a second catalog needs another.")  # fmt: skip
@click.option("--http", metavar="HOST:PORT", help="/healthz and /metrics; without it there are none.")
@config_option
def archive(
    address: str | None,
    uri: str | None,
    mounts: tuple[str, ...],
    api_key: str | None,
    name: str,
    http: str | None,
    config: Path | None,
) -> None:
    """Write every run of the hub to a Tiled catalog, from where the last archive stopped."""
    # Tiled's client would try in silence for most of a minute; the archive waits by itself, and says so.
    os.environ.setdefault("TILED_RETRY_TIMEOUT", "4")
    from tomolive.catalog.keeper import ArchiveKeeper
    from tomolive.stream import health
    from tomolive.stream.sockets import require_listener

    settings = Settings.load(config)
    service.setup_logging(settings.log.verbose, settings.log.format)
    hub = with_scheme(address or settings.hub.address or settings.hub.native)
    uri = uri or settings.catalog.uri
    if uri is None:
        raise SettingsError("name the Tiled server with --catalog URI, or as catalog.uri")
    mapped = parse_mounts(mounts) or settings.archive.mounts
    keeper = ArchiveKeeper(hub, uri, api_key=api_key, mounts=mapped, name=name)
    require_listener(hub)
    service.stop_on_signals(keeper.stop)
    where = http or settings.archive.http
    with health.serve(where, keeper.health) if where else contextlib.nullcontext("") as page:

        def ready() -> None:
            click.echo(f"archiving {hub} to {uri.partition('?')[0]}" + (f", {page}/metrics" if page else ""))
            service.notify_ready(**({"http": page} if page else {}))

        keeper.run(ready)


def parse_mounts(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return ``{"/there": "/here"}`` from ``("/there=/here",)``."""
    for pair in pairs:
        there, _, here = pair.partition("=")
        if not there.startswith("/") or not here.startswith("/"):
            raise SettingsError(f"--mount {pair}: expected two absolute paths, {PREFIXES}")
    return dict(pair.split("=", 1) for pair in pairs)
