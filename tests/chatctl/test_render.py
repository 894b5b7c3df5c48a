"""What an operator reads of store and bus, and what `chatctl check` makes of it."""

from __future__ import annotations

from typing import Any, get_type_hints

import msgspec
import pytest

from chatd.chatctl import render as chatctl_render
from chatd.master.health import Reason
from chatd.master.status import Status, WorkerStatus


def made(kind: Any, **fields: Any) -> Any:
    """All numbers 0, all texts empty, but for the fields and what has a default."""
    empty = {int: 0, float: 0.0, str: "", bool: True}
    kinds, required = get_type_hints(kind), (one.name for one in msgspec.structs.fields(kind) if one.required)
    defaults = {name: empty.get(kinds[name], []) for name in required}
    return kind(**{**defaults, **fields})


def status(**fields: Any) -> Status:
    fields = {"totals": {}} | fields
    workers = [made(WorkerStatus, hooks_open=0, bus_forged=False, retention_failed=False, retention_held=False)]
    fields = {"state": "running", "workers_wanted": 1, "workers_ready": 1} | fields
    told: Status = made(Status, workers=workers, **fields)
    return told


@pytest.mark.parametrize(
    ("ok", "round_trip_us", "line"),
    [
        (True, 0, "bus: local:, good"),
        (True, 1234, "bus: local:, good, round trip 1.2 ms"),
        (False, 1234, "bus: local:, DOWN"),
    ],
)
def test_status_tells_how_the_bus_is(round_trip_us: int, line: str, *, ok: bool) -> None:
    told = chatctl_render.status(status(bus_url="local:", bus_ok=ok, bus_round_trip_us=round_trip_us))
    assert line in [text.strip() for text in told.splitlines()]


def test_check_says_all_reasons_that_the_server_has() -> None:
    assert chatctl_render.verdict(status()) == (0, "OK: 1 of 1 workers ready")
    reasons = [Reason(code="store", text="the store does not answer"), Reason(code="bus", text="the bus is down")]
    code, text = chatctl_render.verdict(status(state="degraded", reasons=reasons))
    assert code == 1
    assert text == "DEGRADED: degraded, 1 of 1 workers ready, the store does not answer, the bus is down"


def test_check_is_critical_if_a_reason_is() -> None:
    reasons = [Reason(code="certificate-expired", text="certificate expired: a.pem", critical=True)]
    assert chatctl_render.verdict(status(state="degraded", reasons=reasons))[0] == 2


def test_status_shows_the_reasons() -> None:
    reasons = [Reason(code="bus", text="the bus is down"), Reason(code="full", text="connections are refused")]
    lines = [text.strip() for text in chatctl_render.status(status(state="degraded", reasons=reasons)).splitlines()]
    assert lines[0].startswith("▲ chatd")
    at = lines.index("problem: the bus is down")
    assert lines[at + 1] == "connections are refused"


def test_status_tells_what_the_security_trail_counted() -> None:
    totals = {"logins": 3, "logins_failed": 12, "penalties_begun": 2, "registrations": 0, "of_a_newer_server": 1}
    lines = [text.strip() for text in chatctl_render.status(status(totals=totals)).splitlines()]
    assert "logins: 3 ok, 12 failed, 0 refused" in lines
    assert "security: 2 penalties begun" in lines
    assert "1 of_a_newer_server" in lines
    assert not any("registered" in line for line in lines)


def test_status_tells_how_large_the_store_is_and_what_retention_did() -> None:
    server = status(totals={"retention_deleted": 12})
    told = chatctl_render.status(server)
    assert "data:" not in told
    worker = server.workers[0]
    worker.store_bytes, worker.store_free_bytes, worker.store_reclaims = 3_000_000, 200_000, True
    worker.retention_at_ms, worker.erasures_pending, worker.oldest_message_ms = 1_700_000_000_000, 1, 0
    lines = [text.strip() for text in chatctl_render.status(server).splitlines()]
    assert "data: 3MB, 200kB unused, given back as old messages go, no messages" in lines
    assert any(line.startswith("retention: 12 messages deleted, last run 2023-11-1") for line in lines)
    assert "erasing: messages of 1 erased accounts" in lines
    assert not any("security" in line for line in lines)
