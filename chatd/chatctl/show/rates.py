"""Rates between two statuses of a server, as `chatctl top` shows them.

Owns: what has grown between two samples, per second, of each worker and of the server.
Elsewhere: taking samples and showing them (chatctl.show.top, chatctl.show.top_screen).
Fails: never. A worker that was replaced counts from nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from chatd.master.status import Status, WorkerStatus

REFUSALS = (
    "refused", "logins_failed", "logins_refused", "registrations_refused", "datagrams_refused", "identities_refused",
    "rate_refused", "mailbox_refused",
)  # fmt: skip
"""Counters whose growth is the rate of refusals."""


class Sample(NamedTuple):
    """at: time.monotonic() when the status was taken."""

    at: float
    status: Status


class WorkerRates(msgspec.Struct, frozen=True, kw_only=True):
    """Of one worker, between two samples. All rates per second."""

    slot: int
    pid: int
    state: str
    connections: int
    sessions: int
    in_per_s: float
    out_per_s: float
    logins_per_s: float
    refused_per_s: float
    errors_per_s: float
    commit_p99_ms: float
    loop_lag_ms: float
    queue_bytes: int
    queue_messages: int
    cpu_percent: float
    rss_bytes: int


class ServerRates(msgspec.Struct, frozen=True, kw_only=True):
    """Of the whole server. Latencies are the worst of any worker. problems: their texts (master.health)."""

    version: str
    state: str
    uptime_s: float
    interval_s: float
    workers_ready: int
    workers_wanted: int
    connections: int
    sessions: int
    in_per_s: float
    out_per_s: float
    logins_per_s: float
    refused_per_s: float
    errors_per_s: float
    commit_p99_ms: float
    loop_lag_ms: float
    bus_round_trip_ms: float
    queue_bytes: int
    queue_messages: int
    waiting: int
    problems: list[str]
    workers: list[WorkerRates]


_SUMMED = (
    "connections", "sessions", "in_per_s", "out_per_s", "logins_per_s", "refused_per_s", "errors_per_s", "queue_bytes",
    "queue_messages",
)  # fmt: skip


def between(before: Sample | None, now: Sample) -> ServerRates:
    """before: None = the first sample; then rates are those that the server says itself, or 0."""
    known = {one.pid: one for one in before.status.workers} if before else {}
    span_s = max(now.at - before.at, 0.001) if before else 0.0
    workers = [_of_worker(known.get(one.pid), one, span_s) for one in now.status.workers]
    status = now.status
    return ServerRates(
        version=status.version,
        state=status.state,
        uptime_s=status.uptime_s,
        interval_s=round(span_s, 2),
        workers_ready=status.workers_ready,
        workers_wanted=status.workers_wanted,
        commit_p99_ms=status.commit_p99_us / 1000,
        loop_lag_ms=max((one.loop_lag_ms for one in workers), default=0.0),
        bus_round_trip_ms=status.bus_round_trip_us / 1000,
        waiting=sum(max(one.waiting, 0) for one in status.listeners),
        problems=[one.text for one in status.reasons],
        workers=workers,
        **{name: round(sum(getattr(one, name) for one in workers), 1) for name in _SUMMED},
    )


def _of_worker(before: WorkerStatus | None, now: WorkerStatus, span_s: float) -> WorkerRates:
    def rate(*names: str) -> float:
        if not span_s:
            return 0.0
        grown: int = sum(getattr(now, name) - (getattr(before, name) if before else 0) for name in names)
        return round(max(0, grown) / span_s, 1)

    return WorkerRates(
        slot=now.slot,
        pid=now.pid,
        state=now.state,
        connections=now.connections,
        sessions=now.sessions,
        in_per_s=rate("messages_in") if span_s else now.in_per_s,
        out_per_s=rate("messages_out") if span_s else now.out_per_s,
        logins_per_s=rate("logins"),
        refused_per_s=rate(*REFUSALS),
        errors_per_s=rate("errors"),
        commit_p99_ms=now.commit_p99_us / 1000,
        loop_lag_ms=now.loop_lag_us / 1000,
        queue_bytes=now.queue_bytes,
        queue_messages=now.queue_messages,
        cpu_percent=now.cpu_percent,
        rss_bytes=now.rss_bytes,
    )
