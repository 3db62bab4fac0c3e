"""Third terminal: take data, which goes to a catalog and to whoever listens.

python -i collect.py [--style classic|async] [ADDRESS]

>>> RE(count([det]))
>>> catalog[-1]["primary"].read()
"""

import argparse
from pathlib import Path

from bluesky import RunEngine
from bluesky.plans import count  # noqa: F401 - to be typed
from tiled.client import from_uri

from tomolive import Publisher
from tomolive.acquire.scene import UniformScene
from tomolive.catalog.archive import Archive
from tomolive.catalog.server import CatalogServer

FOLDER = Path("three_sessions_data").absolute()

parser = argparse.ArgumentParser(description="Take data with a camera of 5 x 5 ones.")
parser.add_argument("address", nargs="?", default="tcp://127.0.0.1:5569")
parser.add_argument("--style", choices=["classic", "async"], default="classic")
parser.add_argument("--data", type=Path, default=FOLDER, help="where the camera writes")
parser.add_argument("--catalog", type=Path, default=Path("three_sessions_catalog"))
options = parser.parse_args()
options.data.mkdir(exist_ok=True)

RE = RunEngine()

server = CatalogServer(options.catalog, readable=[options.data]).start()
catalog = from_uri(server.uri)
RE.subscribe(Archive(catalog))
RE.subscribe(Publisher(options.address))

if options.style == "classic":
    from tomolive.acquire.devices_classic import Camera

    det = Camera(name="det", scene=UniformScene(), directory=options.data)
else:
    from ophyd_async.core import StaticPathProvider, UUIDFilenameProvider, init_devices

    from tomolive.acquire.devices_async import Camera

    with init_devices():
        det = Camera(UniformScene(), StaticPathProvider(UUIDFilenameProvider(), options.data))
