"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tomolive.errors import SettingsError

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="TOMOLIVE_CONFIG",
    help="Settings file; `tomolive check FILE` looks for mistakes in it.",
)


def parse_listen(text: str, option: str = "--listen") -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``.

    >>> parse_listen("[::1]:8010")
    ('::1', 8010)
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise SettingsError(f"{option} {text}: expected HOST:PORT, such as 127.0.0.1:8010")
    return host.strip("[]"), int(port)


def with_scheme(address: str) -> str:
    """Return an address with its scheme; HOST:PORT alone is the hub's own protocol."""
    return address if "://" in address else f"tcp://{address}"


def require_center_inside(center: float | None, columns: int) -> None:
    """Refuse a rotation centre that no camera of so many columns can have.

    Raises
    ------
    SettingsError
        if it lies outside.
    """
    if center is not None and not 0 <= center <= columns - 1:
        raise SettingsError(f"--center {center:g} lies outside the detector, columns 0 to {columns - 1}")


def layout_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add paths of datasets in a scan file: ``data``, ``angles``, ``image_key``, ``flats`` and ``darks``."""
    for name, text in reversed(
        {
            "--data": "Dataset of the projections, or of all frames with --image-key.",
            "--angles": "Dataset of the angles, or START:STOP in degrees.",
            "--image-key": "Dataset that says what each frame is: 0 projection, 1 flat, 2 dark.",
            "--flats": "Dataset of the flats.",
            "--darks": "Dataset of the darks.",
        }.items()
    ):
        command = click.option(name, metavar="DATASET", help=text)(command)
    return command
