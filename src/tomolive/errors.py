"""Every error that tomolive raises on purpose.

The command line turns any of them into one line and exit code 2; a traceback means a bug.

::

    TomoliveError
    ├── SettingsError            a setting, an option or an environment variable is wrong
    ├── AddressError             an address cannot be understood, reached or bound
    ├── DocumentError            a document breaks its event-model schema or its run's order
    │   └── CodecError           bytes that are no document, or a document that cannot become bytes
    ├── JournalError             the hub's journal or the Publisher's spool is damaged or full
    ├── PermissionDeniedError    a peer may not do what it asked for
    ├── RequestError             a page or a program asked for something that cannot be understood or granted
    ├── FileAccessError          an image file cannot be used
    │   ├── OutsideRootsError    a document names a file outside the allowed folders
    │   ├── UnknownLayoutError   no reader for this mimetype, spec or file layout
    │   └── FramesMissingError   announced frames did not appear in time
    ├── ReconstructionError      arrays that do not fit together, or cannot be reconstructed
    ├── ScanError                a run that cannot be understood as a tomography scan
    └── CatalogError             the catalog cannot be reached or refuses a document
        └── CatalogUnavailableError  the catalog does not answer now; it is worth trying again
"""


class TomoliveError(Exception):
    """Base of all errors that tomolive raises on purpose; its text says what is wrong and what to do."""


class SettingsError(TomoliveError):
    """A setting, an option or an environment variable is wrong."""


class AddressError(TomoliveError):
    """An address cannot be understood, reached or bound."""


class DocumentError(TomoliveError):
    """A document breaks its event-model schema or its run's order."""


class CodecError(DocumentError):
    """Bytes that are no document, or a document that cannot become bytes."""


class JournalError(TomoliveError):
    """The hub's journal or the Publisher's spool is damaged or full."""


class PermissionDeniedError(TomoliveError):
    """A peer may not do what it asked for."""


class RequestError(TomoliveError):
    """A page or a program asked for something that cannot be understood or granted."""


class FileAccessError(TomoliveError):
    """An image file cannot be used."""


class OutsideRootsError(FileAccessError):
    """A document names a file outside the allowed folders."""


class UnknownLayoutError(FileAccessError):
    """No reader for this mimetype, spec or file layout."""


class FramesMissingError(FileAccessError):
    """Announced frames did not appear in time."""


class ReconstructionError(TomoliveError, ValueError):
    """Arrays that do not fit together, or that cannot be reconstructed."""


class ScanError(TomoliveError):
    """A run that cannot be understood as a tomography scan."""


class CatalogError(TomoliveError):
    """The catalog cannot be reached or refuses a document."""


class CatalogUnavailableError(CatalogError):
    """The catalog does not answer now; it is worth trying again."""
