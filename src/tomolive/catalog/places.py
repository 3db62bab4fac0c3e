"""Where the frames of images lie that streams took in turns, as the archive notes it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

PLACES = "announced"
"""Key in a run's metadata that says where images lie that streams took in turns, or not in the order in which
they are described, as Tiled's server tells it: for each ``stream/data_key`` its ``files``, as their
stream_resources announced them, and its ``ranges``: file, first index, the one after the last, and which of
all ranges of the data key it was."""

Document = dict[str, Any]
Scattered = tuple[Document, Document, Mapping[str, Any]]
"""The stream_resource and the stream_datum that Tiled's server makes of an image, and where it lies."""


def in_order(images: Iterable[Scattered]) -> Iterator[tuple[str, Document]]:
    """Yield a stream_resource for each file and a stream_datum for each range, in the order of the scan."""
    announced: dict[str, int] = {}
    parts = [(part[-1], part, image) for image in images for part in image[2]["ranges"]]
    for order, (file, first, last, _), (resource, datum, place) in sorted(parts, key=lambda part: part[0]):
        uid = f"{resource['uid']}-{file}"
        if uid not in announced:
            yield "stream_resource", {**resource, **place["files"][file], "uid": uid}
            announced[uid] = 0
        number = announced.setdefault(datum["uid"], 1)
        announced[datum["uid"]] += last - first
        numbers = {"start": number, "stop": announced[datum["uid"]]}
        own = {"uid": f"{datum['uid']}-{order}", "stream_resource": uid}
        yield "stream_datum", {**datum, **own, "indices": {"start": first, "stop": last}, "seq_nums": numbers}
