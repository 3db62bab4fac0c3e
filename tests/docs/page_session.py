"""The Python of a page as a process: a JSON line with a block comes in, one with what it printed goes out.

``RE`` is there for pages that take one for granted: with each Publisher that it is given it takes an empty
run, and waits until that is delivered.
"""

import contextlib
import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TIMEOUT = 60.0


def engine() -> Any:
    """Return the RunEngine that pages take for granted."""
    from bluesky import RunEngine
    from bluesky import plan_stubs as bps

    class PageEngine(RunEngine):
        def subscribe(self, func: Callable, *arguments: Any) -> int:
            token = super().subscribe(func, *arguments)
            if hasattr(func, "flush"):
                self(_empty_run())
                assert func.flush(TIMEOUT), "what was published is not delivered"
            return token

    def _empty_run() -> Iterator[Any]:
        yield from bps.open_run()
        yield from bps.close_run()

    return PageEngine()


def until_quiet(dispatcher: Any) -> None:
    """Run a dispatcher until a run is over, and nothing more comes."""
    over: list[str] = []
    dispatcher.subscribe(lambda name, _doc: over.append(name), "stop")
    dispatcher.subscribe_idle(lambda: dispatcher.stop() if over else None)
    dispatcher.start()


class Names(dict):
    """The names of a page; the engine is made when it is needed."""

    def __missing__(self, name: str) -> Any:
        if name != "RE":
            raise KeyError(name)
        self[name] = engine()
        return self[name]


def main() -> None:
    """Run the blocks that come in, until there are no more."""
    given = json.loads(sys.stdin.readline())
    names = Names(given, __name__="__page__", until_quiet=until_quiet, callback=lambda *_: None)
    sys.path.insert(0, str(Path.cwd()))
    for line in sys.stdin:
        block = json.loads(line)
        answer: dict[str, str] = {}
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            try:
                # so many empty lines before it that a traceback names the line of the page
                code = compile("\n" * (block["line"] - 1) + block["code"], block["page"], "exec")
                exec(code, names)  # noqa: S102  the page's own code, from this repository
            except BaseException:  # noqa: BLE001  told to the test
                answer["error"] = traceback.format_exc()
        answer["printed"] = printed.getvalue()
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for value in list(names.values()):
        for end in ("stop", "close"):
            if type(value).__module__.startswith("tomolive") and hasattr(value, end):
                getattr(value, end)()
                break
    os._exit(0)  # a page ends its session as a person closes a terminal


if __name__ == "__main__":
    main()
