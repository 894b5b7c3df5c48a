"""Names, passwords, and what a guess costs."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from chatd.core.passwords import Hasher
from chatd.errors import Disconnect, ErrorCode
from chatd.model import Protocol
from chatd.protocol import Login, LoginAccepted, Register, Registered
from tests.core.stage import Peer, Stage, Worker, play


async def guarded(stage: Stage, **settings: Any) -> Worker:
    stage.account(login="password", insecure_open_login=False, **settings)
    return await stage.worker()


async def register(worker: Worker, name: str, secret: str) -> Peer:
    peer = worker.peer(Protocol.CHATSERVER)
    await peer.do(Register(name, secret))
    return peer


def test_who_registers_may_log_in_by_name_and_by_number(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await guarded(stage)
        (registered,) = (await register(worker, "Alice", "secret")).told(Registered)
        user = registered.user
        for command in (
            Login("Alice", 0, "secret"),
            Login("ALICE", 0, "secret"),
            Login("", user.id, "secret"),
            Login(str(user.id), 0, "secret"),
        ):
            peer = worker.peer(Protocol.CHATSERVER)
            await peer.do(command)
            assert [event.user for event in peer.told(LoginAccepted)] == [user]
            peer.leave()
        assert (await register(worker, "aLICE", "other")).failures == [ErrorCode.NAME_TAKEN]
        account = await worker.core.store.read(lambda tables: tables.accounts.find("alice", 0))
        assert account is not None
        assert account.password.startswith("$argon2id$")

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("name", "secret", "code"),
    [
        ("", "secret", ErrorCode.NAME_NOT_ALLOWED),
        ("#1", "secret", ErrorCode.NAME_NOT_ALLOWED),
        ("77", "secret", ErrorCode.NAME_NOT_ALLOWED),
        ("admin", "secret", ErrorCode.NAME_NOT_ALLOWED),
        ("carol", "12345", ErrorCode.PASSWORD_NOT_ALLOWED),
        ("carol", "x" * 1025, ErrorCode.PASSWORD_NOT_ALLOWED),
    ],
)
def test_what_may_not_be_registered(tmp_path: Path, name: str, secret: str, code: ErrorCode) -> None:
    async def story(stage: Stage) -> None:
        worker = await guarded(stage, min_password_chars=6)
        assert (await register(worker, name, secret)).failures == [code]
        assert await worker.core.store.read(lambda tables: tables.accounts.all()) == []

    play(tmp_path, story)


def test_registration_may_be_closed(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await guarded(stage, registration="closed")
        assert (await register(worker, "carol", "secret")).failures == [ErrorCode.REGISTRATION_CLOSED]

    play(tmp_path, story)


@pytest.mark.parametrize("wire", [Protocol.CHATSERVER, Protocol.MOBILEIMSDK])
@pytest.mark.parametrize(
    "command",
    [
        Login("alice", 0, "wrong"),
        Login("alice", 0, ""),
        Login("alice", 0, "x" * 100_000),
        Login("alice", 0, "\ud800"),
        Login("nobody", 0, "secret"),
        Login("", 999, "secret"),
        Login("", -1, "secret"),
        Login("without", 0, ""),
    ],
    ids=lambda command: f"{command.name}-{len(command.secret)}" if isinstance(command, Login) else None,
)
def test_whatever_is_wrong_the_answer_is_the_same_and_costs_one_hash(
    tmp_path: Path, wire: Protocol, command: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(stage: Stage) -> None:
        worker = await guarded(stage)
        await register(worker, "alice", "secret")
        await worker.core.store.write(lambda tables: tables.accounts.create("without", "", 1))
        verified: list[str] = []
        keep = Hasher.verify_now

        def verify(self: Hasher, hashed: str, secret: str) -> bool:
            assert threading.current_thread().name.startswith("hash")
            verified.append(hashed)
            return keep(self, hashed, secret)

        monkeypatch.setattr(Hasher, "verify_now", verify)
        peer = worker.peer(wire)
        await peer.do(command)
        assert peer.failures == [ErrorCode.BAD_CREDENTIALS]
        assert peer.reason is (Disconnect.LOGIN_REFUSED if wire is Protocol.MOBILEIMSDK else None)
        (hashed,) = verified
        parameters = {text.split("$")[3] for text in (hashed, worker.core.accounts.hasher.hash_now("x"))}
        assert len(parameters) == 1  # as expensive as a real one

    play(tmp_path, story)


def test_hashing_never_holds_up_the_loop_and_its_queue_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(login_queue=5)
        worker = await guarded(stage)
        await register(worker, "alice", "secret")
        gate = threading.Event()
        keep = Hasher.verify_now

        def slow(self: Hasher, hashed: str, secret: str) -> bool:
            assert gate.wait(20)
            return keep(self, hashed, secret)

        monkeypatch.setattr(Hasher, "verify_now", slow)
        peers = [worker.peer(Protocol.CHATSERVER) for _ in range(8)]
        entering = [asyncio.ensure_future(peer.do(Login("alice", 0, "wrong"))) for peer in peers]
        try:
            await stage.until("those over the limit are refused", lambda: sum(len(peer.events) for peer in peers) == 2)
            assert sorted(peer.failures for peer in peers)[6:] == [[ErrorCode.BUSY]] * 2
        finally:
            gate.set()
        await asyncio.gather(*entering)
        assert sorted(peer.failures for peer in peers)[:6] == [[ErrorCode.BAD_CREDENTIALS]] * 6
        peer = worker.peer(Protocol.CHATSERVER)
        await peer.do(Login("alice", 0, "secret"))
        assert peer.logged_in

    play(tmp_path, story)


def test_open_login_makes_the_account_once(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        peers = [worker.peer(wire) for worker in (one, two) for wire in (Protocol.CHATSERVER, Protocol.MOBILEIMSDK)]
        await asyncio.gather(*(peer.login("newcomer") for peer in peers))
        users = await one.core.store.read(lambda tables: tables.accounts.all())
        assert [name for _, name, _ in users] == ["newcomer"]
        number = await one.desk("4711")
        assert number.logged_in
        refused = await one.desk("#4711")
        assert refused.failures == [ErrorCode.NAME_NOT_ALLOWED]

    play(tmp_path, story)
