"""Which calls wait for which peers: only the numbers, without sockets."""

from __future__ import annotations

import asyncio

from chatd.bus.local.confirmations import Confirmations
from chatd.bus.local.peer import LocalPeer
from tests.harness.deadline import run

LONG_S = 30.0


def peers_of(*names: str) -> dict[str, LocalPeer]:
    return {name: LocalPeer(name=name, heard_at=0.0) for name in names}


async def is_waiting(task: asyncio.Task[None]) -> bool:
    await asyncio.sleep(0)
    return not task.done()


def test_a_call_waits_until_every_peer_has_confirmed_its_batch() -> None:
    async def story() -> None:
        peers = peers_of("a", "b")
        confirmations = Confirmations(peers)
        first_batch = confirmations.begin_batch()
        first = asyncio.create_task(confirmations.wait(LONG_S))
        await asyncio.sleep(0)
        second_batch = confirmations.begin_batch()
        second = asyncio.create_task(confirmations.wait(LONG_S))
        peers["a"].confirmed = second_batch
        peers["b"].confirmed = first_batch
        confirmations.release()
        assert (await is_waiting(first), await is_waiting(second)) == (False, True)
        peers["b"].confirmed = second_batch
        confirmations.release()
        await second

    run(story())


def test_a_peer_that_is_gone_is_not_waited_for() -> None:
    async def story() -> None:
        peers = peers_of("a")
        confirmations = Confirmations(peers)
        confirmations.begin_batch()
        waiting = asyncio.create_task(confirmations.wait(LONG_S))
        assert await is_waiting(waiting)
        del peers["a"]
        confirmations.release()
        await waiting

    run(story())


def test_a_peer_that_does_not_answer_in_time_is_abandoned_for_this_batch_alone() -> None:
    async def story() -> None:
        peers = peers_of("a")
        confirmations = Confirmations(peers)
        batch = confirmations.begin_batch()
        await confirmations.wait(0.01)
        assert (peers["a"].confirmed, peers["a"].abandoned) == (-1, batch)
        await confirmations.wait(LONG_S)  # it is not waited for again
        confirmations.begin_batch()
        waiting = asyncio.create_task(confirmations.wait(LONG_S))
        assert await is_waiting(waiting)
        waiting.cancel()

    run(story())
