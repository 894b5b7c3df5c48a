"""Logins by token on two hosts with one database (MySQL) and one bus (Redis)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chatd.errors import ErrorCode
from tests.harness.cluster import Cluster
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.mobileimsdk import MobilePeer, content
from tests.tokens.attacks import comes_in, entered, fresh_name
from tests.tokens.backend import Backend
from tests.tokens.endings import LATE_S, TEXT, TRANSPORTS, Guest
from tests.tokens.keys import Pair, claims, key_set, pair

OLD, NEW = pair("EdDSA"), pair("EdDSA", 1)


class Pairing:
    """Two hosts, and where their keys come from: the backend has one set, `file` has another."""

    def __init__(self, cluster: Cluster, backend: Backend, file: Path) -> None:
        self.here, self.there = cluster.daemons
        self.backend, self.file = backend, file


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pairing]:
    root = tmp_path_factory.mktemp("hosts")
    backend, file = Backend(), root / "jwks.json"
    backend.key_set = 200, key_set(OLD)
    file.write_bytes(key_set(pair("ES256")))
    cluster = Cluster(
        root / "cluster",
        workers=2,
        accounts={"login": ["token", "password"], "end_at_expiry": True},
        tokens={"allow_private": ["127.0.0.1"], "leeway_s": 0},
        token_key=[{"jwks": backend.url("/jwks.json")}, {"jwks": str(file)}],
    )
    backend.start()
    try:
        cluster.start()
        yield Pairing(cluster, backend, file)
    finally:
        complaints = cluster.discard()
        backend.stop()
    assert not complaints, complaints


def signed(key: Pair, name: str, kid: str = "key0", ends_at: float = 0.0) -> str:
    return key.sign(claims(name, **({"exp": int(ends_at)} if ends_at else {})), kid)


async def arrive(daemon: Daemon, name: str, secret: str) -> MobilePeer:
    peer = await entered(daemon, name, secret)
    assert isinstance(peer, MobilePeer), peer
    return peer


async def answer_becomes(daemon: Daemon, key: Pair, kid: str, *, good: bool) -> set[int]:
    """Log in again and again, until tokens of this key let in, or until they do not. The codes of the refusals."""
    codes: set[int] = set()
    async with asyncio.timeout(30.0):
        while True:
            found = await entered(daemon, name := fresh_name(), signed(key, name, kid))
            is_in = isinstance(found, MobilePeer)
            if isinstance(found, MobilePeer):
                found.close()
            else:
                codes.add(found)
            if is_in is good:
                return codes
            await asyncio.sleep(0.1)


def test_first_logins_on_both_hosts_at_once_make_one_account(hosts: Pairing) -> None:
    async def story() -> None:
        guests = [Guest.of(hosts.here, "chatserver", 600) for _ in range(20)]
        guests += [replace(one, daemon=hosts.there, transport=TRANSPORTS["mobileimsdk"]) for one in guests]
        await asyncio.gather(*(one.come(signed(OLD, one.name)) for one in guests))
        for one in guests:
            one.peer.close()
        records = [*hosts.here.records(), *hosts.there.records()]
        made = [one["name"] for one in records if one.get("security") == "registered"]
        assert sorted(made) == sorted({one.name for one in guests}), "each is made once, by one of the hosts"

    run(story())


def test_the_session_that_is_there_ends_with_its_own_token(hosts: Pairing) -> None:
    """A session that a later login on another host has ended takes its end with it, and the new one has its own."""

    async def story() -> None:
        name, now = fresh_name(), time.time()
        first = await arrive(hosts.here, name, signed(OLD, name, ends_at=now + 1.5))
        second = await arrive(hosts.there, name, signed(OLD, name, ends_at=now + 3))
        assert content(await first.find(type=54))["code"] == 1
        kicked = await second.find(20.0, type=54)
        assert 0 <= time.time() - int(now + 3) < LATE_S
        assert content(kicked) == {"code": 2, "reason": TEXT}
        (user,) = {
            one["user"] for one in hosts.there.records() if one.get("security") == "login" and one["name"] == name
        }
        expired = [
            daemon
            for daemon in (hosts.here, hosts.there)
            for one in daemon.records()
            if (one.get("reason"), one.get("user")) == ("token_expired", user)
        ]
        assert expired == [hosts.there], "told once, by the host where the session was"
        for peer in (first, second):
            peer.close()

    run(story())


def test_keys_are_read_again_on_both_hosts(hosts: Pairing) -> None:
    async def story() -> None:
        for daemon in (hosts.here, hosts.there):
            assert await comes_in(daemon, name := fresh_name(), signed(pair("ES256"), name))
        hosts.file.write_bytes(key_set(pair("ES256", 1)))
        for daemon in (hosts.here, hosts.there):
            await answer_becomes(daemon, pair("ES256", 1), "key0", good=True)
            await answer_becomes(daemon, pair("ES256"), "key0", good=False)

    run(story())


@pytest.mark.slow
def test_a_key_that_a_backend_publishes_is_fetched_by_both_hosts(hosts: Pairing) -> None:
    """When a token of it comes, unless the set was read a moment ago: then its client is told to try again."""

    async def story() -> None:
        hosts.backend.key_set = 200, key_set(OLD, NEW)
        for daemon in (hosts.here, hosts.there):
            assert await answer_becomes(daemon, NEW, "key1", good=True) <= {ErrorCode.UNAVAILABLE}

    run(story())
