"""NATS JetStream: ``nats://HOST:PORT/PREFIX``, documents in a stream whose subjects begin with PREFIX."""

from tomolive.stream.courier import Courier
from tomolive.stream.engines.nats_courier import NatsCourier
from tomolive.stream.engines.nats_source import NatsSource
from tomolive.stream.messages import Position
from tomolive.stream.sources import Source


def courier(address: str) -> Courier:
    """Return what takes spooled records to the stream."""
    return NatsCourier(address)


def source(address: str, name: str, start: str, position: Position | None) -> Source:
    """Return what gives the stream's documents."""
    return NatsSource(address, name, start, position)
