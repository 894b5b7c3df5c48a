"""Logins of clients that have gone are not hashed; a connection with too many failures ends once it was answered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from chatd.config.penalty_options import PenaltyOptions
from chatd.core.admission import OPERATOR
from chatd.core.passwords import Hasher
from chatd.errors import Disconnect, ErrorCode
from chatd.model import Protocol
from chatd.protocol import Failed, Login, Register
from tests.core.asking import refused
from tests.core.stage import Peer, Stage, Worker, play

ATTACKER, USER = "192.0.2.1:5000", "198.51.100.1:5000"
MOST = PenaltyOptions().attempts_per_connection


class Hashes:
    """The passwords that were hashed, in their order; only while `gate` is open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.secrets: list[str] = []
        self.gate = threading.Event()

        def verify(hasher: Hasher, hashed: str, secret: str) -> bool:
            self.secrets.append(secret)
            return hashed == secret

        monkeypatch.setattr(Hasher, "verify_now", verify)
        monkeypatch.setattr(Hasher, "is_outdated", lambda hasher, hashed: False)
        monkeypatch.setattr(Hasher, "hash_now", lambda hasher, secret: self.secrets.append(secret) or secret)


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> Hashes:
    return Hashes(monkeypatch)


async def prepared(stage: Stage, **penalties: object) -> Worker:
    """Alice has an account with the password `secret`."""
    stage.account(login="password", insecure_open_login=False, hash_threads=1)
    stage.config = msgspec.structs.replace(stage.config, penalties=PenaltyOptions(delay_s=0.0, **penalties))  # type: ignore[arg-type]
    worker = await stage.worker()
    await worker.core.store.write(lambda tables: tables.accounts.create("alice", "secret", 1))
    return worker


def peer_from(worker: Worker, remote: str, wire: Protocol = Protocol.CHATSERVER) -> Peer:
    peer = worker.peer(wire)
    peer.remote = remote
    return peer


@asynccontextmanager
async def busy_thread(worker: Worker, hashes: Hashes) -> AsyncIterator[list[asyncio.Task[None]]]:
    """The only thread for hashes is busy in the block. At its end the tasks given are awaited."""
    queue = worker.core.accounts.hasher.queue
    tasks: list[asyncio.Task[None]] = []
    holder = asyncio.ensure_future(queue.run(lambda: hashes.gate.wait(10), OPERATOR, 1, 1000.0))
    await asyncio.sleep(0)
    try:
        yield tasks
    finally:
        hashes.gate.set()
        await asyncio.gather(holder, *tasks)


async def wait_in_queue(stage: Stage, worker: Worker, count: int) -> None:
    queue = worker.core.accounts.hasher.queue
    await stage.until(f"{count} wait", lambda: queue.waiting == count)


def test_clients_that_have_gone_are_not_hashed_nor_counted(tmp_path: Path, hashes: Hashes) -> None:
    async def story(stage: Stage) -> None:
        worker = await prepared(stage)
        peers = [peer_from(worker, f"192.0.2.{number}:5000") for number in range(50)]
        user = peer_from(worker, USER)
        async with busy_thread(worker, hashes) as tasks:
            for number, peer in enumerate(peers):
                tasks.append(asyncio.ensure_future(peer.do(Login("alice", 0, f"wrong {number}"))))
            tasks.append(asyncio.ensure_future(user.do(Login("alice", 0, "secret"))))
            await wait_in_queue(stage, worker, 51)
            for peer in peers[:-1]:
                peer.gone = True
            assert hashes.secrets == []
        assert sorted(hashes.secrets) == ["secret", "wrong 49"]
        assert user.logged_in
        assert [peer.failures for peer in peers] == [[ErrorCode.BUSY]] * 49 + [[ErrorCode.BAD_CREDENTIALS]]
        failed = {listed.subject for listed in worker.core.penalties.table.all()}
        assert failed == {"192.0.2.49", "1"}

    play(tmp_path, story)


def test_registrations_of_clients_that_have_gone_make_no_account(tmp_path: Path, hashes: Hashes) -> None:
    async def story(stage: Stage) -> None:
        worker = await prepared(stage)
        gone, there = peer_from(worker, ATTACKER), peer_from(worker, USER)
        async with busy_thread(worker, hashes) as tasks:
            tasks.append(asyncio.ensure_future(gone.do(Register("bob", "first"))))
            tasks.append(asyncio.ensure_future(there.do(Register("bob", "second"))))
            await wait_in_queue(stage, worker, 2)
            gone.gone = True
        assert hashes.secrets == ["second"]
        assert there.failures == []

    play(tmp_path, story)


@pytest.mark.parametrize("wire", [Protocol.CHATSERVER, Protocol.MOBILEIMSDK])
def test_a_connection_ends_after_its_failed_logins(tmp_path: Path, hashes: Hashes, wire: Protocol) -> None:
    """A wire that closes at the first refusal gives its own reason."""

    async def story(stage: Stage) -> None:
        worker = await prepared(stage)
        peer = peer_from(worker, ATTACKER, wire)
        closes = peer.traits.refusal_closes
        for _ in range(1 if closes else MOST):
            assert not peer.closed
            await peer.do(Login("alice", 0, "wrong"))
        assert peer.reason is (Disconnect.LOGIN_REFUSED if closes else Disconnect.TOO_MANY_ATTEMPTS)
        assert set(peer.failures) == {ErrorCode.BAD_CREDENTIALS}
        assert len(peer.told(Failed)) == (1 if closes else MOST)

    play(tmp_path, story)


def test_every_failed_change_of_a_password_is_answered_before_the_connection_ends(
    tmp_path: Path, hashes: Hashes
) -> None:
    async def story(stage: Stage) -> None:
        worker = await prepared(stage)
        peer = peer_from(worker, ATTACKER, Protocol.MOBILEIMSDK)
        await peer.do(Login("alice", 0, "secret"))
        for _ in range(MOST):
            assert not peer.closed
            assert await refused(peer, "password.change", old="wrong", new="new") == ErrorCode.BAD_CREDENTIALS
        assert peer.reason is Disconnect.TOO_MANY_ATTEMPTS

    play(tmp_path, story)


def test_a_good_login_begins_to_count_anew_and_zero_is_no_limit(tmp_path: Path, hashes: Hashes) -> None:
    async def story(stage: Stage) -> None:
        worker = await prepared(stage, failures=1000, account_failures=1000)
        peer = peer_from(worker, ATTACKER)
        for _ in range(MOST):
            for _ in range(MOST - 1):
                await peer.do(Login("alice", 0, "wrong"))
            await peer.do(Login("alice", 0, "secret"))
            assert peer.logged_in
            worker.core.logins.left(peer)
            await stage.settled()
        penalties = msgspec.structs.replace(stage.config.penalties, attempts_per_connection=0)
        stage.config = msgspec.structs.replace(stage.config, penalties=penalties)
        for _ in range(3 * MOST):
            await peer.do(Login("alice", 0, "wrong"))
        assert not peer.closed

    play(tmp_path, story)
