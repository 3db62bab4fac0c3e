"""What must not stop the flow of documents: odd memory, odd handlers, odd announcements."""

import subprocess
import sys

CYCLES = """
import gc, numpy as np
from tomolive.files.pool import FramePool

class Holder:
    pass

pool = FramePool(keep=1 << 24)
gc.set_threshold(1)
for _ in range(3000):
    holder = Holder()
    holder.itself = holder
    holder.array = pool.empty((1, 256, 256), np.dtype("u2"))
    del holder
gc.collect()
print(pool.kept <= 1 << 24)
"""


def test_frames_in_cycles_of_references_do_not_stop_the_pool():
    """The garbage collector may give memory back while memory is being taken."""
    done = subprocess.run([sys.executable, "-c", CYCLES], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("True", 0), done.stderr
