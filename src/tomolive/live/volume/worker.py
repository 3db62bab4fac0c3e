"""A process that makes blocks of a volume: numbers of blocks come in as lines, words about them go out.

``python -m tomolive.live.volume.worker FOLDER ROWS THREADS``, where ROWS is an inherited descriptor or ``-``
for the file in the folder. It ends at once when its standard input does: none outlives whoever started it, or
writes beside those that take up its work. Two threads take blocks: while one computes, the other reads or
writes.
"""

import json
import os
import queue
import sys
import threading
import traceback
from functools import cache
from pathlib import Path
from typing import Any

from tomolive import service
from tomolive.errors import TomoliveError
from tomolive.live.volume.job import BlockMaker, VolumeJob, load_kernels
from tomolive.live.volume.memory import AT_ONCE
from tomolive.live.volume.rows import RowStore
from tomolive.recon.startup import without_extensions


def main() -> None:
    """Make blocks until the input ends."""
    out = service.take_stdout()
    without_extensions()
    folder, rows, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    lock = threading.Lock()
    bands: queue.SimpleQueue[int] = queue.SimpleQueue()

    def tell(**words: Any) -> None:
        try:
            with lock:
                print(json.dumps(words), file=out, flush=True)
        except OSError:  # whoever started this was killed
            os._exit(1)

    @cache
    def maker() -> BlockMaker:
        store = None if rows == "-" else RowStore(int(rows), VolumeJob.load(folder).layout)
        return BlockMaker(folder, store, threads)

    def work() -> None:
        while True:
            band = bands.get()
            try:
                with lock:  # the first one makes it
                    made = maker()
                tell(**made.make(band))
            except TomoliveError as error:
                tell(band=band, error=str(error))
            except Exception as error:  # noqa: BLE001  whoever started this ends it and says so
                traceback.print_exc()
                tell(band=band, error=f"{type(error).__name__}: {error}")

    load_kernels()
    for _ in range(AT_ONCE):
        threading.Thread(target=work, daemon=True).start()
    for line in sys.stdin:
        bands.put(int(line))
    os._exit(0)  # in the middle of a block or not


if __name__ == "__main__":
    main()
