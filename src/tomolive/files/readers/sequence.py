"""Frames in a numbered family of image files: TIFF (one or more pages a file) and JPEG."""

import re
import struct
import sys
import zlib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tomolive.errors import UnknownLayoutError
from tomolive.files.readers.base import Array, NotReadyError, Source, ends_unwritten, stamp

if TYPE_CHECKING:
    import tifffile

_BRACES = re.compile(r"\{(?::0?(\d{1,2})?d?)?\}")
_PERCENT = re.compile(r"%(?:(s)|0?(\d{1,2})?(?:\.(\d{1,2}))?d)")

# What image decoders raise on a file that is cut off anywhere.
_HALF_WRITTEN = (
    OSError, ValueError, IndexError, KeyError, TypeError, ArithmeticError, struct.error, zlib.error, EOFError,
)  # fmt: skip


def file_name(template: str, filename: str, number: int) -> str:
    """Return the name of file ``number``.

    Templates come over the network, so they are not given to `str.format` or ``%``: only an integer field
    and, in the old style, ``%s%s`` for folder and name are understood.

    >>> file_name("scan_{:06d}.tiff", "", 7), file_name("%s%s_%6.6d.tiff", "scan", 7)
    ('scan_000007.tiff', 'scan_000007.tiff')

    Raises
    ------
    UnknownLayoutError
        if the template holds anything else, or no number.
    """
    names = iter(["", filename])
    numbered = 0

    def braces(match: re.Match[str]) -> str:
        nonlocal numbered
        numbered += 1
        return str(number).zfill(int(match[1] or 0))

    def percent(match: re.Match[str]) -> str:
        nonlocal numbered
        if match[1]:
            return next(names, "%")
        numbered += 1
        return str(number).zfill(int(match[3] or match[2] or 0))

    pattern, fill = (_BRACES, braces) if "{" in template else (_PERCENT, percent)
    left_over = pattern.sub("", template)
    name = pattern.sub(fill, template)
    if numbered != 1 or any(sign in left_over for sign in "{}%"):
        raise UnknownLayoutError(f"cannot understand the file name template {template!r}")
    return name


class _SequenceReader:
    """Frame f is page ``f % pages`` of file ``f // pages``, where ``chunk_shape`` begins with ``pages``."""

    mimetypes: tuple[str, ...] = ()

    def __init__(self, source: Source) -> None:
        self._source = source
        parameters: Mapping[str, Any] = source.parameters
        self._template = str(parameters.get("template", ""))
        self._filename = str(parameters.get("filename", ""))
        chunk = tuple(parameters.get("chunk_shape") or (1,))
        self._pages = max(int(chunk[0]), 1) if self._template else sys.maxsize
        self._shape = tuple(chunk[1:]) or None
        if self._template:
            file_name(self._template, self._filename, 0)

    def read(self, first: int, last: int) -> Array:
        """See `FrameReader.read`."""
        head = self._read_frame(first)
        last = min(last, first + self._source.frames_per_block(head.nbytes))
        out = self._source.empty((last - first, *head.shape), head.dtype)
        out[0] = head
        for row in range(1, last - first):
            try:
                frame = self._read_frame(first + row)
            except NotReadyError:
                return out[:row]
            if frame.shape != head.shape or frame.dtype != head.dtype:
                return out[:row]
            out[row] = frame
        return out

    def sign_of_life(self, frame: int) -> Hashable:
        """Return what changes when the frame's own file does."""
        return stamp(self.path_of(frame))

    def close(self) -> None:
        """Nothing stays open."""

    def path_of(self, frame: int) -> Path:
        """Return the file that holds a frame, not yet confined."""
        path = self._source.path
        if not self._template:
            return path
        name = file_name(self._template, self._filename, frame // self._pages)
        # Some producers announce the folder, others the beginning of the file names.
        return path / name.lstrip("/") if path.is_dir() else Path(f"{path}{name}")

    def _read_frame(self, frame: int) -> Array:
        path = self._source.confine(self.path_of(frame))
        if not path.is_file():
            raise NotReadyError(f"{path} is not there so far", only=True)
        try:
            array = self._decode(path, frame % self._pages)
        except _HALF_WRITTEN as error:
            raise NotReadyError(f"{path} is incomplete ({error})", only=True) from error
        # A file that is cut off after its first bytes decodes as an empty array.
        if array.size == 0 or (self._shape is not None and array.shape[: len(self._shape)] != self._shape):
            raise NotReadyError(f"{path} is incomplete (an image of shape {array.shape})", only=True)
        return array

    def _decode(self, path: Path, page: int) -> Array:
        raise NotImplementedError


class TiffReader(_SequenceReader):
    """Frames in TIFF files."""

    mimetypes = ("multipart/related;type=image/tiff", "image/tiff")

    def _decode(self, path: Path, page: int) -> Array:
        import tifffile

        with tifffile.TiffFile(path) as file:
            image = cast("tifffile.TiffPage", file.pages[page])
            array = image.asarray()
            strips = list(zip(image.dataoffsets, image.databytecounts, strict=True))
        if not all(offset and length for offset, length in strips) or ends_unwritten(path, strips):
            raise ValueError("zeros where the file may not be written yet")
        return array


class JpegReader(_SequenceReader):
    """Frames in JPEG files: grey (rows, columns) or colour (rows, columns, 3)."""

    mimetypes = ("multipart/related;type=image/jpeg", "image/jpeg")

    def _decode(self, path: Path, page: int) -> Array:  # noqa: ARG002 (JPEG has no pages)
        from PIL import Image

        # Without the mark of its end, zeros that follow a torn write would decode as grey.
        if not path.read_bytes().rstrip(b"\0").endswith(b"\xff\xd9"):
            raise ValueError("its end is missing")
        with Image.open(path, formats=["JPEG"]) as image:
            return np.asarray(image)
