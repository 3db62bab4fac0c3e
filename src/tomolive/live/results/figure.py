"""The three slices as one picture for people: side by side, grey, labelled, with a scale bar."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

PLANES = ("xy", "xz", "yz")
_AXES = {"xy": "z", "xz": "y", "yz": "x"}
_MARGIN = 14
_TEXT = 14
_SMALLEST, _LARGEST = 320, 1024
_PAPER, _WHITE, _GREY = 28, 255, 180


def levels(
    slices: Mapping[str, npt.NDArray[np.float32]], positions: Mapping[str, float]
) -> tuple[float, float]:
    """Return the 0 and 99 percentiles of all slices inside the circle of reconstruction.

    Outside the circle a pixel was not seen at every angle; its values would spoil the contrast.
    """
    inside = []
    for plane, pixels in slices.items():
        columns = pixels.shape[1]
        middle = (columns - 1) / 2
        x = np.arange(columns) - middle
        # xz and yz are cut off the axis: only a chord of the circle lies in the plane.
        across = x if plane == "xy" else np.array([positions.get(plane, middle) - middle])
        circle = across[:, None] ** 2 + x**2 <= (columns / 2) ** 2
        values = pixels[np.broadcast_to(circle, pixels.shape)]
        inside.append(values[np.isfinite(values)])
    values = np.concatenate(inside) if inside else np.zeros(0)
    if not values.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, [0, 99]))
    return (low, high) if high > low else (low, low + 1.0)


def scale_bar(pixels_across: int, pixel_size_um: float | None) -> tuple[float, str]:
    """Return length in pixels and label of a bar of 1, 2 or 5 times a power of ten, at most a third across.

    >>> scale_bar(512, 1.3)
    (153.84615384615384, '200 um')
    >>> scale_bar(512, None)
    (100.0, '100 px')
    """
    size = pixel_size_um or 1.0
    most = pixels_across * size / 3
    power = 10.0 ** np.floor(np.log10(most))
    length = float(max(step * power for step in (1, 2, 5) if step * power <= most))
    if pixel_size_um is None:
        return length, f"{length:g} px"
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} um"
    return length / size, label


def draw(
    slices: Mapping[str, npt.NDArray[np.float32]],
    positions: Mapping[str, float],
    *,
    title: str,
    units: str,
    pixel_size_um: float | None,
) -> "Image.Image":
    """Return the figure, 8-bit grey.

    Parameters
    ----------
    slices
        'xy' (columns, columns), 'xz' and 'yz' (rows, columns), at least one of them.
    positions
        where each slice lies, as far as it is known: z, y, x.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(_TEXT)
    low, high = levels(slices, positions)
    planes = [plane for plane in PLANES if plane in slices]
    panels = [_panel(slices[plane], low, high) for plane in planes]
    line = _TEXT + 8
    width = sum(p.width for p in panels) + _MARGIN * (len(panels) + 1)
    height = max(p.height for p in panels) + 3 * line + 2 * _MARGIN
    figure = Image.new("L", (width, height), _PAPER)
    pen = ImageDraw.Draw(figure)
    pen.text((_MARGIN, _MARGIN), title, fill=_WHITE, font=font)
    left, top = _MARGIN, _MARGIN + 2 * line
    for plane, panel in zip(planes, panels, strict=True):
        place = f"   {_AXES[plane]} = {positions[plane]:g}" if plane in positions else ""
        pen.text((left, top - line), plane + place, fill=_WHITE, font=font)
        figure.paste(panel, (left, top))
        left += panel.width + _MARGIN
    columns = slices[planes[0]].shape[1]
    zoom = panels[0].width / columns
    length, label = scale_bar(columns, pixel_size_um)
    bottom = height - line
    pen.rectangle((_MARGIN, bottom, _MARGIN + round(length * zoom), bottom + 3), fill=_WHITE)
    pen.text((_MARGIN + round(length * zoom) + 8, bottom - _TEXT // 2), label, fill=_WHITE, font=font)
    black_and_white = f"black {low:.4g}, white {high:.4g} {units}".strip()
    pen.text((width - _MARGIN, bottom + 2), black_and_white, fill=_GREY, font=font, anchor="rm")
    return figure


def _panel(pixels: npt.NDArray[np.float32], low: float, high: float) -> "Image.Image":
    from PIL import Image

    grey = np.clip((np.nan_to_num(pixels, nan=low) - low) / (high - low), 0, 1)
    image = Image.fromarray(np.round(grey * 255).astype(np.uint8))
    columns = pixels.shape[1]
    if columns < _SMALLEST:
        zoom = -(-_SMALLEST // columns)
        return image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)
    if columns > _LARGEST:
        shrunk = max(1, round(image.height * _LARGEST / columns))
        return image.resize((_LARGEST, shrunk), Image.Resampling.BOX)
    return image
