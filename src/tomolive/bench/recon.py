"""``tomolive bench recon``: the kernels beside algotom, ASTRA, scikit-image and ducc0, on the same data."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from tomolive.bench.recon_figures import ANGLES, Clock, Figure

PARTS = ("slices", "live", "center", "stripes", "start")


@click.command()
@click.option(
    "--size", "sizes", type=int, multiple=True, default=(512, 1024), show_default=True,
    help="detector columns; may be given again",
)  # fmt: skip
@click.option("--threads", type=int, multiple=True, default=(1,), show_default=True, help="likewise")
@click.option("--rounds", default=3, show_default=True, help="each figure is the best of so many rounds")
@click.option("--peers/--no-peers", default=True, show_default=True, help="measure the other libraries too")
@click.option(
    "--part", "parts", type=click.Choice(PARTS), multiple=True, help="only this; default: everything"
)
@click.option("--quick", is_flag=True, help="512 columns, one round")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write the figures there")
def recon(
    sizes: tuple[int, ...],
    threads: tuple[int, ...],
    rounds: int,
    peers: bool,
    parts: tuple[str, ...],
    quick: bool,
    json_file: Path | None,
) -> None:
    """Time slices, the live path, the rotation centre, stripe removal and the start of a process.

    One thread is timed by its processor time, more by the clock on the wall. Libraries that need minutes for
    a slice of 2048 columns are left out there.
    """
    if quick:
        sizes, rounds = (512,), 1
    figures = []
    for count in threads:
        clock = "processor time of one thread" if count == 1 else f"wall time of {count} threads"
        click.echo(f"{clock}, best of {rounds}")
        click.echo(
            f"{'work':<36}{'by':<31}{'ms':>10}{'ratio':>8}{'error':>9}  {'must':<19}{'':<8}note".rstrip()
        )
        for figure in _figures(sizes, Clock(count, rounds), peers, parts or PARTS):
            figures.append({"threads": count, **asdict(figure)})
            click.echo(_line(figure))
    missed = [figure for figure in figures if figure["met"] is False]
    click.echo(f"{sum(f['met'] is True for f in figures)} limits met, {len(missed)} missed")
    if json_file:
        json_file.write_text(json.dumps(figures, indent=1))


def _line(figure: Figure) -> str:
    ratio = f"{figure.ratio:>8.1f}" if figure.ratio is not None else " " * 8
    error = f"{figure.error:>9.4f}" if figure.error is not None else " " * 9
    met = {None: "", True: "met", False: "MISSED"}[figure.met]
    line = f"{figure.work:<36}{figure.by:<31}{figure.milliseconds:>10.3f}{ratio}{error}  "
    return f"{line}{figure.must:<19}{met:<8}{figure.note}".rstrip()


def _figures(sizes: tuple[int, ...], clock: Clock, peers: bool, parts: tuple[str, ...]) -> Iterator[Figure]:
    from tomolive.bench.recon_center import center, stripes
    from tomolive.bench.recon_live import live
    from tomolive.bench.recon_slices import slices
    from tomolive.bench.recon_start import start

    for size in sizes:
        count = ANGLES.get(size, round(1.5 * size))
        if "slices" in parts:
            yield from slices(size, count, clock, peers=peers)
        if "live" in parts:
            yield from live(size, clock)
        if "center" in parts:
            yield from center(size, count, clock, peers=peers)
        if "stripes" in parts:
            yield from stripes(size, count, clock, peers=peers)
    if "start" in parts:
        yield from start(clock.threads)
