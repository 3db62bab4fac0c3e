"""Read pickles that hold plain data and numpy arrays, without unpickling.

``pickle.loads`` runs whatever a pickle names. Forbidding names is not enough: a pickle of thirty bytes can
take gigabytes (a memo index, a list of itself) or crash the interpreter (the state of a forged dtype, deep
tuples as keys). Here nothing is imported, called or hashed that the pickle chooses: its opcodes are carried
out on values alone, names stay names, and :mod:`tomolive.stream.plain_types` makes the few things that
documents hold.
"""

import struct
from collections.abc import Callable
from typing import Any

from tomolive.errors import CodecError
from tomolive.stream.limits import CONTAINERS
from tomolive.stream.plain_types import BUILDERS, Name, Pending, finished

_UNPACK = {format_: struct.Struct(format_) for format_ in ("<B", "<H", "<i", "<I", "<Q", ">d")}


def loads(data: bytes) -> Any:
    """Return the value of a pickle of protocol 2 or later; sets come back as lists, arrays read-only.

    Raises
    ------
    CodecError
        if it holds anything else than plain data and numpy arrays, is damaged, or would be much larger than
        its bytes.
    """
    reader = _Reader(data)
    budget = 8 * len(data) + 65536
    try:
        value = reader.run()
        if reader.is_unfinished or reader.containers > _HARMLESS_DEPTH or reader.repeated > budget:
            return finished(value, budget)
    except CodecError:
        raise
    except (IndexError, KeyError, struct.error):
        raise CodecError(f"a damaged pickle of {len(data)} bytes") from None
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError, MemoryError) as error:
        raise CodecError(f"a pickle that is no plain data: {error}") from None
    return value


class _Reader:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.containers = 0
        self.repeated = 0
        self.is_unfinished = False

    def run(self) -> Any:
        """Carry out the opcodes; those that an event is made of right here, the others from the table."""
        data, stack, memo, at = self.data, self.stack, self.memo, self.at
        for _ in range(_MOST_OPCODES):
            opcode = data[at]
            at += 1
            if opcode == _SHORT_TEXT:
                end = at + 1 + data[at]
                stack.append(data[at + 1 : end].decode())
                at = end
            elif opcode == _MEMOIZE:
                memo[len(memo)] = stack[-1]
            elif opcode == _FLOAT:
                stack.append(_float_at(data, at)[0])
                at += 8
            elif opcode == _RECALL:
                self.recall(data[at])
                at += 1
            elif opcode == _STOP:
                (value,) = stack
                return value
            else:
                self.at = at
                _table[opcode](self)
                at = self.at
        raise CodecError(f"a pickle of more than {_MOST_OPCODES} values and opcodes")

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        end = self.at + size
        if end > len(self.data):
            raise IndexError
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def number(self, format_: str) -> Any:
        """Return the next number."""
        unpacker = _UNPACK[format_]
        (value,) = unpacker.unpack_from(self.data, self.at)
        self.at += unpacker.size
        return value

    def line(self) -> str:
        """Return the text up to the next end of line."""
        end = self.data.index(b"\n", self.at)
        text = self.data[self.at : end].decode()
        self.at = end + 1
        return text

    def since_mark(self) -> list[Any]:
        """Take what was pushed since the last mark."""
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def recall(self, index: int) -> None:
        """Push again what was remembered, and keep account of how much that repeats."""
        value = self.memo[index]
        if type(value) is str or type(value) is bytes:
            self.repeated += len(value)
        else:
            self.is_unfinished = True
        self.stack.append(value)


def _pushes(make: Callable[[_Reader], Any]) -> Callable[[_Reader], None]:
    return lambda reader: reader.stack.append(make(reader))


def _count(reader: _Reader) -> None:
    reader.containers += 1
    if reader.containers > CONTAINERS:
        raise CodecError(f"a pickle of more than {CONTAINERS} lists and mappings")


def _opens(make: Callable[[_Reader], Any]) -> Callable[[_Reader], None]:
    def push(reader: _Reader) -> None:
        _count(reader)
        reader.stack.append(make(reader))

    return push


def _text(format_: str) -> Callable[[_Reader], None]:
    return _pushes(lambda reader: reader.take(reader.number(format_)).decode())


def _bytes(format_: str) -> Callable[[_Reader], None]:
    return _pushes(lambda reader: reader.take(reader.number(format_)))


def _tuple(size: int) -> Callable[[_Reader], None]:
    def make(reader: _Reader) -> None:
        values = tuple(reader.stack[-size:])
        if len(values) < size:
            raise IndexError
        reader.stack[-size:] = [values]
        _count(reader)

    return make


def _remember(index: Callable[[_Reader], int]) -> Callable[[_Reader], None]:
    def put(reader: _Reader) -> None:
        reader.memo[index(reader)] = reader.stack[-1]

    return put


def _append(reader: _Reader, values: list[Any]) -> None:
    target = reader.stack[-1]
    if type(target) is not list:
        raise TypeError("appends to something that is no list")
    target += values


def _set_items(reader: _Reader, values: list[Any]) -> None:
    target = reader.stack[-1]
    keys = values[::2]
    if type(target) is not dict or len(values) % 2:
        raise TypeError("sets items of something that is no mapping")
    if not all(type(key) is str for key in keys):
        raise CodecError(f"a mapping with the key {next(k for k in keys if type(k) is not str)!r:.60}")
    target.update(zip(keys, values[1::2], strict=True))


def _two(reader: _Reader) -> list[Any]:
    return [reader.stack.pop(-2), reader.stack.pop()]


def _named(reader: _Reader) -> Name:
    module, name = _two(reader)
    if type(module) is not str or type(name) is not str:
        raise TypeError("a name that is no text")
    reader.is_unfinished = True
    return Name(module, name)


def _global(reader: _Reader) -> Name:
    reader.is_unfinished = True
    return Name(reader.line(), reader.line())


def _make(reader: _Reader) -> None:
    """Make what a name and arguments stand for, where the name is one of the few that are known."""
    name, arguments = _two(reader)
    if not isinstance(name, Name) or not isinstance(arguments, tuple):
        raise TypeError("calls something that is no name")
    if name not in BUILDERS:
        raise CodecError(f"a pickle that calls {name}, which is no plain data")
    reader.stack.append(BUILDERS[name](*arguments))
    reader.is_unfinished = True


def _build(reader: _Reader) -> None:
    state = reader.stack.pop()
    target = reader.stack[-1]
    if not isinstance(target, Pending):
        raise TypeError("gives a state to something that has none")
    target.build(state)


def _long(reader: _Reader) -> int:
    return int.from_bytes(reader.take(reader.number("<B")), "little", signed=True)


def _refused(reader: _Reader) -> None:
    opcode = reader.data[reader.at - 1 : reader.at]
    raise CodecError(f"a pickle with opcode {opcode!r}, which plain data never need")


_HARMLESS_DEPTH = 200
_MOST_OPCODES = 1 << 20
"""An opcode of one byte can take a hundred bytes of memory; a list of a million numbers needs no more."""
_STOP, _SHORT_TEXT, _MEMOIZE, _FLOAT, _RECALL = ord("."), 0x8C, 0x94, ord("G"), ord("h")
_float_at = _UNPACK[">d"].unpack_from
_OPCODES: dict[int, Callable[[_Reader], Any]] = {
    0x80: lambda reader: reader.take(1),  # protocol
    0x95: lambda reader: reader.take(8),  # frame
    ord("N"): lambda reader: reader.stack.append(None),
    0x88: lambda reader: reader.stack.append(True),
    0x89: lambda reader: reader.stack.append(False),
    ord("K"): _pushes(lambda reader: reader.number("<B")),
    ord("M"): _pushes(lambda reader: reader.number("<H")),
    ord("J"): _pushes(lambda reader: reader.number("<i")),
    0x8A: _pushes(_long),
    ord("X"): _text("<I"),
    0x8D: _text("<Q"),
    ord("C"): _bytes("<B"),
    ord("B"): _bytes("<I"),
    0x8E: _bytes("<Q"),
    0x96: _bytes("<Q"),
    ord("}"): _opens(lambda _: {}),
    ord("]"): _opens(lambda _: []),
    ord(")"): _opens(lambda _: ()),
    0x8F: _opens(lambda _: []),  # a set: never hash what a peer chose
    ord("("): lambda reader: reader.marks.append(len(reader.stack)),
    ord("t"): _opens(lambda reader: tuple(reader.since_mark())),
    0x91: _opens(_Reader.since_mark),  # a frozen set
    0x85: _tuple(1),
    0x86: _tuple(2),
    0x87: _tuple(3),
    ord("a"): lambda reader: _append(reader, [reader.stack.pop()]),
    ord("e"): lambda reader: _append(reader, reader.since_mark()),
    0x90: lambda reader: _append(reader, reader.since_mark()),
    ord("s"): lambda reader: _set_items(reader, _two(reader)),
    ord("u"): lambda reader: _set_items(reader, reader.since_mark()),
    ord("0"): lambda reader: reader.stack.pop(),
    ord("1"): _Reader.since_mark,
    ord("q"): _remember(lambda reader: reader.number("<B")),
    ord("r"): _remember(lambda reader: reader.number("<I")),
    ord("j"): lambda reader: reader.recall(reader.number("<I")),
    ord("c"): _pushes(_global),
    0x93: _pushes(_named),
    ord("R"): _make,
    0x81: _make,
    ord("b"): _build,
}
_table = [_OPCODES.get(opcode, _refused) for opcode in range(256)]
