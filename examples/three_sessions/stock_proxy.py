"""First terminal, the way without tomolive's hub: bluesky's own proxy, unmodified."""

import contextlib
import sys

from bluesky.callbacks.zmq import Proxy

# Port 0 lets the system choose.
proxy = Proxy(*(int(port) or None for port in sys.argv[1:] or ["5567", "5568"]))
print(f"proxy at {proxy.in_port} {proxy.out_port}", flush=True)
with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C ends it
    proxy.start()
