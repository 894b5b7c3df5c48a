"""Redis or MariaDB come late, go, and come back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chatd.errors import Exit
from tests.harness.deadline import wait_until
from tests.harness.mariadb import MariaDB
from tests.systemd.unit import UNIT, Service

REDIS = "redis-late.service"
BUS = {"url": "redis://127.0.0.1:6379/0", "insecure_unsigned": True, "lease_s": 2}


LATE = "late.target"


def install_redis(service: Service, late_s: int = 0) -> None:
    redis = "/usr/bin/redis-server --port 6379 --bind 127.0.0.1 --save '' --dir /tmp"
    text = f"[Service]\nExecStartPre=/bin/sleep {late_s}\nExecStart={redis}\n"
    service.container.write(f"/run/systemd/system/{REDIS}", text)
    service.container.systemctl("daemon-reload")


def test_chatd_waits_for_redis_and_serves_on_when_it_goes(service: Service) -> None:
    install_redis(service)
    service.configure(bus=BUS, timeouts={"boot_wait_s": 60})
    service.container.systemctl("start", "--no-block", UNIT)
    service.wait_status_text("starting: 0 of 2 workers ready, waiting: cannot use redis at 127.0.0.1:6379")
    assert service.container.state(UNIT) == "activating"
    assert not service.answers()
    service.container.systemctl("start", REDIS)
    service.container.wait_active(UNIT)
    assert service.restarts() == 0
    service.wait_status_text("running: 2 workers")

    service.container.systemctl("kill", "--signal=KILL", REDIS)
    before = service.workers()
    service.container.signal(before[0], "KILL")
    wait_until(30, "replaced", lambda: len(now := service.workers()) == 2 and before[0] not in now)
    assert "the bus is down" in service.wait_status_text("degraded")
    assert service.ctl("check").returncode == 1
    assert service.answers()
    service.container.systemctl("reset-failed", REDIS, check=False)
    service.container.systemctl("start", REDIS)
    service.wait_status_text("running: 2 workers")
    service.container.systemctl("stop", REDIS)


def test_a_start_without_redis_ends_with_69_and_is_repeated(service: Service) -> None:
    install_redis(service)
    service.configure(bus=BUS, timeouts={"boot_wait_s": 1})
    service.drop_in("fast", "[Service]\nRestartSec=100ms\n")
    service.container.systemctl("start", "--no-block", UNIT)
    wait_until(60, "another start", lambda: service.restarts() >= 1, 0.2)
    assert f"status={int(Exit.UNAVAILABLE)}" in service.container.journal_text(UNIT)
    assert "waiting up to 1 s (timeouts.boot_wait_s): cannot use redis" in service.container.journal_text(UNIT)
    service.container.systemctl("start", REDIS)
    service.container.wait_active(UNIT, 60)
    assert service.answers()
    service.container.systemctl("stop", REDIS)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_boot_where_redis_comes_more_than_a_minute_late(service: Service) -> None:
    """Later than timeouts.boot_wait_s, with what is shipped: chatd ends with 69, and systemd tries again."""
    install_redis(service, late_s=75)
    service.configure(bus=BUS, timeouts={"boot_wait_s": 60})
    service.container.write(f"/run/systemd/system/{LATE}", f"[Unit]\nWants={UNIT} {REDIS}\n")
    service.container.systemctl("daemon-reload")
    service.container.systemctl("start", "--no-block", LATE)
    service.wait_status_text("starting: 0 of 2 workers ready, waiting: cannot use redis")
    wait_until(90, "another start", lambda: service.restarts() >= 1, 1)
    assert f"status={int(Exit.UNAVAILABLE)}" in service.container.journal_text(UNIT)
    service.container.wait_active(UNIT, 90)
    assert service.restarts() == 1
    assert service.answers()
    service.container.systemctl("stop", REDIS)


@pytest.fixture
def mariadb(service: Service) -> Iterator[MariaDB]:
    """In the network of the container."""
    server = MariaDB(prefix=("ip", "netns", "exec", service.container.host.name))
    try:
        yield server.start()
    finally:
        server.discard()


def test_chatd_waits_for_mariadb(service: Service, mariadb: MariaDB) -> None:
    """MariaDB may be on another host: what systemd orders after it is of no help."""
    service.configure(store={"url": mariadb.url()}, timeouts={"boot_wait_s": 60})
    mariadb.stop()
    service.container.systemctl("start", "--no-block", UNIT)
    service.wait_status_text("starting: 0 of 2 workers ready, waiting: store mysql://chatd@")
    assert not service.answers()
    mariadb.start()
    service.container.wait_active(UNIT)
    assert service.restarts() == 0
    assert service.answers()
    service.container.systemctl("stop", UNIT)
