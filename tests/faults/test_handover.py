"""Workers are replaced while people talk on every wire: no session ends, nothing is lost, doubled or out of order."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.faults.ordeal import acquit, all_ready, more_talk, ordeal
from tests.harness.certificates import Certificate
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.mariadb import MariaDB
from tests.harness.mobileimsdk import StockLink
from tests.harness.person import Wire
from tests.harness.redis import RedisServer
from tests.tls.test_listeners import connect

EVERY_WIRE: tuple[Wire, ...] = (
    "mobile", "streaming", "asking", "acking", "udp", "web", "numbered", "mobile", "web", "streaming"
)  # fmt: skip
PEOPLE = EVERY_WIRE * 3
WITH_TLS: tuple[Wire, ...] = ("mobile", "mobile-tls", "web", "web-tls", "acking", "acking-tls", "streaming", "mobile")

CLIENTS, PAUSE_S = 40, 1 / 60
"""How many with TLS, and the pause between two that a worker disconnects, unless drain_spread_s is too short for it."""


def ended(crowd: Crowd) -> dict[str, int]:
    """Logins beyond the first, by person: on a new connection, or over UDP because the address was not known."""
    found = {}
    for talker in crowd.people.values():
        relogins = talker.link.relogins if isinstance(talker.link, StockLink) else 0
        if talker.logins - 1 + relogins:
            found[f"{talker.name} on {talker.wire}"] = talker.logins - 1 + relogins
    return found


def logins(daemon: Daemon) -> int:
    """As the security log has them."""
    return len([record for record in daemon.records() if record.get("security") == "login"])


async def restart(daemon: Daemon, crowd: Crowd, order: str = "restart-workers") -> None:
    before = set(daemon.workers())
    done = await asyncio.to_thread(daemon.ctl, order, limit_s=60)
    assert done.returncode == 0, done
    await all_ready(daemon)
    assert not before & set(daemon.workers())
    await more_talk(crowd, 100)


@pytest.mark.parametrize(("twin", "restarts"), [("sqlite, local", 2), ("mysql, redis", 1)])
def test_no_session_ends_when_workers_are_replaced(
    make_daemon: Callable[..., Daemon],
    record_property: Callable[[str, object], None],
    tmp_path: Path,
    mariadb: MariaDB,
    twin: str,
    restarts: int,
) -> None:
    options: dict[str, Any] = {"workers": 2}
    with RedisServer(tmp_path / "redis") as redis:
        if twin == "mysql, redis":
            options |= {"store": {"url": mariadb.url()}, "bus": {"url": redis.url, "insecure_unsigned": True}}
        daemon = make_daemon(**options).start()

        async def fault(crowd: Crowd) -> None:
            before = logins(daemon)
            for _ in range(restarts):
                await restart(daemon, crowd)
            assert not ended(crowd)
            assert logins(daemon) == before, "a session that moves is no login"

        verdict = run(ordeal(daemon, fault, wires=PEOPLE), 180)
        acquit(verdict, record_property, at_least=300)
        assert daemon.stop() == 0
    moved = sum(record["moved"] for record in daemon.logged("sessions handed over"))
    assert moved == restarts * len(PEOPLE)


def test_over_an_upgrade_sessions_with_tls_drain_and_come_back_and_the_others_stay(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None], tmp_path: Path
) -> None:
    """The master's program has changed, too: the new one has the listeners with TLS and their certificates."""
    certificate = Certificate(tmp_path / "certificate")
    timeouts = {"drain_s": 6.0, "drain_spread_s": 1.0}
    daemon = make_daemon(workers=2, certificate=certificate, timeouts=timeouts).start()

    async def fault(crowd: Crowd) -> None:
        pid = daemon.pid
        await restart(daemon, crowd, "upgrade")
        assert (daemon.pid, len(daemon.logged("upgraded"))) == (pid, 1)
        assert {name.rpartition(" ")[2] for name in ended(crowd)} == {"mobile-tls", "web-tls", "acking-tls"}
        assert max(ended(crowd).values()) <= 2, "once for each worker that was replaced"

    verdict = run(ordeal(daemon, fault, wires=WITH_TLS, groups=()), 120)
    acquit(verdict, record_property, at_least=100)


@pytest.mark.slow
def test_an_upgrade_ends_sessions_with_tls_one_after_the_other(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """Spread over timeouts.drain_spread_s, so that they do not all come back at once; new clients are served."""
    certificate = Certificate(tmp_path / "certificate")
    timeouts = {"drain_s": 20.0, "drain_spread_s": 2.0}
    daemon = make_daemon(workers=1, certificate=certificate, timeouts=timeouts).start()
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(CLIENTS + 1) as threads:
        clients = [stack.enter_context(connect(daemon, "echo-tls", certificate.client())) for _ in range(CLIENTS)]
        order = threads.submit(daemon.ctl, "upgrade", limit_s=60)
        ends = sorted(threads.map(when_ended, clients))
        assert order.result().returncode == 0, order.result()
    pauses = [later - earlier for earlier, later in itertools.pairwise(ends)]
    assert ends[-1] - ends[0] > (CLIENTS - 1) * PAUSE_S / 2, pauses
    with connect(daemon, "echo-tls", certificate.client()) as newcomer:
        newcomer.sendall(b"hello\n")
        assert newcomer.recv(100).startswith(b"hello")


def when_ended(client: ssl.SSLSocket) -> float:
    client.settimeout(30)
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while client.recv(1000):
            pass
    return time.monotonic()
