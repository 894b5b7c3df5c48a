"""The gates before a command, and what an error becomes on the way back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from chatd.errors import Disconnect, ErrorCode, Unavailable
from chatd.model import Protocol
from chatd.protocol import (
    Accepted,
    Acknowledge,
    AddFriend,
    AnswerFriend,
    Command,
    CreateGroup,
    Echo,
    Echoed,
    Failed,
    JoinGroup,
    KeepAlive,
    KeptAlive,
    Login,
    Logout,
    Malformed,
    SendMessage,
    ServerRequest,
)
from tests.core.stage import Stage, play

MEMBERS_ONLY: list[Command] = [
    SendMessage("bob", 0, 0, "hello", "fp", True),
    ServerRequest("{}", "fp", True),
    Acknowledge("fp"),
    AddFriend(2),
    AnswerFriend(2, True),
    CreateGroup("team", ""),
    JoinGroup(1),
    KeepAlive(),
    Logout(),
]


@pytest.mark.parametrize("wire", [Protocol.CHATSERVER, Protocol.MOBILEIMSDK])
@pytest.mark.parametrize("command", MEMBERS_ONLY, ids=lambda command: type(command).__name__)
def test_before_the_login_it_is_refused(tmp_path: Path, wire: Protocol, command: Command) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        peer = worker.peer(wire)
        await peer.do(command)
        (failed,) = peer.told(Failed)
        assert (failed.code, failed.command) == (ErrorCode.NOT_LOGGED_IN, command)
        assert peer.reason is (Disconnect.NOT_LOGGED_IN if wire is Protocol.MOBILEIMSDK else None)
        assert await worker.core.store.read(lambda tables: tables.accounts.all()) == []

    play(tmp_path, story)


def test_anybody_may_echo_and_be_told_what_makes_no_sense(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        peer = (await stage.worker()).peer()
        await peer.do(Echo(b"abc"))
        await peer.do(Malformed(ErrorCode.BAD_FIELD, "what is this", 7, "fp"))
        assert [event.raw for event in peer.told(Echoed)] == [b"abc"]
        (failed,) = peer.told(Failed)
        assert (failed.code, failed.text, failed.ref) == (ErrorCode.BAD_FIELD, "what is this", 7)
        assert not peer.closed

    play(tmp_path, story)


@pytest.mark.parametrize(
    "command",
    [
        SendMessage("", 1, 0, "hello", "fp", True, -1, 999),
        AddFriend(1, 999),
        AnswerFriend(1, True, 999),
        CreateGroup("team", "", 999),
        JoinGroup(1, 999),
        Logout(999),
    ],
    ids=lambda command: type(command).__name__,
)
def test_a_claimed_identity_is_refused_and_nothing_happens(tmp_path: Path, command: Command) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice, bob = await worker.desk("alice"), await worker.desk("bob")
        await bob.make_group()
        await alice.do(command)
        await stage.settled()
        assert alice.failures == [ErrorCode.CLAIMED_IDENTITY]
        assert alice.logged_in
        assert len(alice.events) == 2
        assert (bob.messages, bob.failures) == ([], [])
        assert await worker.core.store.read(lambda tables: tables.groups.ids_of(1)) == []

    play(tmp_path, story)


def test_ones_own_identity_may_be_claimed(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice, bob = await worker.desk("alice"), await worker.desk("bob")
        assert alice.session is not None
        await alice.do(SendMessage("bob", 0, 0, "hello", "", True, -1, alice.session.user.id))
        await stage.until("bob has it", lambda: bob.messages)

    play(tmp_path, story)


def test_keep_alive_and_requests_that_nobody_serves(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice = await (await stage.worker()).mobile("alice")
        await alice.do(KeepAlive())
        request = ServerRequest("not an object", "fp", True)
        await alice.do(request)
        assert len(alice.told(KeptAlive)) == 1
        assert [event.command for event in alice.told(Accepted)] == [request]

    play(tmp_path, story)


@pytest.mark.parametrize("wire", [Protocol.CHATSERVER, Protocol.MOBILEIMSDK])
def test_logging_out_ends_the_session_and_on_one_wire_the_connection(tmp_path: Path, wire: Protocol) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        peer = await worker.peer(wire).login("alice")
        await peer.do(Logout())
        assert peer.session is None
        assert peer.reason is (Disconnect.LOGGED_OUT if wire is Protocol.MOBILEIMSDK else None)
        await stage.until("nothing is left", lambda: not stage.exchange.locks)
        assert worker.core.logins.count == 0

    play(tmp_path, story)


@pytest.mark.parametrize("command", [SendMessage("bob", 0, 0, "hello", "fp", True), CreateGroup("team", "")])
def test_a_bug_is_told_once_with_its_traceback_and_the_session_lives(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice = await worker.mobile("alice")
        capfd.readouterr()

        def fail(*arguments: Any) -> None:
            raise ZeroDivisionError("planted")

        with monkeypatch.context() as patch:
            patch.setattr(worker.core.store, "append", fail)
            patch.setattr(worker.core.store, "write", fail)
            await alice.do(command)
        errors = capfd.readouterr().err
        assert errors.count("[ERROR]") == 1
        assert errors.count("ZeroDivisionError: planted") == 1
        assert "Traceback" in errors
        assert type(command).__name__ in errors
        (failed,) = alice.told(Failed)
        assert (failed.code, failed.command) == (ErrorCode.INTERNAL, command)
        assert "planted" not in failed.text
        await alice.do(command)
        await stage.settled()
        assert alice.logged_in
        assert ErrorCode.INTERNAL not in alice.failures[1:]

    play(tmp_path, story)


def test_a_store_that_is_out_of_order_refuses_for_the_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice, peer = await worker.mobile("alice"), worker.peer()

        async def fail(*arguments: Any) -> None:
            raise Unavailable("out of order")

        with monkeypatch.context() as patch:
            patch.setattr(worker.core.store, "write", fail)
            patch.setattr(worker.core.store, "read", fail)
            await alice.do(CreateGroup("team", ""))
            await peer.login("bob")
        assert (alice.failures, alice.closed) == ([ErrorCode.UNAVAILABLE], False)
        assert (peer.failures, peer.reason) == ([ErrorCode.UNAVAILABLE], Disconnect.LOGIN_REFUSED)

    play(tmp_path, story)


def test_a_full_store_queue_refuses_at_once(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(store_queue=100)
        worker = await stage.worker()
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        for number in range(150):
            alice.send("bob", str(number), str(number))
        assert alice.failures == [ErrorCode.BUSY] * 50
        await stage.until("the others are stored", lambda: len(alice.accepted) == 100)
        alice.send("bob", "again", "120")
        await stage.until("there is room again", lambda: len(bob.messages) == 101)
        assert bob.bodies == [*(str(number) for number in range(100)), "again"]

    play(tmp_path, story)


def test_bus_messages_that_are_not_understood_are_dropped(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        alice, bob = await one.mobile("alice"), await two.mobile("bob")
        assert bob.session is not None
        topic = bob.session.user.id << 1
        for data in (b"", b"\xff", b"\x92\x63\x01", bytes(1000)):
            one.bus.publish(topic, data)
        alice.send("bob", "hello")
        await stage.until("bob has it", lambda: bob.messages)

    play(tmp_path, story)


def test_the_row_counts(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        alice, bob = await one.mobile("alice"), await two.mobile("bob")
        for number in range(5):
            alice.send("bob", str(number))
        await stage.until("bob has them", lambda: len(bob.messages) == 5)
        bob.leave()
        stage.tick()
        assert (one.row.sessions, one.row.messages_in, one.row.messages_out) == (1, 5, 0)
        assert (two.row.sessions, two.row.messages_in, two.row.messages_out) == (0, 0, 5)
        await asyncio.sleep(0)

    play(tmp_path, story)


def test_a_login_is_no_gate_for_itself(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        peer = (await stage.worker()).peer()
        await peer.do(Login("", 12345, ""))
        assert peer.failures == [ErrorCode.BAD_CREDENTIALS]
        assert peer.reason is Disconnect.LOGIN_REFUSED

    play(tmp_path, story)
