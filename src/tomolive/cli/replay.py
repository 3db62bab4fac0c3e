"""``tomolive replay``."""

import logging
import sys
from pathlib import Path
from typing import Literal

import click

from tomolive import service
from tomolive.cli.options import layout_options, require_center_inside
from tomolive.errors import SettingsError


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--rate", default=36.0, show_default=True, type=click.FloatRange(0, min_open=True),
              help="Frames a second.")  # fmt: skip
@click.option("--hub", metavar="ADDRESS", help="A hub that runs already; default: start all that is needed.")
@click.option("--dir", "directory", default="tomolive-replay", show_default=True,
              type=click.Path(path_type=Path), help="Folder for all that is made.")  # fmt: skip
@click.option("--style", default="async", show_default=True, type=click.Choice(["async", "classic"]),
              help="ophyd-async (StreamDatum) or classic ophyd (Datum).")  # fmt: skip
@click.option("--once", is_flag=True, help="End after the scan; without it the page stays.")
@click.option("--center", type=float, help="Rotation centre, detector column.  [default: estimated]")
@click.option("--page", help="HOST:PORT of the page.  [default: 127.0.0.1:8000]")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the summary to this file.")
@click.option("--spool", type=click.Path(path_type=Path), help="Folder of the Publisher's spool, with --hub.")
@layout_options
def replay(
    file: Path,
    rate: float,
    hub: str | None,
    directory: Path,
    style: Literal["async", "classic"],
    once: bool,
    center: float | None,
    page: str | None,
    json_file: Path | None,
    spool: Path | None,
    **paths: str | None,
) -> None:
    """Show an existing scan FILE as a live run.

    Data Exchange and NXtomo files are recognised. Another layout is read with the paths of its datasets;
    tomolive check FILE says what was found.
    """
    from tomolive.acquire.layouts import Paths
    from tomolive.acquire.scanfile import open_scan

    _refuse_idle_options(hub, {"--center": center, "--json": json_file, "--page": page}, {"--spool": spool})
    with open_scan(file, Paths(**paths)) as found:  # what is wrong with it is said before anything starts
        description = "\n".join(found.describe())
        require_center_inside(center, found.projections.columns)
    if hub is None:
        from tomolive.demo.folder import Folder
        from tomolive.demo.run import Plan, run

        click.echo(description)
        folder = Folder(directory.absolute())
        given = [
            part for name, path in paths.items() if path for part in (f"--{name.replace('_', '-')}", path)
        ]
        scan = ["replay", str(file), "--rate", str(rate), "--style", style, "--dir", str(folder.data), *given]
        plan = Plan(lambda _: scan, folder, page or "127.0.0.1:8000", center, once)
        sys.exit(run(plan, click.echo, json_file))

    from tomolive.acquire.replay import run_replay
    from tomolive.acquire.session import Session
    from tomolive.stream.sockets import require_listener

    service.setup_logging()
    # It logs each change of state, and the traceback of an error that is raised here anyway.
    logging.getLogger("bluesky").setLevel(logging.CRITICAL)
    require_listener(hub)
    with Session(hub, spool=spool) as session:
        service.stop_on_signals(session.stop)
        service.notify_ready()
        outcome = run_replay(
            file, session, directory, rate, paths=Paths(**paths), style=style, say=_to_stderr
        )
        click.echo(outcome.run_uid)
        if session.stopping.is_set():
            sys.exit(130)


def _refuse_idle_options(
    hub: str | None, without_hub: dict[str, object], with_hub: dict[str, object]
) -> None:
    """Say that an option would do nothing, instead of ignoring it."""
    for option, value in (without_hub if hub else with_hub).items():
        if value is not None:
            why = "has no meaning with --hub: give it to `tomolive live`" if hub else "needs --hub ADDRESS"
            raise SettingsError(f"{option} {why}")


def _to_stderr(line: str) -> None:
    click.echo(line, err=True)
