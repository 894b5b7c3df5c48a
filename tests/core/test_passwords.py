"""Passwords verified a moment ago are not hashed again, and nothing else is spared: hashes are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatd.core.passwords import MAX_VERIFIED, VERIFIED_S, Hasher, Verified
from chatd.errors import ErrorCode
from chatd.model import Protocol
from chatd.protocol import Login
from tests.core.stage import Peer, Stage, Worker, play


class Time:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Counted:
    """How many passwords were hashed to verify them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        verify = Hasher.verify_now

        def counting(hasher: Hasher, hashed: str, secret: str) -> bool:
            self.count += 1
            return verify(hasher, hashed, secret)

        monkeypatch.setattr(Hasher, "verify_now", counting)

    def since(self) -> int:
        """Since the last time this was asked."""
        count, self.count = self.count, 0
        return count


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


async def prepared(stage: Stage) -> Worker:
    """Alice has an account with the password `secret`."""
    stage.account(login="password", insecure_open_login=False)
    worker = await stage.worker()
    hashed = worker.core.accounts.hasher.hash_now("secret")
    await worker.core.store.write(lambda tables: tables.accounts.create("alice", hashed, 1))
    return worker


async def logs_in(worker: Worker, secret: str, name: str = "alice") -> Peer:
    """With a connection that is over when this returns."""
    peer = worker.peer(Protocol.CHATSERVER)
    await peer.do(Login(name, 0, secret))
    if peer.logged_in:
        peer.leave()
        await worker.stage.settled()
    return peer


# ---------------------------------------------------------------- what is remembered


def test_a_pair_is_known_until_its_time_is_over() -> None:
    time = Time()
    verified = Verified(time)
    assert not verified.knows("hash", "secret")
    verified.add("hash", "secret")
    time.now_s += VERIFIED_S - 1
    assert verified.knows("hash", "secret")
    time.now_s += 1
    assert not verified.knows("hash", "secret")
    verified.add("hash", "secret")
    assert verified.knows("hash", "secret")


def test_being_asked_does_not_prolong_the_time() -> None:
    time = Time()
    verified = Verified(time)
    verified.add("hash", "secret")
    for _ in range(10):
        time.now_s += VERIFIED_S / 10
        known = verified.knows("hash", "secret")
    assert not known


@pytest.mark.parametrize(
    ("hashed", "secret"),
    [("hash", "other"), ("other", "secret"), ("has", "hsecret"), ("hashs", "ecret"), ("hash", ""), ("", "hashsecret")],
)
def test_only_the_very_pair_is_known(hashed: str, secret: str) -> None:
    verified = Verified()
    verified.add("hash", "secret")
    assert not verified.knows(hashed, secret)


def test_passwords_that_are_no_text_are_known_too() -> None:
    verified = Verified()
    verified.add("hash", "\ud800")
    assert verified.knows("hash", "\ud800")
    assert not verified.knows("hash", "?")


def test_the_memory_is_bounded_and_the_oldest_are_forgotten() -> None:
    time = Time()
    verified = Verified(time, most=100)
    for number in range(1000):
        verified.add("hash", f"{number}")
        verified.add("hash", "used again and again")
    assert len(verified) == 100
    assert verified.knows("hash", "used again and again")
    assert verified.knows("hash", "999")
    assert not verified.knows("hash", "0")
    assert MAX_VERIFIED == 20_000


# ---------------------------------------------------------------- logins


def test_a_second_login_is_not_hashed_and_a_wrong_password_always_is(tmp_path: Path, counted: Counted) -> None:
    async def story(stage: Stage) -> None:
        worker = await prepared(stage)
        for hashes in (1, 0, 0):
            assert (await logs_in(worker, "secret")).failures == []
            assert counted.since() == hashes
        for _ in range(3):
            assert (await logs_in(worker, "wrong")).failures == [ErrorCode.BAD_CREDENTIALS]
            assert counted.since() == 1
        for _ in range(2):
            assert (await logs_in(worker, "secret", "nobody")).failures == [ErrorCode.BAD_CREDENTIALS]
            assert counted.since() == 1, "a name without an account costs as much as one with"

    play(tmp_path, story)


def test_a_login_is_hashed_again_when_its_time_is_over(tmp_path: Path, counted: Counted) -> None:
    async def story(stage: Stage) -> None:
        worker = await prepared(stage)
        time = Time()
        worker.core.accounts.hasher.verified = Verified(time)
        for passed_s, hashes in ((0, 1), (VERIFIED_S - 1, 0), (1, 1), (1, 0)):
            time.now_s += passed_s
            assert (await logs_in(worker, "secret")).failures == []
            assert counted.since() == hashes

    play(tmp_path, story)


def test_a_changed_password_is_hashed_and_the_old_one_refused_at_once(tmp_path: Path, counted: Counted) -> None:
    async def story(stage: Stage) -> None:
        worker = await prepared(stage)
        await logs_in(worker, "secret")
        new = worker.core.accounts.hasher.hash_now("new")
        await worker.core.store.write(lambda tables: tables.accounts.set_password(1, new))
        counted.since()
        assert (await logs_in(worker, "secret")).failures == [ErrorCode.BAD_CREDENTIALS]
        assert counted.since() == 1
        for hashes in (1, 0):
            assert (await logs_in(worker, "new")).failures == []
            assert counted.since() == hashes

    play(tmp_path, story)


def test_a_password_that_was_verified_does_not_open_a_locked_account(tmp_path: Path, counted: Counted) -> None:
    async def story(stage: Stage) -> None:
        worker = await prepared(stage)
        await logs_in(worker, "secret")
        await worker.core.store.write(lambda tables: tables.accounts.lock(1, "spam", 1))
        assert (await logs_in(worker, "secret")).failures == [ErrorCode.ACCOUNT_LOCKED]
        assert (await logs_in(worker, "wrong")).failures == [ErrorCode.BAD_CREDENTIALS]
        await worker.core.store.write(lambda tables: tables.accounts.unlock(1))
        assert (await logs_in(worker, "wrong")).failures == [ErrorCode.BAD_CREDENTIALS]
        assert (await logs_in(worker, "secret")).failures == []

    play(tmp_path, story)
