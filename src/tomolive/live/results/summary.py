"""What is known of a finished scan and its reconstruction: summary.json."""

from collections.abc import Mapping
from typing import Any

from tomolive import __version__
from tomolive.live.beam import ranges_of
from tomolive.live.documents.run import Scan
from tomolive.live.shown import Shown


def summarize(
    scan: Scan,
    shown: Shown | None,
    seconds_to_final: float | None,
    positions: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return summary.json of a finished scan; ``shown`` is None if no projection came.

    ``positions`` are those of its slices, if they are not what is shown.
    """
    return {
        **scan.about(),
        "failure": scan.failure,
        "frames": {
            "planned": scan.planned,
            "announced": len(scan.announced),
            "received": len(scan.received),
            "missing": [list(r) for r in scan.missing],
            "without_beam": [list(r) for r in ranges_of(shown.without_beam)] if shown else [],
        },
        "darks": scan.darks,
        "flats": scan.flats,
        "center": shown.center if shown else None,
        "center_source": shown.center_source if shown else "",
        "filter": shown.filter if shown else None,
        "corrections": shown.corrections.model_dump() if shown else None,
        "coverage_deg": shown.coverage if shown else 0.0,
        "positions": dict(positions or (shown.positions if shown else {})),
        "units": shown.units if shown else "",
        "notes": shown.notes if shown else [],
        **(shown.about() if shown else {}),
        "pixel_size_um": scan.pixel_size_um,
        "seconds_last_frame_to_final": seconds_to_final,
        "version": __version__,
    }
