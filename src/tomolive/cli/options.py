"""Options that several commands share."""

from collections.abc import Callable
from typing import Any

import click

from tomolive.errors import SettingsError


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
