"""Kafka, or a broker that speaks its protocol: ``kafka://HOST:PORT/TOPIC``, in bluesky-kafka's format."""

from tomolive.stream.courier import Courier
from tomolive.stream.engines.kafka_courier import KafkaCourier
from tomolive.stream.engines.kafka_source import KafkaSource
from tomolive.stream.messages import Position
from tomolive.stream.sources import Source


def courier(address: str) -> Courier:
    """Return what takes spooled records to the topic."""
    return KafkaCourier(address)


def source(address: str, name: str, start: str, position: Position | None) -> Source:
    """Return what gives the topic's documents."""
    return KafkaSource(address, name, start, position)
