"""A cluster of three NATS servers: one of them may go."""

import asyncio
from contextlib import ExitStack

import nats
import pytest

from tomolive.bench.brokers import NatsBroker, free_port


@pytest.fixture
def cluster(start_broker, tmp_path):
    """Three servers that know each other."""
    routes = [free_port() for _ in range(3)]
    urls = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                start_broker(
                    NatsBroker,
                    tmp_path / f"server-{number}",
                    settings=f"server_name: server-{number}\n"
                    f'cluster {{ name: three, listen: "127.0.0.1:{port}", routes: [{urls}] }}',
                )
            )
            for number, port in enumerate(routes)
        ]


def _leader(servers: list[NatsBroker], stream: str) -> int:
    """Return which server leads a stream."""

    async def ask() -> str:
        client = await nats.connect(f"nats://127.0.0.1:{servers[0].port}")
        try:
            info = await client.jetstream().stream_info(stream)
            assert info.cluster is not None
            return info.cluster.leader or ""
        finally:
            await client.close()

    return int(asyncio.run(ask()).rpartition("-")[2])


def test_the_leader_of_three_may_be_killed(cluster, publish, listen, make_run, wait_for):
    """With three replicas the death of the stream's leader loses, doubles and reorders nothing."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in cluster)
    address = f"nats://{hosts}/scans?replicas=3"
    run = make_run(600)
    publisher = publish(address, run[:200])
    listener = listen(address, name="survivor", start=run[0][1]["uid"])
    wait_for(lambda: len(listener.documents) >= 100)
    for name, doc in run[200:400]:
        publisher(name, doc)
    cluster[_leader(cluster, "scans")].kill()
    for name, doc in run[400:]:
        publisher(name, doc)
    wait_for(lambda: len(listener.documents) >= len(run))
    assert publisher.flush(60)
    assert listener.documents == run
