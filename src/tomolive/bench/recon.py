"""``tomolive bench recon``: the kernels beside algotom, ASTRA, scikit-image and ducc0, on the same data."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import click

from tomolive.bench.recon_figures import ANGLES, Clock, Figure

PARTS = ("slices", "live", "center", "stripes", "artefacts", "start")


@click.command()
@click.option(
    "--size", "sizes", type=int, multiple=True, default=(512, 1024), show_default=True,
    help="detector columns; may be given again",
)  # fmt: skip
@click.option("--threads", default=2, show_default=True, help="cores of the second column; 1: there is none")
@click.option("--rounds", default=2, show_default=True, help="each figure is the best of so many rounds")
@click.option("--peers/--no-peers", default=True, show_default=True, help="measure the other libraries too")
@click.option(
    "--part", "parts", type=click.Choice(PARTS), multiple=True, help="only this; default: everything"
)
@click.option("--quick", is_flag=True, help="512 columns, one round")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write the figures there")
def recon(
    sizes: tuple[int, ...],
    threads: int,
    rounds: int,
    peers: bool,
    parts: tuple[str, ...],
    quick: bool,
    json_file: Path | None,
) -> None:
    """Time slices, the live path, the rotation centre, artefact removal and the start of a process.

    One core is timed by its processor time, more by the clock on the wall. The other libraries are timed on
    one core: most of them can use no more. Those that need minutes for a slice of 2048 columns are left out
    there.
    """
    if quick:
        sizes, rounds = (512,), 1
    together = f"{threads} cores" if threads > 1 else ""
    click.echo(f"milliseconds, best of {rounds}; ratio: to the first line of the work, on one core")
    click.echo(
        f"{'work':<38}{'by':<30}{'1 core':>10}{together:>10}{'ratio':>8}{'error':>9}  {'must':<19}{'':<7}note"
    )
    figures = []
    for figure in _figures(sizes, threads, rounds, peers, parts or PARTS):
        figures.append(asdict(figure))
        click.echo(_line(figure))
    missed = sum(figure["met"] is False for figure in figures)
    click.echo(f"{sum(figure['met'] is True for figure in figures)} limits met, {missed} missed")
    if json_file:
        json_file.write_text(json.dumps(figures, indent=1))


def _line(figure: Figure) -> str:
    numbers = (
        (figure.milliseconds, 10, 2), (figure.together, 10, 2), (figure.ratio, 8, 1), (figure.error, 9, 4),
    )  # fmt: skip
    told = "".join(" " * width if n is None else f"{n:>{width}.{places}f}" for n, width, places in numbers)
    met = {None: "", True: "met", False: "MISSED"}[figure.met]
    return f"{figure.work:<38}{figure.by:<30}{told}  {figure.must:<19}{met:<7}{figure.note}".rstrip()


def _figures(
    sizes: tuple[int, ...], threads: int, rounds: int, peers: bool, parts: tuple[str, ...]
) -> Iterator[Figure]:
    from tomolive.bench.recon_artefacts import artefacts, stripes
    from tomolive.bench.recon_center import center
    from tomolive.bench.recon_live import live
    from tomolive.bench.recon_slices import slices
    from tomolive.bench.recon_start import start

    for size in sizes:
        count = ANGLES.get(size, round(1.5 * size))
        of: dict[str, Callable[[Clock, bool], Iterator[Figure]]] = {
            "slices": lambda clock, peers, n=size, k=count: slices(n, k, clock, peers=peers),
            "live": lambda clock, _, n=size: live(n, clock),
            "center": lambda clock, peers, n=size, k=count: center(n, k, clock, peers=peers),
            "stripes": lambda clock, peers, n=size, k=count: stripes(n, k, clock, peers=peers),
            "artefacts": lambda clock, peers, n=size: artefacts(n, clock, peers=peers),
        }
        for part in of:
            if part in parts:
                yield from _on_one_and_more(of[part], threads, rounds, peers)
    if "start" in parts:
        yield from start(threads)


def _on_one_and_more(
    part: Callable[[Clock, bool], Iterator[Figure]], threads: int, rounds: int, peers: bool
) -> Iterator[Figure]:
    """Yield the figures of one core, ours with what several cores need together."""
    together = {}
    if threads > 1:
        ours = (figure for figure in part(Clock(threads, 1), False) if figure.by.startswith("tomolive"))
        together = {(figure.work, figure.by): figure.milliseconds for figure in ours}
    for figure in part(Clock(1, rounds), peers):
        yield replace(figure, together=together.get((figure.work, figure.by)))
