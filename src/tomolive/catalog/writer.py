"""Write one normalised run to Tiled, in batches, showing exactly the announced frames.

The layout in the catalog is upstream's: this extends the writer of bluesky-tiled-plugins (2.0.12), whose
batches end by number or with the run, so that its data can be seen while a scan runs only at the price of a
request (50 to 150 ms) for each event.
"""

import itertools
import sys
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import h5py
from bluesky_tiled_plugins.writing.consolidators import (
    CONSOLIDATOR_REGISTRY,
    ConsolidatorBase,
    HDF5Consolidator,
    Patch,
)
from bluesky_tiled_plugins.writing.tiled_writer import _RunWriter
from tiled.utils import path_from_uri

from tomolive import __version__
from tomolive.catalog.places import PLACES

MARK = "archived"
"""Key in a run's metadata that says where in the hub's journal it begins: an archive writes this run."""
GIVEN_UP = "given_up"
"""Key in :data:`MARK` that says why the run is not written any more."""

Document = dict[str, Any]
_HDF5, _ZARR = "application/x-hdf5", "application/x-zarr"


class RunWriter(_RunWriter):
    """Keep documents until :meth:`flush`; one request for each table and array then.

    Parameters
    ----------
    client : tiled container
        Where the run goes; made by ``include_data_sources()``.
    mark : dict
        Goes into the run's metadata under :data:`MARK`, in the request that makes it; empty: no mark.
    cut_off : tiled container, optional
        The run as it is in the catalog already: emptied, and written anew.
    """

    def __init__(self, client: Any, mark: Document, cut_off: Any = None) -> None:
        super().__init__(cast(Any, _Marking(client, mark, cut_off)), batch_size=sys.maxsize)
        self._datums: list[Document] = []
        self._assets_sent: dict[str, int] = {}
        self._announced: dict[str, list[_Range]] = {}

    def get_sres_node(self, sres_uid: str, desc_uid: str | None = None) -> tuple[Any, Any]:
        """Have files described by classes of ours, here and in no other writer of this process."""
        stock = dict(CONSOLIDATOR_REGISTRY)
        CONSOLIDATOR_REGISTRY.update({_HDF5: AnnouncedFrames, _ZARR: ZarrArray})
        try:
            return super().get_sres_node(sres_uid, desc_uid)
        finally:
            CONSOLIDATOR_REGISTRY.clear()
            CONSOLIDATOR_REGISTRY.update(stock)

    def stream_datum(self, doc: Document) -> None:
        """Keep until the next flush."""
        self._datums.append(doc)
        source, stream = doc["stream_resource"], self._desc_nodes[doc["descriptor"]].item["id"]
        ranges = self._announced.setdefault(self._stream_resource_cache[source]["data_key"], [])
        first, last = doc["indices"]["start"], doc["indices"]["stop"]
        if ranges and (ranges[-1].source, ranges[-1].last) == (source, first):
            ranges[-1].last = last
        else:
            ranges.append(_Range(source, stream, first, last))

    def flush(self) -> None:
        """Write what has been kept."""
        for stream, rows in self._internal_data_cache.items():
            if rows:
                self._write_internal_data(rows, self._desc_nodes[stream])
                rows.clear()
        patches: dict[str, tuple[Any, Any, list[Patch]]] = {}
        for datum in self._datums:
            node, consolidator, patch = self._update_consolidator(cast(Any, datum))
            patches.setdefault(node.uri, (node, consolidator, []))[2].append(patch)
        self._datums.clear()
        for node, consolidator, parts in patches.values():
            source = consolidator.get_data_source()
            self._update_data_source_for_node(node, source, Patch.combine_patches(parts))

    def stop(self, doc: Document) -> None:
        """Write what is left, then the stop document: a run with one is complete."""
        self.flush()
        if places := self._places():
            assert self.root_node is not None  # noqa: S101  the start document has made it
            self.root_node.update_metadata(metadata={PLACES: places}, drop_revision=True)
        super().stop(cast(Any, doc))

    def _places(self) -> Document:
        """Return where images lie that streams did not take in the order in which they are described."""
        described = dict.fromkeys(node.item["id"] for node in self._desc_nodes.values())
        places: Document = {}
        for key, ranges in self._announced.items():
            of_streams: dict[str, Document] = {}
            for order, one in enumerate(ranges):
                place = of_streams.setdefault(f"{one.stream}/{key}", {"files": [], "ranges": []})
                source = self._stream_resource_cache[one.source]
                file = {"uri": source["uri"], "parameters": dict(source["parameters"])}
                if file not in place["files"]:
                    place["files"].append(file)
                place["ranges"].append([place["files"].index(file), one.first, one.last, order])
            taken = [one.stream for one in ranges]
            if taken != [stream for stream in described if stream in taken]:
                places |= of_streams
        return places

    def _update_data_source_for_node(self, node: Any, data_source: Any, patch: Patch | None = None) -> None:
        # The server adds assets and never removes one; a TIFF series, sent whole each time, is quadratic.
        sent = self._assets_sent.get(node.uri, 0)
        self._assets_sent[node.uri] = len(data_source.assets)
        data_source.assets = data_source.assets[sent:]
        super()._update_data_source_for_node(node, data_source, patch)

    def _append_with_retry(self, df_client: Any, table: Any, desc_name: str) -> None:
        # Upstream repeats an append whose answer was lost, and accepts rows twice. The archive begins anew.
        del desc_name
        df_client.append_partition(0, table)


@dataclass
class _Range:
    """Indices that a stream has of a file one after the other, no other stream in between."""

    source: str
    """Uid of the stream_resource."""
    stream: str
    first: int
    last: int


class AnnouncedFrames(HDF5Consolidator):
    """The frames that documents announced, no more, wherever in which file they are.

    Upstream takes the first n frames of its files, joined. A stream that shares its file with others begins
    somewhere else, and flats that are taken before and after the projections lie in two places. Tiled applies
    the parameter ``slice`` to the datasets before anything else, so that neither a file that is ahead of the
    documents nor ``run.validate()`` changes what is served.
    """

    def __init__(self, stream_resource: Any, descriptor: Any) -> None:
        super().__init__(stream_resource, descriptor)
        self._files = {stream_resource["uid"]: 0}
        self._announced: list[list[int]] = []
        """File, first frame in it, and the one after the last."""
        self._frames_per_index = self._collections()
        if not self.chunk_shape and len(self.datum_shape) > 1:
            # Classic detectors do not say; upstream takes a whole scan for one chunk, too large to read.
            self.chunk_shape = (1,)
        if self._frames_per_index > 1:
            # What upstream's validator divides the length of the dataset by.
            self.metadata["frame_per_point"] = self._frames_per_index

    def update_from_stream_resource(self, stream_resource: Any) -> None:
        """Go on in another file."""
        super().update_from_stream_resource(stream_resource)
        self._files[stream_resource["uid"]] = len(self.assets) - 1

    def consume_stream_datum(self, doc: Any) -> Patch:
        """Count the frames, and remember where they are."""
        file = self._files[doc["stream_resource"]]
        start, stop = (doc["indices"][end] * self._frames_per_index for end in ("start", "stop"))
        if self._announced and self._announced[-1][::2] == [file, start]:
            self._announced[-1][2] = stop
        elif stop > start:
            self._announced.append([file, start, stop])
        return super().consume_stream_datum(doc)

    def adapter_parameters(self) -> dict[str, Any]:
        """Say which frames of the datasets are the stream's."""
        parameters = super().adapter_parameters()
        if self._announced and "slice" not in parameters and not self._are_whole_files():
            parameters["slice"] = _as_slice(self._joined())
        return parameters

    def _are_whole_files(self) -> bool:
        """Whether there are several files, each of them the stream's own from its first frame on."""
        several = [[file, 0] for file in range(len(self.assets))]
        return len(several) > 1 and [range_[:2] for range_ in self._announced] == several

    def _joined(self) -> list[list[int]]:
        """Return the announced frames by their places in all files, one after the other."""
        lengths = [self._length(asset.data_uri) for asset in self.assets[:-1]]
        before = [0, *itertools.accumulate(lengths)]
        return [[before[file] + first, before[file] + last] for file, first, last in self._announced]

    def _length(self, uri: str) -> int:
        """Return the frames of a file that is complete, since another one has followed it."""
        path = path_from_uri(uri)
        try:
            with h5py.File(path, "r", locking=False) as file:
                dataset: Any = file[self._sres_parameters["dataset"]]
                return len(dataset)
        except (OSError, KeyError) as error:
            raise ValueError(
                f"parts of {path} and of other files make one stream; it can be served only if the archive "
                f"can read how many frames that file holds: {error}"
            ) from error

    def _collections(self) -> int:
        """Return the frames of the dataset that one index stands for."""
        shape, chunk = self.datum_shape, self.chunk_shape
        flat = "multiplier" in self._sres_parameters or (len(chunk) or 3) == len(shape)
        return shape[0] if shape and flat else 1


class ZarrArray(ConsolidatorBase):
    """An array in a folder, which upstream has no class for; Tiled's server reads it."""

    supported_mimetypes: ClassVar[set[str]] = {_ZARR}
    default_asset_role = "data_uri"

    def __init__(self, stream_resource: Any, descriptor: Any) -> None:
        super().__init__(stream_resource, descriptor)
        self.assets[0].is_directory = True


def _as_slice(ranges: list[list[int]]) -> str | list[int]:
    if len(ranges) == 1:
        return f"{ranges[0][0]}:{ranges[0][1]}"
    # Not documented upstream, but the dataset is a dask array, and that takes a list of positions.
    return [position for start, stop in ranges for position in range(start, stop)]


class _Marking:
    """A client whose new containers carry :data:`MARK` from their first moment.

    A run that was cut off stays where it is while it is emptied. Were it deleted, nothing in the catalog
    would tell that it must be written anew, until it is there again.
    """

    def __init__(self, client: Any, mark: Document, cut_off: Any) -> None:
        self._client = client
        self._cut_off = cut_off
        self._mark = {MARK: {"by": f"tomolive {__version__}", **mark}} if mark else {}

    def create_container(self, *, metadata: Document, **kwargs: Any) -> Any:
        """Make a container as the client does, or empty the one that was cut off."""
        metadata = {**metadata, **self._mark}
        if self._cut_off is None:
            return self._client.create_container(metadata=metadata, **kwargs)
        self._cut_off.base.delete_contents(recursive=True, external_only=False)
        self._cut_off.update_metadata(metadata=metadata, drop_revision=True)
        return self._cut_off
