"""``tomolive demo``: everything on this machine, with a simulated beamline."""

import sys
from pathlib import Path

import click

from tomolive.cli.options import require_center_inside


@click.command()
@click.option("--once", is_flag=True, help="Take one scan, print its figures, and end.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures to this file.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    default=Path("tomolive-demo"),
    show_default=True,
    help="Folder for image files, journal, catalog, results and logs.",
)
@click.option("--page", default="127.0.0.1:8000", show_default=True, help="HOST:PORT of the page.")
@click.option("--rows", type=click.IntRange(2), default=256, show_default=True, help="Camera rows.")
@click.option("--columns", type=click.IntRange(16), default=512, show_default=True, help="Camera columns.")
@click.option("--size", type=click.IntRange(16), help="Camera rows and columns, if they are the same.")
@click.option("--projections", type=click.IntRange(2), default=720, show_default=True)
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), default=36.0, show_default=True, help="Frames/s."
)
@click.option("--volume", is_flag=True, help="Also make the full volume of each scan.")
@click.option("--rings", default="none", show_default=True,
              type=click.Choice(["none", "sorting", "combined", "fourier-wavelet"]),
              help="Stripe removal for the volume.")  # fmt: skip
@click.option("--center", type=float, help="Rotation centre, detector column; default: found.")
@click.option(
    "--keep", type=click.IntRange(1), default=20, show_default=True, help="Scans whose images stay."
)
def demo(
    once: bool,
    json_file: Path | None,
    directory: Path,
    page: str,
    rows: int,
    columns: int,
    size: int | None,
    projections: int,
    rate: float,
    volume: bool,
    rings: str,
    center: float | None,
    keep: int,
) -> None:
    """Run a simulated tomography beamline and reconstruct its scans while they run.

    Starts a catalog, a hub, an archive and the live reconstruction with its page, each as a process on this
    machine, and takes one fly scan after another until Ctrl-C.
    """
    from tomolive.demo.folder import Folder
    from tomolive.demo.run import Plan, run

    rows, columns = (size, size) if size else (rows, columns)
    require_center_inside(center, columns)
    folder = Folder(directory.absolute())
    camera = ["--rows", str(rows), "--columns", str(columns), "--rate", str(rate), "--data", str(folder.data)]
    turn = ["--projections", str(projections)]
    plan = Plan(
        scan=lambda n: ["simulate", "--count", "1", "--seed", str(n), *camera, *turn],
        folder=folder,
        page=page,
        center=center,
        once=once,
        again=True,
        volume=["--rings", rings] if volume else None,
        keep=keep,
    )
    sys.exit(run(plan, click.echo, json_file))
