"""What every long-running process shares."""

import subprocess
import sys
from pathlib import Path

TIMEOUT = 60
INSIDE_A_WAIT = """
import signal, sys, threading
from tomolive import service

stopped = threading.Event()
real = threading.Condition.wait
main = threading.main_thread()

def wait(self, timeout=None):
    if self is stopped._cond and not signalled:
        signalled.append(True)
        signal.raise_signal(signal.SIGTERM)  # the lock of the condition is held here
    return real(self, timeout)

signalled = []
service.stop_on_signals(stopped.set)
threading.Condition.wait = wait
sys.exit(0 if stopped.wait(40) else 3)
"""
TWICE = """
import signal, threading
from tomolive import service

begun, never = threading.Event(), threading.Event()
service.stop_on_signals(lambda: (begun.set(), never.wait()))
signal.raise_signal(signal.SIGTERM)
begun.wait(40)
signal.raise_signal(signal.SIGTERM)
"""


def run(script: str) -> int:
    """Run a script in a process of its own."""
    command = [sys.executable, "-c", script]
    return subprocess.run(command, timeout=TIMEOUT, check=False, cwd=Path(__file__).parent).returncode


def test_a_signal_inside_a_wait_stops_the_process():
    """Also at the moment at which the main thread holds the lock that setting the event needs."""
    assert run(INSIDE_A_WAIT) == 0


def test_a_second_signal_ends_the_process_at_once():
    """Even if stopping takes for ever."""
    assert run(TWICE) == 128 + 15
