"""Workers are replaced while people talk on every wire: no session ends, nothing is lost, doubled or out of order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.faults.ordeal import acquit, all_ready, more_talk, ordeal
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.mobileimsdk import StockLink
from tests.harness.person import Wire

EVERY_WIRE: tuple[Wire, ...] = (
    "mobile",
    "streaming",
    "asking",
    "mobile",
    "udp",
    "web",
    "numbered",
    "mobile",
    "streaming",
    "mobile",
)
WIRES = EVERY_WIRE * 3


def sessions_ended(crowd: Crowd) -> dict[str, int]:
    """Logins beyond the first, by person: on a new connection, or over UDP because the address was not known."""
    ended = {}
    for talker in crowd.people.values():
        relogins = talker.link.relogins if isinstance(talker.link, StockLink) else 0
        if talker.logins - 1 + relogins:
            ended[f"{talker.name} on {talker.wire}"] = talker.logins - 1 + relogins
    return ended


def test_no_session_ends_when_workers_are_replaced(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None]
) -> None:
    daemon = make_daemon(workers=2).start()

    async def fault(crowd: Crowd) -> None:
        for _ in range(2):
            before = set(daemon.workers())
            done = await asyncio.to_thread(daemon.ctl, "restart-workers", limit_s=60)
            assert done.returncode == 0, done
            await all_ready(daemon)
            assert not before & set(daemon.workers())
            await more_talk(crowd, 100)
        assert not sessions_ended(crowd)

    verdict = run(ordeal(daemon, fault, wires=WIRES), 180)
    acquit(verdict, record_property, at_least=500)
    moved = sum(record["moved"] for record in daemon.logged("sessions handed over"))
    assert moved >= 2 * len(WIRES) * 0.9
