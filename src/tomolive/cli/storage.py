"""``tomolive journal`` and ``tomolive spool``: look after what lies on disk."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tomolive import service

if TYPE_CHECKING:
    from tomolive.stream.inspection import Report

FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


@click.group()
def journal() -> None:
    """Look at a hub's journal; check or repair it while no hub has it open."""


@journal.command("check")
@click.argument("folder", type=FOLDER)
def journal_check(folder: Path) -> None:
    """Read every record in FOLDER, and say what `repair` would lose; exit code 1 if that is anything."""
    from tomolive.stream import inspection

    report = inspection.check(folder)
    click.echo(f"{report.documents} documents, {report.size} bytes, {report.segments} segments")
    faults = _faults(report)
    for fault in faults:
        click.echo(fault)
    if faults:
        sys.exit(1)
    click.echo("all records are sound")


@journal.command("repair")
@click.argument("folder", type=FOLDER)
@click.option("--yes", is_flag=True, help="Do not ask.")
def journal_repair(folder: Path, yes: bool) -> None:
    """Make the journal in FOLDER readable again; what is damaged is lost, the rest stays as it is."""
    from tomolive.stream import inspection

    report = inspection.check(folder)
    faults = _faults(report)
    for fault in faults:
        click.echo(fault)
    if not faults:
        click.echo("all records are sound, nothing to repair")
        return
    lost = sum(damage.lost for damage in report.damage)
    if lost and not yes:
        click.confirm(f"Give up {lost} documents?", abort=True)
    inspection.repair(folder)
    click.echo(f"repaired; {lost} documents are lost, the damaged files are kept as *.damaged")


@journal.command("cursors")
@click.argument("folder", type=FOLDER)
def journal_cursors(folder: Path) -> None:
    """Show who reads the journal in FOLDER, how far each has come, and when it was last there."""
    from tomolive.stream import cursors

    found = cursors.look(folder)
    for name, cursor in sorted(found.items()):
        days = (time.time() - cursor.used) / 86400
        click.echo(f"{name}  next document {cursor.position.offset}  last used {days:.1f} days ago")
    if not found:
        click.echo("no cursors")


def _faults(report: "Report") -> list[str]:
    return [*([report.header] if report.header else []), *map(str, report.damage)]


@click.group()
def spool() -> None:
    """Look at, or send, what Publishers could not send."""


@spool.command("list")
@click.option("--spool", "folder", type=FOLDER, help="Folder of spools; default: all of this user's.")
def spool_list(folder: Path | None) -> None:
    """Show the spools on this machine: documents that wait, whose, and for which hub."""
    from tomolive.stream import spool as spools

    folders = [folder] if folder else spools.all_folders()
    found = [about for one in folders for about in spools.describe_all(one)]
    for about in found:
        click.echo(about)
    if not found:
        click.echo("no spools")


@spool.command("drain")
@click.argument("address", default="tcp://127.0.0.1:5569")
@click.option("--spool", "folder", type=FOLDER, help="Folder of spools; default: this user's for ADDRESS.")
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds to try.")
def spool_drain(address: str, folder: Path | None, timeout: float) -> None:
    """Send what dead Publishers left to the hub at ADDRESS; exit code 1 if some of it is still here."""
    from tomolive.stream import spool as spools
    from tomolive.stream.engines import registry
    from tomolive.stream.keys import ClientKeys

    service.setup_logging()
    folder = folder or spools.default_folder(address)
    courier = registry.courier_for(address, ClientKeys.from_environment())
    deadline = time.monotonic() + timeout
    try:
        sent = courier.send_leftovers(folder, lambda: time.monotonic() > deadline)
    finally:
        courier.close()
    left = sum(1 for _ in spools.orphans(folder))
    click.echo(f"sent {sent} documents" + (f"; {left} spools are left, is the hub there?" if left else ""))
    if left:
        sys.exit(1)
