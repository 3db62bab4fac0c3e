"""The process of one analysis: ``python -m tomolive.live.analysis.process MODULE:FUNCTION DESCRIPTOR``.

It imports the user's function, says what the function wants to see, and calls it with one input after the
other. What it prints goes to the log of the live reconstruction. It ends with the other side of the pipe.
"""

import importlib
import math
import numbers
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from importlib import metadata
from multiprocessing.connection import Connection
from typing import Any, cast

from tomolive.live.analysis.input import KINDS, AnalysisInput

GROUP = "tomolive.analysis"
"""Entry points that name analyses."""
_NICENESS = 5

Analyse = Callable[[AnalysisInput], Mapping[str, float] | None]


def load(name: str) -> tuple[Analyse, str]:
    """Return the function that ``name``, an entry point or ``module:function``, means, and its kind of input.

    Raises
    ------
    LookupError, ImportError, AttributeError, TypeError
        if there is no such function; anything else that its module raises.
    """
    module, colon, path = name.partition(":")
    if colon:
        found: Any = importlib.import_module(module)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    else:
        points = list(metadata.entry_points(group=GROUP, name=name))
        if not points:
            raise LookupError(f"no installed package offers an analysis {name!r} in {GROUP}")
        found = points[0].load()
    kind = getattr(found, "on", "slices")
    if not callable(found) or kind not in KINDS:
        raise TypeError(
            f"{name} must be a function, and its attribute on one of {', '.join(KINDS)}; on={kind!r}"
        )
    return cast(Analyse, found), kind


def flat(values: object) -> dict[str, float]:
    """Return what an analysis returned as plain numbers.

    Raises
    ------
    TypeError
        unless it is a mapping of text to finite numbers, or None.
    """
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise TypeError(f"an analysis returns a dict of numbers, not {type(values).__name__}")
    for key, value in values.items():
        if not isinstance(key, str) or not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise TypeError(f"an analysis returns a dict of finite numbers; {key!r} is {value!r}")
    return {str(key): float(value) for key, value in values.items()}


def main(name: str, descriptor: int) -> None:
    """Serve one analysis."""
    # Whoever started this process ends it by closing the pipe, also after Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICENESS)
    connection: Connection = Connection(descriptor)
    try:
        analyse, kind = load(name)
    except BaseException as error:  # noqa: BLE001  whatever a module does at import is told
        connection.send(("broken", _sentence(error)))
        sys.exit(1)
    connection.send(("ready", kind))
    while True:
        try:
            material = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = ("found", flat(analyse(material)))
        except Exception as error:  # noqa: BLE001  told, and the next input may do better
            answer = ("failed", _sentence(error))
        try:
            connection.send(answer)
        except OSError:
            return


def _sentence(error: BaseException) -> str:
    places = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    where = f" ({places[-1].filename}, line {places[-1].lineno})" if places else ""
    return f"{type(error).__name__}: {error}{where}"


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        main(sys.argv[1], int(sys.argv[2]))
