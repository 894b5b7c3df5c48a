"""A worker has everything that it needs before it is forked, whatever it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.ordeal import acquit, more_talk, ordeal
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.mariadb import MariaDB
from tests.harness.person import Wire
from tests.harness.redis import RedisServer

ENTRY = ("-m", "tests.upgrade.late_imports")
WIRES: tuple[Wire, ...] = ("streaming", "mobile", "acking", "web", "udp", "asking")


@pytest.mark.parametrize("kind", [pytest.param("embedded", marks=pytest.mark.slow), "servers"])
def test_a_worker_imports_nothing_after_its_fork(
    make_daemon: Callable[..., Daemon],
    mariadb: MariaDB,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    kind: str,
) -> None:
    """People talk on every wire, one is kicked, the configuration is reloaded, workers are replaced, and the server is
    upgraded: with the embedded store and bus, and with MariaDB and Redis."""
    late = tmp_path / "late"
    late.mkdir()
    options = {
        "entry": ENTRY,
        "workers": 2,
        "env": {"LATE": str(late)},
        "timeouts": {"drain_s": 3.0, "drain_spread_s": 1.0},
    }

    async def fault(crowd: Crowd) -> None:
        await more_talk(crowd, 50)
        name = next(iter(crowd.people))
        for order in (("kick", name), ("reload",), ("restart-workers",), ("upgrade",)):
            answer = await asyncio.to_thread(daemon.ctl, *order, limit_s=60)
            assert answer.returncode == 0, answer
        await more_talk(crowd, 50)

    with RedisServer(tmp_path / "redis") as redis:
        if kind == "servers":
            options |= {"store": {"url": mariadb.url()}, "bus": {"url": redis.url, "insecure_unsigned": True}}
        daemon = make_daemon(**options).start()
        verdict = run(ordeal(daemon, fault, wires=WIRES, groups=((0, 1, 2, 3),)), 90)
        acquit(verdict, record_property, at_least=100)
        assert daemon.stop() == 0
    found = {module for file in late.glob("worker-*") for module in file.read_text().split()}
    assert len(list(late.glob("worker-*"))) == 6
    assert found == set()
