"""Hashes of different cost in one store: a login upgrades them, and they do not tell who has an account."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import argon2

from chatd.core.stand_in_hashes import StandInHashes, cost_of
from chatd.model import Protocol
from chatd.protocol import Login
from tests.core.stage import Stage, play

OLD, NEW = argon2.PasswordHasher(1, 512, 1), "$argon2id$v=19$m=1024,t=1,p=1"
KEY = "0f" * 32
PATIENCE_S = 10.0


async def wait_for(stored: Callable[[], Awaitable[str]]) -> None:
    """Until the hash is upgraded, in the background."""
    async with asyncio.timeout(PATIENCE_S):
        while cost_of(await stored()) != NEW:  # each turn waits for the store
            pass


def test_a_good_login_upgrades_the_hash_and_a_bad_one_does_not(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.account(login="password", insecure_open_login=False)
        worker = await stage.worker()
        old = OLD.hash("secret")
        await worker.core.store.write(lambda tables: tables.accounts.create("alice", old, 1))

        async def stored() -> str:
            account = await worker.core.store.read(lambda tables: tables.accounts.find("alice", 0))
            assert account is not None
            return account.password

        for secret, upgraded in (("wrong", False), ("secret", True)):
            peer = worker.peer(Protocol.CHATSERVER)
            await peer.do(Login("alice", 0, secret))
            if upgraded:
                await wait_for(stored)
            assert (cost_of(await stored()) == NEW) is upgraded
            peer.leave()
        peer = worker.peer(Protocol.CHATSERVER)
        await peer.do(Login("alice", 0, "secret"))
        assert peer.logged_in

    play(tmp_path, story)


def test_a_name_costs_the_same_everywhere_and_each_cost_has_its_share() -> None:
    one, other = StandInHashes(NEW), StandInHashes(NEW)
    passwords = [OLD.hash("x"), *[argon2.PasswordHasher(1, 1024, 1).hash("x")] * 3]
    for stand_ins in (one, other):
        stand_ins.learn(KEY, passwords)
    costs = [cost_of(one.of(f"name{number}")) for number in range(1000)]
    assert costs == [cost_of(other.of(f"NAME{number}")) for number in range(1000)]
    assert 150 < costs.count("$argon2id$v=19$m=512,t=1,p=1") < 350
    assert set(costs) == {"$argon2id$v=19$m=512,t=1,p=1", NEW}
