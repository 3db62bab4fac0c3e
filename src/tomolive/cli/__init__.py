"""The command line: commands parse, load settings and call one function; errors become one line."""

import sys

import click

from tomolive import __version__, service
from tomolive.cli.lazy import LazyGroup
from tomolive.errors import TomoliveError

COMMANDS = {
    "archive": "tomolive.cli.catalog:archive",
    "bench": "tomolive.cli.bench:bench",
    "bridge": "tomolive.cli.bridge:bridge",
    "catalog": "tomolive.cli.catalog:catalog",
    "check": "tomolive.cli.check:check",
    "demo": "tomolive.cli.demo:demo",
    "export": "tomolive.cli.export:export",
    "hub": "tomolive.cli.stream:hub",
    "import": "tomolive.cli.export:import_",
    "journal": "tomolive.cli.storage:journal",
    "keys": "tomolive.cli.keys:keys",
    "live": "tomolive.cli.live:live",
    "reconstruct": "tomolive.cli.reconstruct:reconstruct",
    "replay": "tomolive.cli.replay:replay",
    "simulate": "tomolive.cli.simulate:simulate",
    "status": "tomolive.cli.status:status",
    "spool": "tomolive.cli.storage:spool",
    "watch": "tomolive.cli.stream:watch",
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
@click.version_option(__version__, prog_name="tomolive")
def group() -> None:
    """Make the data of a Bluesky run usable on another machine while the run is still going."""


EXTRAS = {
    "bluesky": "acquire", "ophyd": "acquire", "ophyd_async": "acquire",
    "tiled": "catalog", "bluesky_tiled_plugins": "catalog", "databroker": "catalog",
    "numba": "recon", "scipy": "recon", "PIL": "recon", "websockets": "view", "skimage": "demo",
    "nats": "nats", "confluent_kafka": "kafka", "distributed": "dask", "zarr": "formats", "pywt": "recon",
    "finufft": "finufft",
}  # fmt: skip
"""Package -> the extra of tomolive that brings it."""


def main() -> None:
    """Run the command line; an expected failure is one line and exit code 2."""
    service.end_on_sigterm()
    try:
        group(prog_name="tomolive")
    except TomoliveError as error:
        click.echo(f"tomolive: {error}", err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        click.echo(
            f"tomolive: this command needs {package}: pip install 'tomolive[{EXTRAS[package]}]'", err=True
        )
        sys.exit(2)
