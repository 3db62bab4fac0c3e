"""``tomolive simulate``."""

import logging
import sys
from pathlib import Path

import click

from tomolive import service


@click.command()
@click.option(
    "--hub", metavar="ADDRESS", help="Where the documents go, e.g. tcp://127.0.0.1:5569; without it, nowhere."
)
@click.option(
    "--data", "--dir", "data", required=True, type=click.Path(path_type=Path), help="Folder for the images."
)
@click.option("--rows", default=256, show_default=True, type=click.IntRange(1), help="Camera rows.")
@click.option("--columns", default=512, show_default=True, type=click.IntRange(16), help="Camera columns.")
@click.option(
    "--projections", default=720, show_default=True, type=click.IntRange(2), help="0 to 180 degrees."
)
@click.option("--darks", default=20, show_default=True, type=click.IntRange(0), help="Frames without beam.")
@click.option("--flats", default=20, show_default=True, type=click.IntRange(0), help="Frames without sample.")
@click.option("--rate", default=36.0, show_default=True, help="Frames a second.")
@click.option("--style", default="async", show_default=True, type=click.Choice(["async", "classic"]),
              help="ophyd-async (StreamDatum) or classic ophyd (Datum).")  # fmt: skip
@click.option("--plan", default="fly", show_default=True, type=click.Choice(["fly", "step"]),
              help="Turn at constant speed, or stop for each projection.")  # fmt: skip
@click.option("--cameras", default=1, show_default=True, type=click.IntRange(1, 2),
              help="The second sees the same stone, with half the rows and columns.")  # fmt: skip
@click.option("--tiles", default="none", show_default=True, type=click.Choice(["none", "beside", "above"]),
              help="Two cameras see one field of these rows and columns together.")  # fmt: skip
@click.option(
    "--count", default=1, show_default=True, type=click.IntRange(0), help="Scans; 0: again and again."
)
@click.option(
    "--pause", default=3.0, show_default=True, type=click.FloatRange(0), help="Seconds between scans."
)
@click.option("--seed", default=0, show_default=True, help="Of noise and bad columns.")
@click.option(
    "--center", type=float, help="Rotation centre, detector column.  [default: 0.487 of the columns]"
)
@click.option("--spool", type=click.Path(path_type=Path), help="Folder of the Publisher's spool.")
def simulate(
    hub: str | None,
    data: Path,
    count: int,
    pause: float,
    spool: Path | None,
    **options: object,
) -> None:
    """Run simulated scans through a RunEngine, and print each run's uid when it is over.

    The images go to files in a folder for each scan, the documents to the hub.
    """
    from tomolive.acquire.session import Session
    from tomolive.acquire.simulate import Simulation, run_simulation
    from tomolive.stream.sockets import require_listener

    service.setup_logging()
    # It logs each change of state, and the traceback of an error that is raised here anyway.
    logging.getLogger("bluesky").setLevel(logging.CRITICAL)
    simulation = Simulation(**options)  # pyright: ignore[reportArgumentType]
    if hub is not None:
        require_listener(hub)
    with Session(hub, spool=spool) as session:
        service.stop_on_signals(session.stop)
        service.notify_ready()
        run_simulation(
            simulation,
            session,
            data,
            count=count,
            pause=pause,
            done=lambda outcome: click.echo(outcome.run_uid),
        )
        if session.stopping.is_set() and count:
            sys.exit(130)
