"""The local bus: the contract, and what only it has (links, queues, sockets in a directory)."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import socket
import stat
import time
from pathlib import Path

import pytest

from chatd.bus.local.bus import LocalBus
from chatd.bus.local.frames import HEADER, FrameKind, frame
from chatd.bus.local.peer import LocalLimits, LocalPeer
from chatd.errors import Unavailable
from tests.bus.contract import BusContract, Stage, play
from tests.bus.member import Member, eventually

QUICK = LocalLimits(ping_s=0.2, silent_s=0.8)
SMALL_QUEUE = LocalLimits(ping_s=0.2, silent_s=0.8, queue_bytes=256 * 1024)
SHORT_QUEUE = LocalLimits(ping_s=0.2, silent_s=0.3, queue_bytes=16 * 1024)
FRESH = 1 << 30


class LocalPlace:
    def __init__(self, directory: Path, limits: LocalLimits = QUICK) -> None:
        self.directory = directory
        self.limits = limits
        self.arguments = ["local", str(directory), str(limits.ping_s), str(limits.silent_s), str(limits.queue_bytes)]

    def bus(self, slot: int) -> LocalBus:
        return LocalBus(self.directory / "bus", self.directory / "claims", slot, self.limits)

    def sockets(self) -> list[Path]:
        return sorted((self.directory / "bus").iterdir())


@pytest.fixture
def place(tmp_path: Path) -> LocalPlace:
    return LocalPlace(tmp_path)


def peers_of(member: Member) -> list[LocalPeer]:
    assert isinstance(member.bus, LocalBus)
    return list(member.bus.peers)


async def until_not_waited_for(member: Member) -> None:
    """subscribe() does not wait for a peer that has been silent for a while; one that hangs, that is."""
    async with asyncio.timeout(15):
        for topic in itertools.count(FRESH + 1):
            began = time.monotonic()
            await member.bus.subscribe([topic])
            member.bus.unsubscribe([topic])
            if time.monotonic() - began < 0.5 * QUICK.answer_s:
                return


async def overflow(member: Member) -> None:
    """So many requests for peers that hang that the link to them is cut."""
    for number in range(20_000):
        await member.bus.subscribe([number])
        member.bus.unsubscribe([number - 10])
        if number % 100 == 0:
            await asyncio.sleep(0)


class TestContract(BusContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> LocalPlace:
        return LocalPlace(tmp_path)


class TestPeers:
    def test_a_socket_belongs_to_its_owner_alone_and_is_removed_at_close(self, place: LocalPlace) -> None:
        async def scenario(stage: Stage) -> None:
            before = os.umask(0o022)
            try:
                a = await stage.member()
            finally:
                os.umask(before)
            (path,) = place.sockets()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            await a.bus.close()
            assert place.sockets() == []

        play(place, scenario)

    def test_the_socket_of_a_dead_worker_is_removed(self, place: LocalPlace) -> None:
        async def scenario(stage: Stage) -> None:
            b = await stage.agent()
            await b.kill()
            assert len(place.sockets()) == 1
            a = await stage.member()
            (path,) = place.sockets()
            assert path.name.startswith("2-")
            assert a.bus.healthy
            assert a.gaps == 0

        play(place, scenario)

    def test_open_waits_only_for_a_while_for_a_stopped_worker(self, place: LocalPlace) -> None:
        async def scenario(stage: Stage) -> None:
            b = await stage.agent()
            await b.call("subscribe", [1])
            b.stop()
            a = await stage.member()
            a.bus.publish(1, b"b is not known yet")
            b.go_on()
            # b is told that its subscription came too late for what was published before.
            await b.until_gap()
            a.bus.publish(1, b"now it is")
            await b.until_received(1)
            assert b.received == [(1, b"now it is")]

        play(place, scenario)

    def test_a_peer_known_to_hang_is_not_waited_for_and_the_bus_stays_healthy(self, place: LocalPlace) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.member(), await stage.agent()
            await eventually(lambda: a.bus.healthy)
            b.stop()
            await until_not_waited_for(a)
            async with asyncio.timeout(0.5):
                await a.bus.subscribe([1])
            assert a.bus.healthy
            assert len(a.bus.other_workers()) == 1
            b.go_on()
            await a.until_gap()
            assert a.bus.healthy

        play(place, scenario)

    def test_the_bus_is_not_healthy_while_this_side_cannot_connect(self, tmp_path: Path) -> None:
        """Even when the other worker hangs too: what it says later could not be answered."""
        place = LocalPlace(tmp_path, SHORT_QUEUE)

        async def scenario(stage: Stage) -> None:
            a, b = await stage.member(), await stage.agent()
            b.stop()
            await until_not_waited_for(a)
            spare = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) // 2, spare[1]))
            try:
                await overflow(a)
                await eventually(lambda: not a.bus.healthy)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, spare)
            await eventually(lambda: a.bus.healthy)
            b.go_on()
            await a.until_gap()

        play(place, scenario)

    def test_a_directory_that_cannot_be_used_is_refused(self, tmp_path: Path) -> None:
        async def opened(directory: Path) -> None:
            bus = LocalBus(directory, tmp_path / "claims", 0)
            try:
                await bus.open(lambda topic, data: None, lambda: None, lambda key: None)
            finally:
                await bus.close()

        (tmp_path / "file").write_text("")
        for directory in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("long" * 30)):
            with pytest.raises(Unavailable, match="cannot join the bus"):
                asyncio.run(opened(directory))

    def test_connections_of_other_programs_do_no_harm(self, place: LocalPlace) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            await b.bus.subscribe([1])
            nonsense = [
                b"GET / HTTP/1.0\r\n\r\n" * 100,
                frame(FrameKind.HELLO, 99, b"9-9-9.sock"),
                frame(FrameKind.SUBSCRIBE, 1, bytes(8)),
                frame(77, 1),
                HEADER.pack(1 << 31, FrameKind.PUBLISH, 1),
            ]
            path = next(path for path in place.sockets() if path.name.startswith("2-"))
            for data in nonsense:
                intruder = socket.socket(socket.AF_UNIX)
                intruder.connect(str(path))
                intruder.sendall(data)
                intruder.setblocking(False)
                async with asyncio.timeout(5):
                    assert await asyncio.get_running_loop().sock_recv(intruder, 1) == b""
                intruder.close()
            with socket.socket(socket.AF_UNIX) as silent:
                silent.connect(str(path))
            a.bus.publish(1, b"still here")
            await b.until_received(1)
            assert (b.received, b.gaps) == ([(1, b"still here")], 0)
            assert not await b.sees(0)

        play(place, scenario)


class TestConfirmation:
    """subscribe() waits until every peer that answers has confirmed it."""

    def test_a_peer_that_does_not_answer_is_not_waited_for_and_causes_a_gap_later(self, place: LocalPlace) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.member(), await stage.agent()
            await a.bus.subscribe([1])
            b.stop()
            started = time.monotonic()
            await asyncio.gather(a.bus.subscribe([2]), a.bus.subscribe([2]), a.bus.subscribe([3]))
            assert 0.9 < time.monotonic() - started < 3
            assert a.gaps == 0
            b.go_on()
            await a.until_gap()
            await b.call("publish", [(2, "late")])
            await a.until_received(1)
            assert a.received == [(2, b"late")]
            started = time.monotonic()
            await a.bus.subscribe([4])
            assert time.monotonic() - started < 0.9

        play(place, scenario)

    def test_a_peer_that_dies_before_it_answered_causes_a_gap(self, place: LocalPlace) -> None:
        async def scenario(stage: Stage) -> None:
            b, c = await stage.agent(), await stage.agent()
            b.stop()
            c.stop()
            a = await stage.member()
            await a.bus.subscribe([1])
            await b.kill()
            await a.until_gap()
            c.go_on()
            await a.until_gap(1)
            await c.call("publish", [(1, "from c")])
            await a.until_received(1)

        play(place, scenario)

    def test_two_callers_that_subscribe_to_one_topic_both_wait(self, place: LocalPlace) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.member(), await stage.agent()
            b.stop()
            first = asyncio.create_task(a.bus.subscribe([2]))
            await asyncio.sleep(0)
            second = asyncio.create_task(a.bus.subscribe([2]))
            done, _ = await asyncio.wait([first, second], timeout=0.3, return_when=asyncio.FIRST_COMPLETED)
            assert not done
            b.go_on()
            await asyncio.gather(first, second)

        play(place, scenario)


class TestBrokenLinks:
    """A link is cut while both ends live."""

    @staticmethod
    def peer_of(member: Member) -> LocalPeer:
        (peer,) = peers_of(member)
        return peer

    async def cut(self, sender: Member, receiver: Member) -> None:
        """Both ends know, and the next tick makes the link anew: one that is lost soon after it was tried waits."""
        peer = self.peer_of(sender)
        peer.tried_at = asyncio.get_running_loop().time()
        peer.outgoing.abort()
        await eventually(lambda: self.peer_of(receiver).incoming is None)
        assert peer.outgoing is None

    @pytest.mark.parametrize("end", ["sender", "receiver"])
    def test_a_broken_link_is_made_anew_and_causes_a_gap(self, place: LocalPlace, end: str) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            await a.bus.subscribe([1])
            await b.bus.subscribe([2])
            await asyncio.sleep(QUICK.ping_s)  # a link that just came up is made anew at the next tick only
            for round_number in range(3):
                gaps = b.gaps
                if end == "sender":
                    self.peer_of(a).outgoing.abort()
                else:
                    self.peer_of(b).incoming.close()
                # The side that listens learns of it; what is published meanwhile is lost.
                await b.until_gap(gaps)
                await eventually(lambda: a.bus.healthy and b.bus.healthy and self.peer_of(b).synced)
                await a.bus.subscribe([10 + round_number])
                received = len(b.received)
                a.bus.publish(2, b"%d" % round_number)
                await b.until_received(received + 1)
                assert b.received[-1] == (2, b"%d" % round_number)
                b.bus.publish(1, b"the other way")
                b.bus.publish(10 + round_number, b"and the new topic")
                await a.until_received(2 * round_number + 2)

        play(place, scenario)

    def test_a_publish_while_there_is_no_link_causes_a_gap_when_it_is_back(self, place: LocalPlace) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            await b.bus.subscribe([2])
            await self.cut(a, b)
            gaps = b.gaps
            a.bus.publish(2, b"lost")
            await eventually(lambda: self.peer_of(a).outgoing is not None)
            a.bus.publish(2, b"heard, or a gap after it")
            await b.until_gap(gaps)
            await b.bus.subscribe([3])
            a.bus.publish(2, b"heard")
            await b.until(lambda: (2, b"heard") in b.received)
            assert (2, b"lost") not in b.received

        play(place, scenario)

    def test_topics_unsubscribed_while_there_is_no_link_are_forgotten(self, place: LocalPlace) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            await b.bus.subscribe([2, 3])
            await self.cut(b, a)
            assert not await a.sees(2)
            b.bus.unsubscribe([2])
            await a.until_sees(3)
            assert not await a.sees(2)

        play(place, scenario)

    def test_subscribing_again_waits_for_a_link_that_is_made_anew(self, place: LocalPlace) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            await b.bus.subscribe([2])
            await self.cut(b, a)
            await b.bus.subscribe([2])
            a.bus.publish(2, b"heard")
            await b.until_received(1)
            await b.until_gap()

        play(place, scenario)

    def test_what_a_dead_worker_sent_is_read_to_its_end_before_the_gap_is_reported(self, place: LocalPlace) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.member(), await stage.agent()
            await a.bus.subscribe([1])
            await eventually(lambda: self.peer_of(a).synced)
            transport = self.peer_of(a).incoming.transport
            transport.pause_reading()
            await b.call("publish", [(1, "last words")])
            await b.call("is_subscribed_elsewhere", 1)  # a turn of its loop later: they have left
            await b.kill()
            await eventually(lambda: not a.bus.other_workers())
            assert (a.received, a.gaps) == ([], 0)
            transport.resume_reading()
            await a.until_gap()
            assert a.received == [(1, b"last words")]

        play(place, scenario)


class TestOverflow:
    def test_a_peer_that_does_not_read_costs_a_bounded_queue_and_is_told_of_the_gap(self, tmp_path: Path) -> None:
        place = LocalPlace(tmp_path, SMALL_QUEUE)

        async def scenario(stage: Stage) -> None:
            a, b = await stage.member(), await stage.agent()
            await b.call("subscribe", [1, 2])
            b.stop()
            before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for _ in range(1000):
                for _ in range(10):
                    a.bus.publish(1, bytes(10_000))
                await asyncio.sleep(0)
            grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
            assert grown_kib < 8 * 1024  # of the 100 MB published
            b.go_on()
            await b.until_gap()
            assert len(b.received) < 1000
            a.bus.publish(2, b"after the gap")
            await b.until(lambda: (2, b"after the gap") in b.received)
            assert b.gaps == 1

        play(place, scenario)

    def test_requests_that_pile_up_cut_the_link_and_the_peer_catches_up_later(self, tmp_path: Path) -> None:
        place = LocalPlace(tmp_path, SHORT_QUEUE)

        async def scenario(stage: Stage) -> None:
            a, b = await stage.member(), await stage.agent()
            b.stop()
            await until_not_waited_for(a)
            (peer,) = peers_of(a)
            first_link = peer.outgoing
            await overflow(a)
            await eventually(lambda: peer.outgoing is not first_link)
            b.go_on()
            await a.until_gap()
            await eventually(lambda: a.bus.healthy)
            await a.bus.subscribe([FRESH])
            await b.call("publish", [(19_000, "not wanted any more"), (19_999, "wanted"), (FRESH, "fresh")])
            await a.until_received(2)
            assert a.received == [(19_999, b"wanted"), (FRESH, b"fresh")]

        play(place, scenario)
