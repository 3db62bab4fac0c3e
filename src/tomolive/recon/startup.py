"""What a process of our own can leave out when it starts."""

from numba.core import entrypoints


def without_extensions() -> None:
    """Leave numba's extensions where they are, in a process that compiles no functions but ours.

    Before it compiles or loads its first function, numba imports every installed package that extends it
    (awkward and sparse come with Tiled): half a second of each start, for types that no kernel of ours uses.
    numba has no setting for this; if its mark is renamed one day, they are imported again, and no more.
    """
    entrypoints._already_initialized = True  # pyright: ignore[reportPrivateUsage]
