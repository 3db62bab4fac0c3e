"""A simulated scan in a process of its own: own_plan.py STYLE PLAN HUB DIRECTORY.

Its documents name the detector's folder as /beamline/data. What it emitted, and where its files really are,
is left in DIRECTORY/documents.jsonl.
"""

import json
import sys
from pathlib import Path
from typing import Any

from event_model import unpack_datum_page, unpack_event_page

from tomolive import Publisher
from tomolive.acquire.session import Session
from tomolive.acquire.simulate import Simulation, run_simulation

ANNOUNCED = "/beamline/data"


def main(style: Any, plan: Any, hub: str, directory: Path) -> None:
    """Run one scan."""
    data = directory / "data"
    publisher = Publisher(hub, spool=directory / "spool")

    def publish(name: str, doc: dict[str, Any]) -> None:
        places = {key: doc[key].replace(str(data), ANNOUNCED) for key in ("uri", "root") if key in doc}
        publisher(name, {**doc, **places})

    with (directory / "documents.jsonl").open("w") as lines:

        def record(name: str, doc: dict[str, Any]) -> None:
            unpack = {"event_page": unpack_event_page, "datum_page": unpack_datum_page}.get(name)
            for single in unpack(doc) if unpack else [doc]:
                print(json.dumps([name.removesuffix("_page"), single], default=float), file=lines)

        with Session(None, callbacks=[publish, record]) as session:
            small = {"rows": 6, "columns": 32, "projections": 24, "darks": 3, "flats": 4, "rate": 100}
            run_simulation(Simulation(**small, style=style, plan=plan), session, data)
    publisher.close(60)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]).resolve())
