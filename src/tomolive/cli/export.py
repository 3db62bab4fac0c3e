"""``tomolive export`` and ``tomolive import``."""

from pathlib import Path

import click

from tomolive.cli.catalog import PREFIXES, parse_mounts
from tomolive.cli.options import config_option, with_scheme
from tomolive.config import Settings
from tomolive.errors import SettingsError


@click.command()
@click.argument("run")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--catalog", "uri", help="Tiled server that has the run.  [default: catalog.uri of the settings]"
)
@click.option("--hub", "address", help="Hub that has the run in its journal, instead of a catalog.")
@click.option("--mount", "mounts", multiple=True, metavar=PREFIXES,
              help="Files under /there in documents are under /here on this machine (repeat).")  # fmt: skip
@click.option("--root", "roots", multiple=True, type=click.Path(path_type=Path),
              help="Folder that may be read (repeat); default: the local sides of --mount.")  # fmt: skip
@click.option("--results", type=click.Path(path_type=Path, file_okay=False),
              help="Folder of `tomolive live`, for its pictures.  [default: live.results]")  # fmt: skip
@click.option("--links", is_flag=True, help="Link to the files instead of copying them.")
@config_option
def export(
    run: str,
    folder: Path,
    uri: str | None,
    address: str | None,
    mounts: tuple[str, ...],
    roots: tuple[Path, ...],
    results: Path | None,
    links: bool,
    config: Path | None,
) -> None:
    """Write RUN, its results and all their files to the folder DIR, to be opened anywhere.

    RUN is a uid, its first characters, "newest", or in a catalog also a scan_id; or a file of recorded
    documents (run.jsonl). A result stands for the run that it was made of. Only files below --mount and
    --root are taken.
    """
    from tomolive.catalog.export import export as write
    from tomolive.catalog.hub_runs import from_hub
    from tomolive.catalog.run_documents import from_catalog, from_file
    from tomolive.files.locate import Locator

    settings = Settings.load(config)
    uri = uri or (None if address else settings.catalog.uri)
    if uri and address:
        raise SettingsError("give --catalog or --hub, not both")
    if run.endswith(".jsonl"):
        runs = from_file(Path(run))
    elif address:
        runs = from_hub(with_scheme(address), run)
    elif uri:
        runs = from_catalog(uri, int(run) if run.isdecimal() and len(run) < 8 else run)
    else:
        raise SettingsError("say where the run is: --catalog URI, --hub ADDRESS, or a file run.jsonl")
    here = parse_mounts(mounts) or settings.files.mounts
    allowed = [root.expanduser().absolute() for root in roots] or list(settings.files.roots)
    locator = Locator(here, [*here.values(), *allowed])
    exported = write(
        runs, folder, locator, links=links, results=results or Path(settings.live.results), say=_progress
    )
    click.echo(f"{len(exported.runs)} runs, {exported.files} files, {exported.size / 1e6:.1f} MB in {folder}")
    for problem in exported.problems:
        click.echo(f"not taken along: {problem}", err=True)


@click.command(name="import")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--catalog", "uri", help="Tiled server to write the runs to; it must be allowed to read DIR.")
@click.option("--hub", "address", help="Hub to publish the runs to.")
def import_(folder: Path, uri: str | None, address: str | None) -> None:
    """Put the runs that `tomolive export` wrote to DIR into a catalog, a hub, or both.

    Runs that are there already are not written twice.
    """
    from tomolive.catalog.exported import import_to_catalog, import_to_hub, mounts_of

    if not (uri or address):
        raise SettingsError("say where to: --catalog URI, --hub ADDRESS, or both")
    if address:
        for uid, what in import_to_hub(folder, with_scheme(address)):
            click.echo(f"hub: run {uid} {what}")
        ((there, here),) = mounts_of(folder).items()
        click.echo(f"who reads its images: --mount {there}={here}")
    if uri:
        from tomolive.catalog.open import open_catalog

        client = open_catalog(uri)
        try:
            for uid, what in import_to_catalog(folder, client):
                click.echo(f"catalog: run {uid} {what}")
        finally:
            client.context.close()


def _progress(line: str) -> None:
    click.echo(line, err=True)
