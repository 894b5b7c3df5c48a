"""A session on one host ends within a second when the credentials of its account change on another one: told over the
bus, and without the bus by looking at the store."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from chatd.errors import ErrorCode
from tests.credentials.attacks import NEW, change_password, ctl, ended, is_refused
from tests.credentials.planted import GATE_CLOSED, MESSAGE_LOST, STORE_UNSEEN, VERSIONS_UNCOMPARED, WAITING
from tests.harness import chatserver
from tests.harness.cluster import Cluster
from tests.harness.deadline import run, until
from tests.harness.mariadb import MariaDB
from tests.harness.person import Town

LIMIT_S = 15.0
ORDERS = {"passwd": f"{NEW}\n", "lock": "", "del": ""}
"""Of `chatctl user`, with what each reads on standard input."""
RACES = 6
Strike = Callable[[], Awaitable[None]]
"""Changes credentials on the first host. Raises TimeoutError if a session on the second one goes on."""


class Hosts:
    """Two hosts that have switches (tests.credentials.planted), with the same accounts."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.here = Town(cluster.daemons[0])
        self.there = Town(cluster.daemons[1], self.here.ids, self.here.secret, self.here.suffixes)

    def version(self, name: str) -> int:
        """Of the credentials, as the store has it."""
        query = f"SELECT credentials FROM `{self.cluster.schema}`.user WHERE id = %s"
        ((version,),) = self.cluster.database.execute(query, self.here.ids[name])
        return int(version)

    @contextlib.contextmanager
    def switched(self, *names: str) -> Iterator[None]:
        files = [daemon.root / "switches" / name for daemon in self.cluster.daemons for name in names]
        for file in files:
            file.touch()
        try:
            yield
        finally:
            for file in files:
                file.unlink()


@pytest.fixture(scope="module")
def hosts(mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    entry = ("-m", "tests.credentials.planted", "switches")
    cluster = Cluster(tmp_path_factory.mktemp("apart"), database=mariadb, entry=entry)
    for daemon in cluster.daemons:
        (daemon.root / "switches").mkdir()
        daemon.env["SWITCHES"] = str(daemon.root / "switches")
    try:
        yield Hosts(cluster.start())
    finally:
        complaints = cluster.discard()
    assert not complaints, complaints


async def by_the_user(hosts: Hosts) -> Strike:
    """A thief is on the second host. The owner changes the password on the first one, and stays."""
    name = await hosts.here.newcomer("alice")
    thief, owner = await hosts.there.errand(name), await hosts.here.on_mobile(name)

    async def strike() -> None:
        try:
            assert (await change_password(owner, hosts.here.secret, NEW))["ok"] is True
            await ended([thief], time.monotonic())
            owner.put({"type": 1})
            assert (await owner.find(type=51))["from"] == "0"
            assert await is_refused(hosts.there, name, hosts.there.secret) == ErrorCode.BAD_CREDENTIALS
        finally:
            owner.close()

    return strike


async def by_the_operator(hosts: Hosts, verb: str) -> Strike:
    """chatctl is told on the first host; the user has a session on every wire of the second one."""
    name = await hosts.here.newcomer("alice")
    peers = [await hosts.there.on_mobile(name), await hosts.there.errand(name)]

    async def strike() -> None:
        order = asyncio.create_task(ctl(hosts.here.daemon, "user", verb, name, input=ORDERS[verb]))
        try:
            await until(LIMIT_S, "the change is committed", lambda: hosts.version(name))
            await ended(peers, time.monotonic())
            wrong = ErrorCode.ACCOUNT_LOCKED if verb == "lock" else ErrorCode.BAD_CREDENTIALS
            assert await is_refused(hosts.there, name, hosts.there.secret) == wrong
        finally:
            code, said = await order
        assert (code, "sessions end" in said or "end the sessions" in said) == (0, True), said

    return strike


async def prepared(hosts: Hosts, *verbs: str) -> list[Strike]:
    return [await by_the_user(hosts), *[await by_the_operator(hosts, verb) for verb in verbs]]


async def whole_again(hosts: Hosts) -> None:
    for daemon in hosts.cluster.daemons:
        await until(LIMIT_S, "the bus is whole", lambda daemon=daemon: daemon.status()["bus_ok"], 0.1)


def lose_nothing(hosts: Hosts) -> Callable[[], object]:
    return lambda: None


def hang(hosts: Hosts) -> Callable[[], object]:
    hosts.cluster.redis.pause()
    return hosts.cluster.redis.go_on


def die(hosts: Hosts) -> Callable[[], object]:
    hosts.cluster.redis.kill()
    return hosts.cluster.redis.start


@pytest.mark.parametrize(("fault", "verbs"), [(lose_nothing, (*ORDERS,)), (hang, ("passwd", "lock")), (die, ("del",))])
def test_sessions_on_another_host_end(
    hosts: Hosts, fault: Callable[[Hosts], Callable[[], object]], verbs: tuple[str, ...]
) -> None:
    """Whatever Redis does: the store alone is enough."""

    async def story() -> None:
        strikes = await prepared(hosts, *verbs)
        mend = fault(hosts)
        try:
            await asyncio.gather(*(strike() for strike in strikes))
        finally:
            mend()
        await whole_again(hosts)

    run(story())


@pytest.mark.parametrize("lost", [MESSAGE_LOST, STORE_UNSEEN])
def test_either_the_message_or_the_store_is_enough(hosts: Hosts, lost: str) -> None:
    async def story() -> None:
        strikes = await prepared(hosts, "passwd")
        with hosts.switched(lost):
            await asyncio.gather(*(strike() for strike in strikes))

    run(story())


def test_it_is_found_if_there_is_neither(hosts: Hosts) -> None:
    async def story() -> None:
        strikes = await prepared(hosts, "lock")
        with hosts.switched(MESSAGE_LOST, STORE_UNSEEN):
            found: list[Any] = await asyncio.gather(*(strike() for strike in strikes), return_exceptions=True)
        assert [type(one) for one in found] == [TimeoutError] * len(strikes), found

    run(story())


async def log_in_during_the_change(hosts: Hosts) -> int:
    """The old password is verified on the second host, then changed on the first one, then the login goes on. Its
    errno."""
    name = await hosts.here.newcomer("alice")
    owner = await hosts.here.on_mobile(name)
    folder = hosts.there.daemon.root / "switches"
    (folder / WAITING).unlink(missing_ok=True)
    (folder / GATE_CLOSED).touch()
    thief = await hosts.there.nul_peer()
    try:
        thief.put({"msgid": chatserver.LOGIN, "name": name, "password": hosts.there.secret})
        await until(LIMIT_S, "the password is being verified", (folder / WAITING).exists)
        assert (await change_password(owner, hosts.here.secret, NEW))["ok"] is True
    finally:
        (folder / GATE_CLOSED).unlink()
    errno = (await thief.find(msgid=chatserver.LOGIN_ACK))["errno"]
    thief.close()
    owner.close()
    return int(errno)


def test_a_login_that_was_verified_before_the_change_on_another_host_is_refused(hosts: Hosts) -> None:
    assert run(log_in_during_the_change(hosts)) == 1


def test_such_a_login_is_found_if_versions_are_not_compared(hosts: Hosts) -> None:
    with hosts.switched(VERSIONS_UNCOMPARED):
        assert run(log_in_during_the_change(hosts)) == 0


def test_no_login_survives_a_change_on_another_host_at_the_same_time(hosts: Hosts) -> None:
    """Each thief is refused, or is let in and its session ends; who has the new password stays."""

    async def race(name: str) -> None:
        owner, thief = await hosts.here.on_mobile(name), await hosts.there.nul_peer()
        thief.put({"msgid": chatserver.LOGIN, "name": name, "password": hosts.there.secret})
        assert (await change_password(owner, hosts.here.secret, NEW))["ok"] is True
        changed_at = time.monotonic()
        owner = await Town(hosts.there.daemon, hosts.here.ids, NEW).on_mobile(name)
        if (await thief.find(msgid=chatserver.LOGIN_ACK))["errno"] == 0:
            await ended([thief], changed_at)
        thief.close()
        owner.put({"type": 1})
        assert (await owner.find(type=51))["from"] == "0"
        owner.close()

    async def story() -> None:
        names = [await hosts.here.newcomer("alice") for _ in range(RACES)]
        await asyncio.gather(*map(race, names))

    run(story())
