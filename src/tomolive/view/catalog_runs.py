"""Scans that are in a Tiled catalog, with what was reconstructed of them."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.errors import CatalogError

log = logging.getLogger(__name__)

MOST = 50
_FRESH_S = 10.0
"""So long a list is believed; whoever has the page open asks again and again."""
_SLICES, _VOLUME = "live_reconstruction", "volume_reconstruction"


class CatalogRuns:
    """The newest runs of one catalog; any thread may ask.

    One at a time looks for runs; who reads a result keeps nobody from it.

    Parameters
    ----------
    uri
        Of the catalog, as ``tomolive catalog`` prints it; None: there is none.

    Attributes
    ----------
    problem
        Why there are none to list, in words; empty if all is well.
    """

    def __init__(self, uri: str | None) -> None:
        self._uri = uri
        self._lock = threading.Lock()
        self._client: Any = None
        self._listed: list[dict[str, Any]] = []
        self._looked = float("-inf")
        self.problem = "" if uri else "no catalog: name one with --catalog"

    def newest(self) -> list[dict[str, Any]]:
        """Return what is known of the newest scans, newest first, with the fields of a finished one."""
        if self._uri is None:
            return []
        with self._lock:
            if time.monotonic() - self._looked > _FRESH_S:
                try:
                    self._listed = self._look()
                    self.problem = ""
                except (CatalogError, ImportError) as error:
                    self._forget(error)
                self._looked = time.monotonic()
            return self._listed

    def slices(self, uid: str) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, Any]] | None:
        """Return slices and parameters of the newest live reconstruction of a run; None: there is none.

        Raises
        ------
        CatalogError
            if the catalog does not answer.
        """
        with self._newest_result(uid, _SLICES, "slices") as found:
            if found is None:
                return None
            stream, parameters = found
            planes = {plane: np.squeeze(stream[plane].read(), 0) for plane in ("xy", "xz", "yz")}
            return planes, parameters

    def volume(self, uid: str) -> dict[str, Any] | None:
        """Return shape, dtype, uri and parameters of the newest volume of a run; None: there is none.

        Raises
        ------
        CatalogError
            if the catalog does not answer.
        """
        with self._newest_result(uid, _VOLUME, "volume") as found:
            if found is None:
                return None
            array, parameters = found[0]["volume"], found[1]
            assets = [asset.data_uri for source in array.data_sources() or () for asset in source.assets]
            told = {"shape": list(array.shape), "dtype": str(array.dtype), "uri": (*assets, "")[0]}
            return {**told, "parameters": parameters}

    def slice_of_volume(
        self, uid: str, axis: str, position: int
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]] | None:
        """Return a slice of the newest volume of a run, and its parameters; None: there is none.

        It lies across ``axis``, z, y or x, at ``position``; across y and x the catalog reads far more for it.

        Raises
        ------
        CatalogError
            if the catalog does not answer.
        """
        with self._newest_result(uid, _VOLUME, "volume") as found:
            if found is None:
                return None
            volume, across = found[0]["volume"], "zyx".index(axis)
            if not 0 <= position < volume.shape[across]:
                return None
            return np.asarray(volume[(slice(None),) * across + (position,)], np.float32), found[1]

    @contextmanager
    def _newest_result(self, uid: str, plan: str, stream: str) -> Iterator[tuple[Any, dict[str, Any]] | None]:
        """Give stream and parameters of the newest result of a run that has data; None: there is none."""
        if self._uri is None:
            yield None
            return
        from tiled.queries import Key

        from tomolive.catalog.open import tiled_errors

        with tiled_errors(self._uri):
            with self._lock:
                of_run = self._open().search(Key("start.raw_run") == uid)
                results = reversed(of_run.search(Key("start.plan_name") == plan).values())
                found = next((result for result in results if stream in result), None)
            if found is None:
                yield None
            else:
                yield found[stream], found.metadata["start"]["tomolive"]["parameters"]

    def _open(self) -> Any:
        if self._client is None:
            from tomolive.catalog.open import open_catalog

            self._client = open_catalog(self._uri or "")
        return self._client

    def _forget(self, error: Exception) -> None:
        """Keep what was listed, say what is wrong, and begin anew next time."""
        log.warning("the catalog cannot be listed: %s", error)
        missing = isinstance(error, ImportError)
        self.problem = "install tomolive[catalog] to list its runs" if missing else str(error)
        self._close()

    def close(self) -> None:
        """End the connection."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._client is not None:
            self._client.context.close()
            self._client = None

    def _look(self) -> list[dict[str, Any]]:
        from tomolive.catalog.open import tiled_errors

        with tiled_errors(self._uri or ""):
            newest = list(reversed(self._open().values().tail(2 * MOST)))
        documents = [run.metadata for run in newest if "start" in run.metadata]
        results: dict[tuple[str, str], Any] = {}
        for told in documents:
            start = told["start"]
            if start.get("plan_name") == _SLICES or _volume_shape(told):
                results.setdefault((start.get("raw_run"), start["plan_name"]), told)
        scans = [told for told in documents if told["start"].get("plan_name") not in (_SLICES, _VOLUME)]
        return [_tell(told, results) for told in scans[:MOST]]


def _tell(run: Mapping[str, Any], results: Mapping[tuple[str, str], Any]) -> dict[str, Any]:
    """Return the fields of a scan as its summary has them, as far as its documents tell."""
    start, stop = run["start"], run.get("stop") or {}
    sample = start.get("sample") or ""
    slices, volume = (results.get((start["uid"], plan)) for plan in (_SLICES, _VOLUME))
    newest = slices or volume
    parameters = newest["start"]["tomolive"]["parameters"] if newest else {}
    planned = (start.get("tomography") or {}).get("num_projections")
    counted = [count for name, count in (stop.get("num_events") or {}).items() if name.startswith("proj")]
    return {
        "run_uid": start["uid"],
        "scan_id": start.get("scan_id"),
        "sample": sample.get("name", "") if isinstance(sample, Mapping) else str(sample),
        "plan": start.get("plan_name"),
        "outcome": stop.get("exit_status", "not ended"),
        "frames": {
            "planned": planned,
            "received": counted[0] if counted else None,
            "missing": [],
            "without_beam": parameters.get("without_beam", []),
        },
        "center": parameters.get("center"),
        "center_source": parameters.get("center_source", ""),
        "filter": parameters.get("filter"),
        "coverage_deg": None,
        "seconds_last_frame_to_final": None,
        "finished": stop.get("time", start["time"]),
        "folder": start["uid"],
        "picture": slices is not None,
        "volume": _volume_shape(volume) if volume else None,
        "from": "catalog",
    }


def _volume_shape(run: Mapping[str, Any]) -> list[int] | None:
    """Return (slices, rows, columns) of a result that is a volume; one that failed has none."""
    start = run["start"]
    return start["tomolive"]["parameters"].get("shape") if start.get("plan_name") == _VOLUME else None
