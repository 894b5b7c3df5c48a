"""What an operator reads of store and bus, and what `chatctl check` makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatd.chatctl.show import server as show_server
from chatd.master.health import Reason, State
from chatd.master.status import CertificateStatus, ListenerStatus
from tests.harness.statuses import status, worker

RUNBOOK = Path(__file__).parents[3] / "docs/runbook.md"


@pytest.mark.parametrize(
    ("ok", "round_trip_us", "line"),
    [
        (True, 0, "bus: local:, good"),
        (True, 1234, "bus: local:, good, round trip 1.2 ms"),
        (False, 1234, "bus: local:, DOWN: no connection to worker 1 (worker 0)"),
    ],
)
def test_status_tells_how_the_bus_is(round_trip_us: int, line: str, *, ok: bool) -> None:
    one = worker(bus_ok=ok, bus_trouble="" if ok else "no connection to worker 1")
    told = show_server.status(status(bus_url="local:", bus_ok=ok, bus_round_trip_us=round_trip_us, workers=[one]))
    assert line in [text.strip() for text in told.splitlines()]


def test_check_says_all_reasons_that_the_server_has() -> None:
    assert show_server.check(status()) == (0, "OK: 1 of 1 workers ready")
    reasons = [Reason(code="store", text="the store does not answer"), Reason(code="bus", text="the bus is down")]
    code, text = show_server.check(status(state="degraded", reasons=reasons))
    assert code == 1
    assert text == "DEGRADED: degraded, 1 of 1 workers ready, the store does not answer, the bus is down"


def test_check_is_critical_if_a_reason_is() -> None:
    reasons = [Reason(code="certificate-expired", text="certificate expired: a.pem", critical=True)]
    assert show_server.check(status(state="degraded", reasons=reasons))[0] == 2


def test_check_is_degraded_by_what_somebody_should_do() -> None:
    reasons = [Reason(code="reload", text="the last reload was rejected", advisory=True)]
    assert show_server.check(status(reasons=reasons)) == (
        1, "DEGRADED: running, 1 of 1 workers ready, the last reload was rejected"
    )  # fmt: skip


def test_status_shows_the_reasons() -> None:
    reasons = [Reason(code="bus", text="the bus is down"), Reason(code="full", text="connections are refused")]
    lines = [text.strip() for text in show_server.status(status(state="degraded", reasons=reasons)).splitlines()]
    assert lines[0].startswith("▲ chatd")
    at = lines.index("problem: the bus is down")
    assert lines[at + 1] == "connections are refused"


def test_status_tells_what_the_security_trail_counted() -> None:
    totals = {"logins": 3, "logins_failed": 12, "penalties_begun": 2, "registrations": 0, "of_a_newer_server": 1}
    lines = [text.strip() for text in show_server.status(status(totals=totals)).splitlines()]
    assert "logins: 3 ok, 12 failed, 0 refused" in lines
    assert "security: 2 penalties begun" in lines
    assert "1 of_a_newer_server" in lines
    assert not any("registered" in line for line in lines)


def test_status_tells_how_large_the_store_is_and_what_retention_did() -> None:
    server = status(totals={"retention_deleted": 12})
    told = show_server.status(server)
    assert "data:" not in told
    worker = server.workers[0]
    worker.store_bytes, worker.store_free_bytes, worker.store_reclaims = 3_000_000, 200_000, True
    worker.retention_at_ms, worker.erasures_pending, worker.oldest_message_ms = 1_700_000_000_000, 1, 0
    lines = [text.strip() for text in show_server.status(server).splitlines()]
    assert "data: 3MB, 200kB unused, given back as old messages go, no messages" in lines
    assert any(line.startswith("retention: 12 messages deleted, last run 2023-11-1") for line in lines)
    assert "erasing: messages of 1 erased accounts" in lines
    assert not any("security" in line for line in lines)


def test_the_status_fits_into_a_hundred_columns() -> None:
    busy = worker(
        slot=255, pid=4_194_304, generation=1234, state="ready", uptime_s=86_400 * 99 + 3599, connections=65_000,
        sessions=65_000, loop_lag_us=30_000_000, commit_p99_us=2_000_000, in_per_s=123_456.7, out_per_s=1_234_567.8,
        queue_bytes=999_000_000, rss_bytes=9_990_000_000, cpu_percent=100.0, errors=12_345, restarts=12_345,
        store_ok=False, store_trouble="(1142, 'INSERT command denied to user chatd') " * 5,
    )  # fmt: skip
    listener = ListenerStatus("mobileimsdk", "wss://[2001:db8:1234:5678:9abc:def0:1234:5678]:65535/a/path", 4096, 17)
    certificate = CertificateStatus(
        listener=listener.address, file="/etc/chatd/tls/chat.pem", names=["chat.example.org"] * 20, expires_at=1,
        expiry="expired", error="the key does not belong to the certificate " * 4,
    )  # fmt: skip
    server = status(
        version="1.2.3", reasons=[Reason(code="store", text="it does not answer: " + "x y " * 40)],
        store_ok=False, store_url="mysql://chatd:***@database.example.org:3306/chatd" * 2,
        config_file="/etc/chatd/" + "x" * 60, last_reload_error="limits.connections: " + "must be a number " * 12,
        workers=[busy, worker(pid=0, state="degraded")], workers_wanted=2, listeners=[listener] * 3,
        certificates=[certificate], totals={"logins": 12_345_678, "logins_failed": 99_999_999, "rate_refused": 7},
        bus_url="redis+sentinel://" + ",".join(["sentinel.example.org:26379"] * 3),
    )  # fmt: skip
    told = show_server.status(server)
    assert max(map(len, told.splitlines())) <= show_server.WIDTH, told
    assert "problem:" in told
    assert "INSERT command denied" in told


CRITICAL_REASON = Reason(code="certificate-expired", text="certificate expired: a.pem", critical=True)
REASON = Reason(code="bus", text="the bus is down")


@pytest.mark.parametrize(
    ("state", "by_itself", "with_a_reason"),
    [
        ("starting", 1, 1),
        ("running", 0, 1),
        ("degraded", 1, 1),
        ("draining", 1, 1),
        ("drained", 1, 1),
        ("stopping", 2, 2),
    ],
)
def test_the_exit_code_of_check_in_every_state(state: str, by_itself: int, with_a_reason: int) -> None:
    """As docs/runbook.md says. Whether a worker is ready does not count by itself: master.health makes it a reason."""
    words = {0: "OK", 1: "DEGRADED", 2: "CRITICAL"}
    for reasons, wanted in (([], by_itself), ([REASON], with_a_reason), ([REASON, CRITICAL_REASON], 2)):
        code, text = show_server.check(status(state=state, reasons=reasons, workers_ready=0))
        assert (code, text.partition(":")[0]) == (wanted, words[wanted])
        assert all(reason.text in text for reason in reasons)
        assert (state in text) is (wanted > 0)
    name = "`draining`, `drained`" if state in ("draining", "drained") else f"`{state}`"
    row = next(line for line in RUNBOOK.read_text().splitlines() if line.startswith(f"| {name} |"))
    severity = {0: "good", 1: "degraded", 2: "critical"}
    assert [cell.strip() for cell in row.split("|")[2:5]] == [severity[code] for code in (by_itself, with_a_reason, 2)]


def test_every_state_of_the_server_has_an_exit_code() -> None:
    assert set(show_server.OF_STATES) == set(State)
    assert show_server.check(status(state="of a newer server"))[0] == 1
