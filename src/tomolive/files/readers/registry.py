"""Which reader reads which mimetype, and how sites add their own.

An installed package offers readers through the entry point group ``tomolive.frame_readers``: each entry point
names a class that follows `tomolive.files.readers.base.FrameReader`. A site's reader wins over a built-in.
"""

import logging
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from tomolive.errors import UnknownLayoutError
from tomolive.files.readers.base import FrameReader

GROUP = "tomolive.frame_readers"

_BUILT_IN = {
    "application/x-hdf5": "hdf5:Hdf5Reader",
    "application/x-hdf5;areadetector-timestamps": "hdf5:TimestampReader",
    "application/x-zarr": "zarr_folder:ZarrReader",
    "multipart/related;type=image/tiff": "sequence:TiffReader",
    "image/tiff": "sequence:TiffReader",
    "multipart/related;type=image/jpeg": "sequence:JpegReader",
    "image/jpeg": "sequence:JpegReader",
}

log = logging.getLogger(__name__)


def reader_for(mimetype: str) -> type[FrameReader]:
    """Return the class that reads ``mimetype``.

    Raises
    ------
    UnknownLayoutError
        if there is none.
    """
    mimetype = mimetype.replace(" ", "").lower()
    if mimetype in installed():
        return installed()[mimetype]
    if mimetype not in _BUILT_IN:
        known = ", ".join(sorted({*_BUILT_IN, *installed()}))
        raise UnknownLayoutError(
            f"no reader for mimetype {mimetype!r}; there are readers for {known}, and a package can add one "
            f"through the entry point group {GROUP!r}"
        )
    module, _, name = _BUILT_IN[mimetype].partition(":")
    return getattr(import_module(f"tomolive.files.readers.{module}"), name)


@cache
def installed() -> dict[str, type[FrameReader]]:
    """Return the readers of installed packages by mimetype."""
    readers: dict[str, type[FrameReader]] = {}
    for point in entry_points(group=GROUP):
        try:
            reader = point.load()
            readers.update({mimetype.lower(): reader for mimetype in reader.mimetypes})
        # One broken package must not take the others' readers away.
        except Exception:
            log.exception("the frame reader %s (%s) cannot be used", point.name, point.value)
    return readers
