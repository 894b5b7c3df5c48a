"""A session ends when its token expires: on every transport, and whatever becomes of the processes meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from tests.harness.deadline import run, until
from tests.harness.switches import switched_off
from tests.tokens.attacks import token
from tests.tokens.conftest import House
from tests.tokens.endings import LATE_S, TRANSPORTS, Guest

pytestmark = pytest.mark.xdist_group("tokens")
"""They share a daemon with the other tests of tokens."""


async def all_are_told(guests: list[Guest]) -> None:
    """Each at its time, not before and not later."""
    late_s = await asyncio.gather(*(guest.stay() for guest in guests))
    for guest, late in zip(guests, late_s, strict=True):
        assert 0 <= late < LATE_S, guest
        guest.peer.close()


def test_during_and_after_an_upgrade(house: House) -> None:
    """On each transport, one session whose token expires while the programs are replaced, and one afterwards. A
    connection with TLS cannot be handed over: its client comes again, and its session ends when the token says so."""

    async def story() -> None:
        daemon, before = house.daemon, house.daemon.workers()
        guests = [Guest.of(daemon, transport, 1.5 + 0.3 * at) for at, transport in enumerate(TRANSPORTS)]
        guests += [Guest.of(daemon, transport, 5.0) for transport in TRANSPORTS]
        renewed = Guest.of(daemon, "chatserver", 60.0)
        await asyncio.gather(*(guest.come() for guest in (*guests, renewed)))
        told = asyncio.ensure_future(all_are_told(guests))
        code, _, said = await asyncio.to_thread(daemon.ctl_said, "upgrade")
        assert code == 0, said
        assert not set(before) & set(daemon.workers())
        await renewed.log_in(token(renewed.name))  # on this wire it is refused unless it lengthens the session
        renewed.peer.close()
        await told

    run(story(), 90)


def test_when_workers_are_killed(house: House) -> None:
    """Nobody lives longer by coming again with the same token."""

    async def story() -> None:
        daemon = house.daemon
        daemon.expect_error("worker died")
        *streams, datagrams = [
            Guest.of(daemon, transport, 3.0) for transport in sorted(TRANSPORTS, key="mobileimsdk-udp".__eq__)
        ]
        await asyncio.gather(*(guest.come() for guest in (*streams, datagrams)))
        told = asyncio.ensure_future(all_are_told(streams))
        for pid in daemon.workers():
            os.kill(pid, signal.SIGKILL)
        await until(20.0, "they are replaced", lambda: len(daemon.logged("worker died")) == 2)
        await asyncio.to_thread(daemon.wait_ready)
        await datagrams.come()
        await asyncio.gather(told, all_are_told([datagrams]))

    run(story(), 90)


def test_an_end_that_is_left_behind_would_be_noticed(house: House) -> None:
    async def story() -> None:
        with switched_off("the_end_is_left_behind", house.daemon):
            guest = Guest.of(house.daemon, "mobileimsdk", 1.5)
            await guest.come()
            code, _, said = await asyncio.to_thread(house.daemon.ctl_said, "restart-workers")
            assert code == 0, said
            with pytest.raises(TimeoutError):
                await guest.is_told(max(0.0, guest.ends_at - time.time()) + 1.5)
            guest.peer.close()

    run(story(), 60)
