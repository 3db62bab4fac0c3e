"""``tomolive hub`` and ``tomolive watch``."""

import threading
from pathlib import Path
from typing import Literal

import click

from tomolive import service
from tomolive.cli.options import config_option
from tomolive.config import Settings, parse_size
from tomolive.errors import SettingsError

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--journal", type=FOLDER,
              help="Folder that keeps every document.  [required, or in the settings]")  # fmt: skip
@click.option("--native", metavar="HOST:PORT", help="tomolive's own protocol; port 0: the system chooses.")
@click.option("--in", "stock_in", metavar="HOST:PORT", help="For bluesky's own Publishers.")
@click.option("--out", "stock_out", metavar="HOST:PORT", help="For bluesky's own RemoteDispatchers.")
@click.option("--http", metavar="HOST:PORT", help="/healthz and /metrics.")
@click.option(
    "--fsync",
    type=click.Choice(["always", "interval", "never"]),
    help="When documents are forced to the disk; matters for power cuts only.  [default: interval]",
)
@click.option("--keep-size", metavar="BYTES", help="Let go of the oldest documents beyond this; 100M, 20G.")
@click.option(
    "--keep-days", type=click.FloatRange(min=0, min_open=True), help="Let go of documents older than this."
)
@click.option(
    "--cursor-days", type=click.FloatRange(min=0, min_open=True), default=90.0, show_default=True,
    help="Forget how far a consumer has come that was not seen for so long.",
)  # fmt: skip
@click.option("--keys", type=FOLDER, help="Folder of the hub's keys, made by `tomolive keys server`.")
@click.option("--insecure", is_flag=True, help="Listen beyond loopback without keys.")
@config_option
@click.option("--verbose", is_flag=True)
def hub(
    journal: Path | None,
    native: str | None,
    stock_in: str | None,
    stock_out: str | None,
    http: str | None,
    fsync: Literal["always", "interval", "never"] | None,
    keep_size: str | None,
    keep_days: float | None,
    cursor_days: float,
    keys: Path | None,
    insecure: bool,
    config: Path | None,
    verbose: bool,
) -> None:
    """Receive documents, keep them, and give them to everyone who asks."""
    from tomolive.stream import health
    from tomolive.stream.hub import Hub, HubSettings

    settings = Settings.load(config)
    defaults = settings.hub
    service.setup_logging(verbose or settings.log.verbose, settings.log.format)
    journal = journal or (Path(defaults.journal) if defaults.journal else None)
    if journal is None:
        raise SettingsError("name the folder that keeps every document with --journal DIR, or as hub.journal")
    keys = keys or (Path(defaults.keys) if defaults.keys else None)
    keep_size = keep_size or defaults.keep_size
    keep_days = keep_days or defaults.keep_days
    server = Hub(
        HubSettings(
            journal=journal,
            native=native or defaults.native,
            stock_in=stock_in or defaults.stock_in,
            stock_out=stock_out or defaults.stock_out,
            keys=keys,
            insecure=insecure or defaults.insecure,
            fsync=fsync or defaults.fsync,
            keep_bytes=None if keep_size is None else parse_size(keep_size),
            keep_seconds=None if keep_days is None else keep_days * 86400,
            cursor_seconds=cursor_days * 86400,
        )
    )
    try:
        with health.serve(http or defaults.http, server.health) as page:
            service.stop_on_signals(server.stop)
            service.notify_ready(
                **{"native": server.native, "in": server.stock_in, "out": server.stock_out, "http": page}
            )
            click.echo(
                f"hub at {server.native}, bluesky's own format in at {server.stock_in} and out at "
                f"{server.stock_out}, {page}/metrics, journal {journal}"
            )
            server.run()
    finally:
        server.close()


@click.command()
@click.argument("address", default="tcp://127.0.0.1:5569")
@click.option("--start", default="new", show_default=True, help="new, newest, all, or a run's uid.")
@click.option("--lines", is_flag=True, help="One line for each document instead of progress bars.")
def watch(address: str, start: str, lines: bool) -> None:
    """Show what flows through the hub (or bluesky's proxy) at ADDRESS."""
    from tomolive.cli.watching import print_lines, show_bars
    from tomolive.stream.dispatcher import RemoteDispatcher
    from tomolive.stream.sockets import require_listener

    require_listener(address)
    dispatcher = RemoteDispatcher(address, start=start, on_error="stop")
    service.stop_on_signals(dispatcher.stop)
    ready = threading.Thread(target=lambda: dispatcher.wait_ready() and service.notify_ready(), daemon=True)
    ready.start()
    (print_lines if lines else show_bars)(dispatcher)
