"""Redis comes late, goes, and comes back."""

from __future__ import annotations

from chatd.errors import Exit
from tests.harness.deadline import wait_until
from tests.systemd.unit import UNIT, Service

REDIS = "redis-late.service"
BUS = {"url": "redis://127.0.0.1:6379/0", "insecure_unsigned": True, "lease_s": 2}


def install_redis(service: Service) -> None:
    text = "[Service]\nExecStart=/usr/bin/redis-server --port 6379 --bind 127.0.0.1 --save '' --dir /tmp\n"
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
