"""First terminal, the way without tomolive's hub: bluesky's own proxy, unmodified."""

import sys

from bluesky.callbacks.zmq import Proxy

Proxy(*map(int, sys.argv[1:] or ["5567", "5568"])).start()
