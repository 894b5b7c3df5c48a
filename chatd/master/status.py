"""What `chatctl status` is told: the shape of the answer, version 1. Fields are added, never changed.

Not here: how it is gathered (master.gauge), how it is printed (chatctl_text).
"""

from __future__ import annotations

import msgspec


class WorkerStatus(msgspec.Struct):
    slot: int
    pid: int
    state: str
    generation: int
    uptime_s: float
    heartbeat_age_s: float
    restarts: int
    connections: int
    sessions: int
    in_per_s: float
    out_per_s: float
    messages_in: int
    messages_out: int
    loop_lag_us: int
    commit_p99_us: int
    queue_bytes: int
    queue_messages: int
    rss_bytes: int
    cpu_percent: float
    errors: int
    refused: int
    log_dropped: int
    store_ok: bool
    bus_ok: bool
    bus_round_trip_us: int
    udp_peers: int
    udp_dropped: int
    hooks_open: int
    hook_failures: int
    hook_dropped: int


class ListenerStatus(msgspec.Struct):
    """waiting: not accepted yet; -1 = unknown. refused is counted per worker, not here."""

    protocol: str
    address: str
    backlog: int
    waiting: int


class Status(msgspec.Struct):
    """bus_round_trip_us: the slowest worker's last canary; 0 = the bus has none."""

    v: int
    version: str
    state: str
    pid: int
    uptime_s: float
    config_file: str
    generation: int
    reloads: int
    reloads_failed: int
    last_reload_error: str
    workers_wanted: int
    workers_ready: int
    store_url: str
    store_ok: bool
    commit_p99_us: int
    bus_url: str
    bus_ok: bool
    bus_round_trip_us: int
    listeners: list[ListenerStatus]
    workers: list[WorkerStatus]
    log_dropped: int
