"""Readers of image files, one for each mimetype; they see frames by number and know nothing of documents."""

from tomolive.files.readers.base import BeingWrittenError, FrameReader, NotReadyError, Source

__all__ = ["BeingWrittenError", "FrameReader", "NotReadyError", "Source"]
