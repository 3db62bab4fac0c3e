"""A place in a topic of several partitions as a Position, whose offset still counts documents.

The epoch holds the partition of the last document and the offsets of all partitions; the offset is their sum.
A smaller offset is as many documents back in that partition.
"""

import re

from tomolive.errors import SettingsError
from tomolive.stream.messages import Position

_LONGEST = 200


def position_of(offsets: dict[int, int], partition: int) -> Position | None:
    """Return the place behind the last document, which came from ``partition``; None: too many partitions.

    >>> position_of({0: 7, 1: 5}, 1)
    Position(epoch='1:7,5', offset=12)
    """
    epoch = f"{partition}:{','.join(str(offsets[number]) for number in sorted(offsets))}"
    return Position(epoch, sum(offsets.values())) if len(epoch) <= _LONGEST else None


def vector_of(position: Position, partitions: list[int]) -> dict[int, int]:
    """Return the offset of each partition.

    >>> vector_of(Position("1:7,5", 11), [0, 1])
    {0: 7, 1: 4}

    Raises
    ------
    SettingsError
        if this is no place in a topic with these partitions.
    """
    found = re.fullmatch(r"(\d+):(\d+(?:,\d+)*)", position.epoch)
    offsets = [int(number) for number in found[2].split(",")] if found else []
    if found is None or len(offsets) != len(partitions) or int(found[1]) not in partitions:
        raise SettingsError(f"{position} is no place in a topic of {len(partitions)} partitions")
    vector = dict(zip(sorted(partitions), offsets, strict=True))
    vector[int(found[1])] -= sum(offsets) - position.offset
    return vector
