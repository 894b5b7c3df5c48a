"""Handovers that something interrupts: what was not handed over goes on where it was."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from chatd.address_bans import AddressBan
from chatd.core.sessions.departures import Departures
from chatd.core.sessions.session import SessionState
from chatd.errors import Unavailable
from chatd.net.handover import messages, predecessor, successor
from chatd.net.handover.channel import Channel
from tests.harness.deadline import until
from tests.harness.mobileimsdk import DATA, KICKED
from tests.net.handover.pair import Pair, play
from tests.net.handover.test_datagrams import logged_in
from tests.net.handover.test_streams import acknowledged, packet, silent, texts


def state_of(pair: Pair, name: str) -> SessionState | None:
    """Of the user's session at the successor."""
    found = [one.state for one in pair.new.core.hub.sessions() if one.user.name == name]
    return found[0] if found else None


async def everybody_talks(pair: Pair, name: str = "alice") -> None:
    """A session goes on, and has its lock: its user cannot log in a second time without ending it."""
    carol = await pair.third.mobile("carol")
    carol.put({**packet("still there?", to=name), "from": "carol"})
    await acknowledged(carol, ["still there?"])
    carol.close()


@pytest.mark.parametrize("phase", ["greeted", "offered", "prepared"])
def test_sessions_stay_when_the_successor_dies(memory_path: Path, phase: str) -> None:
    async def story(pair: Pair) -> None:
        alice, bob = await pair.old.mobile("alice"), await logged_in(pair, "bob")
        moving = asyncio.create_task(pair.begin())
        reached: dict[str, Callable[[], object]] = {
            "greeted": lambda: pair.successor,
            "offered": lambda: pair.new.core.hub.sessions(),
            "prepared": lambda: (
                pair.old.connections.members
                and any(getattr(one, "stalled_at", 0) for one in pair.old.connections.members)
            ),
        }
        await until(5, phase, reached[phase], step_s=0)
        assert pair.successor is not None
        pair.successor.close()
        await moving
        assert state_of(pair, "alice") is None
        assert pair.old.core.logins.count == 2 - len(pair.new.udp.peers)
        await everybody_talks(pair)
        assert await texts(alice, 1) == ["still there?"]
        alice.put(packet("to bob"))
        await acknowledged(alice, ["to bob"])
        if phase != "prepared":
            assert pair.old.udp.is_reading
            assert await texts(bob, 1) == ["to bob"]
        kicked = await pair.third.mobile("alice")
        await alice.find(type=KICKED)
        assert silent(kicked)

    play(memory_path, story)


def test_what_was_only_offered_is_forgotten_when_the_predecessor_dies(memory_path: Path) -> None:
    async def story(pair: Pair) -> None:
        await pair.old.mobile("alice")
        moving = asyncio.create_task(pair.begin())
        await until(5, "it is offered", lambda: state_of(pair, "alice") is SessionState.ARRIVING, step_s=0)
        assert pair.socket is not None
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)
        await until(5, "it is forgotten", lambda: state_of(pair, "alice") is None)
        assert pair.new.udp.is_reading
        assert pair.new.core.logins.locks.is_idle
        await everybody_talks(pair)

    play(memory_path, story)


class Dying(Channel):
    """Ends with the first session that it sends, so that the successor reads the session and the end together."""

    def send(self, message: messages.HandoverMessage, descriptors: Sequence[int] = ()) -> None:
        super().send(message, descriptors)
        if isinstance(message, messages.MovedPeer):
            self.close()


def test_a_session_that_was_sent_is_served_although_the_predecessor_ends_at_once(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predecessor, "Channel", Dying)

    async def story(pair: Pair) -> None:
        await logged_in(pair, "bob")
        await pair.hand_over()
        await until(5, "it is served", lambda: state_of(pair, "bob") is SessionState.LIVE)
        await until(5, "datagrams are read", lambda: pair.new.udp.is_reading)

    play(memory_path, story)


def test_a_session_of_a_banned_address_does_not_arrive(memory_path: Path) -> None:
    """The ban has come to the successor, and not yet to the predecessor."""

    async def story(pair: Pair) -> None:
        await pair.old.mobile("alice")
        await logged_in(pair, "bob")
        moving = asyncio.create_task(pair.begin())
        await until(5, "the handover begins", lambda: pair.successor, step_s=0)
        pair.new.connections.bans.replace([AddressBan(network="127.0.0.1/32")])
        await moving
        await until(5, "both have ended", lambda: not pair.new.core.hub.sessions() and not pair.new.connections.members)
        await until(5, "their locks are free", lambda: pair.new.core.logins.locks.is_idle)
        assert pair.new.core.logins.count == pair.old.core.logins.count == 0
        assert not pair.new.udp.peers

    play(memory_path, story)


def test_nothing_moves_to_a_successor_that_speaks_another_version(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(successor, "VERSION", messages.VERSION + 1)

    async def story(pair: Pair) -> None:
        alice = await pair.old.mobile("alice")
        assert await pair.hand_over() == (0, 1)
        await everybody_talks(pair)
        assert await texts(alice, 1) == ["still there?"]

    play(memory_path, story)


def test_sessions_move_when_the_store_answers_again(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails = [True, True]

    async def settle(self: Departures) -> None:
        if fails:
            fails.pop()
            raise Unavailable("the store does not answer")
        await whole(self)

    whole = Departures.settle
    monkeypatch.setattr(Departures, "settle", settle)

    async def story(pair: Pair) -> None:
        alice = await pair.old.mobile("alice")
        assert await pair.hand_over() == (1, 0)
        assert not fails
        await everybody_talks(pair)
        assert await texts(alice, 1) == ["still there?"]

    play(memory_path, story)


def test_a_session_stays_with_its_lock_when_there_is_no_descriptor_left(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predecessor, "PATIENCE_S", 0.5)

    async def story(pair: Pair) -> None:
        alice = await pair.old.mobile("alice")
        pair.old.of("alice")

        def fail(descriptor: int) -> int:
            raise OSError("Too many open files")

        with monkeypatch.context() as patched:
            patched.setattr(os, "dup", fail)
            assert await pair.hand_over() == (0, 1)
        locks = pair.old.core.logins.locks
        await until(10, "it has its lock again", lambda: locks.is_idle)
        await everybody_talks(pair)
        assert await texts(alice, 1) == ["still there?"]
        kicked = await pair.third.mobile("alice")
        await alice.find(type=KICKED)
        assert silent(kicked)

    play(memory_path, story)


def test_a_session_whose_account_has_changed_stays_and_is_ended(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """chatctl has locked the account, and the predecessor has not looked yet."""

    async def story(pair: Pair) -> None:
        alice = await pair.old.mobile("alice")
        session = pair.old.of("alice").session
        assert session is not None
        user_id = session.user.id
        await pair.third.core.store.write(lambda tables: tables.accounts.lock(user_id, "", 1))
        await pair.hand_over()
        assert state_of(pair, "alice") is None
        assert (await alice.find(type=KICKED))["dataContent"]
        await alice.end()

    play(memory_path, story)


def test_a_session_of_a_listener_that_the_successor_has_not_stays(memory_path: Path) -> None:
    async def story(pair: Pair) -> None:
        alice, bob = await pair.old.mobile("alice"), await pair.old.streaming("bob")
        name = "mobileimsdk"
        options, sock = pair._sockets[name]
        pair._sockets[name] = msgspec.structs.replace(options, address="tcp://127.0.0.1:9"), sock
        assert await pair.hand_over() == (1, 1)
        assert pair.new.of("bob")
        await everybody_talks(pair)
        assert (await alice.find(type=DATA))["dataContent"] == "still there?"
        assert silent(bob)

    play(memory_path, story)
