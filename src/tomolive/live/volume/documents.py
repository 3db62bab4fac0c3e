"""Where the documents of a finished run are found: recorded, or in an export; at a hub; in a catalog."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomolive.catalog.export import documents_of, read_export
from tomolive.catalog.hub_runs import RunPicker, read_journal
from tomolive.errors import ScanError, SettingsError
from tomolive.stream.derived import is_result
from tomolive.stream.recorded import read_documents

Document = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class DocumentSource:
    """One of three places; see `fetch`."""

    hub: str | None = None
    """Address of a hub."""
    catalog: str | None = None
    """URI of a Tiled catalog."""
    file: str | None = None
    """JSON lines, of one run or several, or a folder that is an export."""

    def fetch(self, run_uid: str) -> list[Document]:
        """Return the documents of a run, from its start to its stop document.

        Raises
        ------
        ScanError
            if there is no such run, or it has not stopped.
        AddressError, CatalogError, SettingsError, DocumentError
            if the place cannot be read.
        """
        if self.file:
            return _from_file(Path(self.file), run_uid)
        if self.catalog:
            return _from_catalog(self.catalog, run_uid)
        if self.hub:
            return _from_hub(self.hub, run_uid)
        raise SettingsError("say where the documents of the run are: a hub, a catalog or a file")

    def find(self, beginning: str) -> str:
        """Return the uid of the run whose uid begins like this; for none, of the newest that is no result.

        A hub finds whole uids only.
        """
        if self.file:
            starts = [doc for name, doc in _recorded(Path(self.file)) if name == "start"]
            runs = starts if beginning else [doc for doc in starts if not is_result(doc)]
            found = [doc["uid"] for doc in runs if doc["uid"].startswith(beginning)]
            if not found:
                raise ScanError(f"{self.file} has no run {beginning!r}")
            return found[-1]
        if self.catalog:
            from tomolive.catalog.open import open_run

            run = open_run(self.catalog, beginning or -1)
            try:
                return run.metadata["start"]["uid"]
            finally:
                run.context.close()
        return beginning


def _recorded(path: Path) -> list[Document]:
    files = [documents_of(path, uid) for uid in read_export(path)] if path.is_dir() else [path]
    return [document for file in files for document in read_documents(file)]


def _whole(picker: RunPicker, where: str) -> list[Document]:
    """Return the documents that were picked, if they are a whole run."""
    documents = picker.runs.get(picker.uid)
    if not documents:
        raise ScanError(f"{where} has no run {picker.uid}")
    if not picker.stopped:
        raise ScanError(f"run {picker.uid[:8]} has not stopped, as far as {where} knows")
    return documents


def _from_file(path: Path, run_uid: str) -> list[Document]:
    picker = RunPicker(run_uid)
    for name, doc in _recorded(path):
        picker(name, doc)
    return _whole(picker, str(path))


def _from_catalog(uri: str, run_uid: str) -> list[Document]:
    from tomolive.catalog.open import open_run, tiled_errors
    from tomolive.catalog.run_documents import documents_of as documents_in_catalog

    run = open_run(uri, run_uid)
    try:
        with tiled_errors(uri):
            picker = RunPicker(run_uid)
            for name, doc in documents_in_catalog(run):
                picker(name, doc)
    finally:
        run.context.close()
    return _whole(picker, f"the catalog at {uri.partition('?')[0]}")


def _from_hub(address: str, run_uid: str) -> list[Document]:
    picker = RunPicker(run_uid)
    read_journal(address, run_uid, picker)
    return _whole(picker, f"the hub at {address}")
