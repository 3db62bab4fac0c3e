"""Second terminal: print the sum of each image as it is taken.

This process has no address of the catalog. It sees the detector's folder, maybe under another path:

    python analyze.py [ADDRESS] [--mount /there=/here]
"""

import argparse
import contextlib
import threading
from pathlib import Path

import numpy as np
from bluesky.callbacks import CallbackBase

from tomolive import RemoteDispatcher

FOLDER = Path("three_sessions_data").absolute()

parser = argparse.ArgumentParser(description="Print the sum of each image as it is taken.")
parser.add_argument("address", nargs="?", default="tcp://127.0.0.1:5569")
parser.add_argument("--mount", default=f"{FOLDER}={FOLDER}", metavar="/there=/here")
options = parser.parse_args()


class AnalysisPipeline(CallbackBase):
    def event(self, doc):
        for image in doc["data"].values():
            print(f"sum of image data is {np.sum(image, dtype=float)}", flush=True)


there, here = options.mount.split("=")
dispatcher = RemoteDispatcher(options.address, fill=True, mounts={there: here})
dispatcher.subscribe(AnalysisPipeline())


def tell_when_ready():
    if dispatcher.wait_ready():
        print(f"listening to {options.address}", flush=True)


threading.Thread(target=tell_when_ready, daemon=True).start()
with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C ends it
    dispatcher.start()
