"""Brokers, publishers and consumers that are killed at random moments."""

import random
import threading

import pytest

from tomolive.bench import fault_kills
from tomolive.bench.engines import EngineCast
from tomolive.bench.fault_roles import numbers_in


def test_killing_anyone_at_random_moments_loses_doubles_and_reorders_nothing(broker, tmp_path):
    """End broker, publisher and consumer: each promised document arrives once, in order."""
    seed = random.SystemRandom().randrange(1 << 32)
    outcome = fault_kills.run(
        tmp_path, 2, 800, 3, 1000.0, seed, lambda _: None, cast_in=lambda at: EngineCast(at, broker)
    )
    assert (outcome.lost, outcome.duplicated, outcome.out_of_order) == (0, 0, 0), f"seed {seed}: {outcome}"
    tried = {(path.name, n) for path in tmp_path.rglob("tried-*") for n in numbers_in(path)}
    assert len(tried) == 1600
    # a publisher that is killed between publishing and noting a document has not promised it
    assert 1600 - outcome.publisher_kills <= outcome.promised <= 1600, f"seed {seed}: {outcome}"


def test_a_publisher_that_begins_without_a_broker_delivers_when_one_comes(
    broker, address, publish, listen, make_run, wait_for
):
    """With the broker away documents wait in the spool; a later one of the same address gets them."""
    if not broker.keeps:
        pytest.skip("this broker forgets everything when it ends")
    run = make_run(50)
    broker.kill()
    publisher = publish(address, run, wait=False)
    assert publisher.waiting == len(run)
    broker.start()
    listener = listen(address, start=run[0][1]["uid"], wait=False) if publisher.flush(60) else None
    assert listener is not None
    wait_for(lambda: len(listener.of_run(run)) >= len(run))
    assert listener.of_run(run) == run


def test_a_named_consumer_survives_its_broker(broker, address, publish, listen, make_run, wait_for):
    """A consumer that is connected when the broker is killed goes on with it: no gap, no repetition."""
    if not broker.keeps:
        pytest.skip("this broker forgets everything when it ends")
    run = make_run(400)
    listener = listen(address, name="survivor", start="new")
    publisher = publish(address, run[:200])
    wait_for(lambda: len(listener.of_run(run)) >= 100)
    broker.kill()
    for name, doc in run[200:]:
        publisher(name, doc)
    broker.start()
    wait_for(lambda: len(listener.of_run(run)) >= len(run))
    assert listener.of_run(run) == run


def test_a_broker_that_stands_still_is_waited_for(broker, address, publish, listen, make_run, wait_for):
    """With its connections open and no answer for a while, nothing is lost, doubled or reordered."""
    run = make_run(300)
    listener = listen(address, start="new")
    publisher = publish(address, run[:150], wait=False)
    still = threading.Thread(target=broker.pause, args=(1.5,))
    still.start()
    for name, doc in run[150:]:
        publisher(name, doc)
    still.join()
    wait_for(lambda: len(listener.of_run(run)) >= len(run))
    assert listener.of_run(run) == run
