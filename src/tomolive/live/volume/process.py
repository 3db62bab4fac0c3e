"""A process that makes one volume: ``python -m tomolive.live.volume.process``.

The request comes as one line on standard input (`VolumeRequest.to_json`); a line of JSON goes out for each
`VolumeProgress`. The end of the input, or SIGTERM, cancels: what is done stays for the next time.
"""

import json
import os
import sys
import threading
import traceback
from dataclasses import asdict

from tomolive import service
from tomolive.errors import TomoliveError
from tomolive.live.snapshot import VolumeProgress
from tomolive.live.volume.request import VolumeRequest
from tomolive.live.volume.results import make_result
from tomolive.live.volume.volume import CancelledError


def main() -> None:
    """Make the volume that is asked for."""
    out = service.take_stdout()
    service.setup_logging()
    stop = threading.Event()
    service.stop_on_signals(stop.set)
    request = VolumeRequest.from_json(sys.stdin.readline())

    def tell(progress: VolumeProgress) -> None:
        print(json.dumps(asdict(progress)), file=out, flush=True)

    def listen() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=listen, name="parent", daemon=True).start()
    try:
        make_result(request, tell, stop.is_set)
    except CancelledError:
        tell(VolumeProgress("cancelled", request.run_uid))
    except TomoliveError as error:
        tell(VolumeProgress("failed", request.run_uid, message=str(error)))
    except Exception as error:  # noqa: BLE001  told to whoever asked, and in the log
        traceback.print_exc()
        tell(VolumeProgress("failed", request.run_uid, message=f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # the thread that listens may hold the lock of the input
