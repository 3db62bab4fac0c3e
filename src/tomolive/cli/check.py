"""``tomolive check``."""

import sys
from collections import Counter
from pathlib import Path

import click

from tomolive.cli.options import layout_options


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@layout_options
@click.option("--rules", "rule_files", multiple=True, type=click.Path(path_type=Path, dir_okay=False),
              help="Rules of your own for a recorded run (repeat); see `tomolive live --rules`.")  # fmt: skip
@click.option("--no-look", is_flag=True, help="Of settings: do not look at addresses, folders and clocks.")
def check(file: Path, rule_files: tuple[Path, ...], no_look: bool, **paths: str | None) -> None:
    """Say what FILE holds, and what would be used of it.

    FILE is a scan file, as `tomolive replay` takes it; or the recorded documents of runs as JSON lines
    (run.jsonl): then it is said how the live reconstruction would understand them, and why; or the settings
    of a beamline (YAML): then each mistake is told with its line, its reason and what to do, and every
    address, mount, right and clock is looked at. The exit code is 1 if there is a mistake.
    """
    if file.suffix in (".yml", ".yaml"):
        _check_settings(file, look=not no_look)
    elif file.suffix == ".jsonl":
        _check_documents(file, rule_files)
    else:
        _check_scan(file, paths)


def _check_settings(file: Path, *, look: bool) -> None:
    from tomolive.operations.settings_check import check_settings

    counts: Counter[str] = Counter()
    for found in check_settings(file, look=look):
        counts[found.level] += 1
        click.echo(found)
    told = [f"{counts[level]} {level}{'' if counts[level] == 1 else 's'}" for level in ("mistake", "warning")]
    click.echo(", ".join(told))
    sys.exit(1 if counts["mistake"] else 0)


def _check_documents(file: Path, rule_files: tuple[Path, ...]) -> None:
    from tomolive.live.documents.explain import explain, read_documents
    from tomolive.live.documents.rules import load_rules, shipped_rules

    click.echo(explain(read_documents(file), [*map(load_rules, rule_files), *shipped_rules()]))


def _check_scan(file: Path, paths: dict[str, str | None]) -> None:
    from tomolive.acquire.layouts import Paths
    from tomolive.acquire.scanfile import open_scan

    with open_scan(file, Paths(**paths)) as scan:
        scan.projections[0]
        click.echo("\n".join(scan.describe()))
        for path, target in scan.tree.broken.items():
            click.echo(f"  note: {path} leads to {target}, which is not there; not needed")
        given = [f"--{name.replace('_', '-')} {path}" for name, path in paths.items() if path is not None]
        click.echo(" ".join(["replay it with: tomolive replay", str(file), *given]))
