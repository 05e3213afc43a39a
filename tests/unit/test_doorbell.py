import asyncio
import threading
import time

from coordinator.engine.doorbell import Doorbell

LONG_S = 20.0
SOON_S = 5.0
"""Far below LONG_S: whoever is back by then did not wait its time out."""


def seconds_waited(bell: Doorbell, node_id: int, longest_s: float) -> float:
    started = time.monotonic()
    asyncio.run(bell.wait(node_id, longest_s))
    return time.monotonic() - started


def test_poll_is_held_until_the_bell_rings_from_another_thread() -> None:
    bell = Doorbell()
    ringer = threading.Timer(0.05, bell.ring, [7])
    ringer.start()
    assert seconds_waited(bell, 7, LONG_S) < SOON_S
    ringer.join()


def test_ring_without_a_poll_is_kept_for_the_next_one_and_for_that_one_only() -> None:
    bell = Doorbell()
    bell.ring(7)
    assert seconds_waited(bell, 7, LONG_S) < SOON_S
    assert seconds_waited(bell, 7, 0.02) >= 0.02


def test_poll_ends_empty_after_the_longest_wait() -> None:
    assert seconds_waited(Doorbell(), 7, 0.02) >= 0.02


def test_bell_of_one_node_does_not_wake_another() -> None:
    bell = Doorbell()
    bell.ring(8)
    assert seconds_waited(bell, 7, 0.02) >= 0.02
    assert seconds_waited(bell, 8, LONG_S) < SOON_S


def test_second_poll_of_a_node_that_restarted_hears_the_bell() -> None:
    bell = Doorbell()

    async def both() -> float:
        first = asyncio.create_task(bell.wait(7, 0.2))
        await asyncio.sleep(0)
        second = asyncio.create_task(bell.wait(7, LONG_S))
        await asyncio.sleep(0)
        started = time.monotonic()
        bell.ring(7)
        await second
        await first
        return time.monotonic() - started

    assert asyncio.run(both()) < SOON_S
