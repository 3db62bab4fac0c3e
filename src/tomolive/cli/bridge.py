"""``tomolive bridge``: from one hub, broker or proxy to another."""

import threading
from pathlib import Path

import click

from tomolive import service


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--name", help="Of its cursor at FROM and of its state here; default: both addresses.")
@click.option("--start", default="all", show_default=True,
              help="Where to begin the first time: all, new, newest, or a run's uid.")  # fmt: skip
@click.option("--state", type=click.Path(path_type=Path, file_okay=False),
              help="Folder for its state and spool; default: in the user's state folder.")  # fmt: skip
@click.option("--verbose", is_flag=True)
def bridge(source: str, target: str, name: str | None, start: str, state: Path | None, verbose: bool) -> None:
    """Pass every document at FROM on to TO, once, also over crashes of either end and of the bridge.

    Both are addresses: tcp:// of a hub, nats://, kafka://, or stock:// of bluesky's own proxy.
    """
    from tomolive.stream.engines.address import shown
    from tomolive.stream.engines.bridge import Bridge
    from tomolive.stream.sockets import require_listener

    service.setup_logging(verbose)
    require_listener(source)
    passing = Bridge(source, target, name=name, start=start, state=state)
    service.stop_on_signals(passing.stop)

    def tell() -> None:
        if passing.dispatcher.wait_ready():
            click.echo(f"from {shown(source)} to {shown(target)}, as {passing.name}")
            service.notify_ready()

    threading.Thread(target=tell, daemon=True).start()
    passing.run()
