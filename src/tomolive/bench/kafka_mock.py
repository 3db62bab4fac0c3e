"""librdkafka's mock cluster as a process: ``python -m tomolive.bench.kafka_mock FILE`` tells its port."""

import sys
import time
from pathlib import Path

from confluent_kafka import Producer


def run(told: Path) -> None:
    """Serve until the process is ended."""
    cluster = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 2})
    brokers = cluster.list_topics(timeout=30).brokers
    fresh = told.with_suffix(".new")
    fresh.write_text(str(next(iter(brokers.values())).port))
    fresh.replace(told)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
