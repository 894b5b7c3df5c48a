"""The status of the server, as `chatctl status` shows it.

Owns: the shape of the answer (version 1: fields are added, never changed).
Elsewhere: collecting it (master.observing.status_collector), the numbers a worker keeps (scoreboard), how the answer is
printed (chatctl.render).
Fails: never.

chatctl loads this at every start: it imports nothing of the running master.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from chatd.counters import Counters, Field
from chatd.master.disks import DiskStatus
from chatd.master.health import Reason
from chatd.master.replies import ControlReply


class WorkerStatus(Counters):
    """One worker slot. Its own fields come before the counters in JSON."""

    slot: Annotated[
        int, Field("number of the worker slot, kept after a death; a successor has another", heading="SLOT")
    ]
    pid: Annotated[int, Field("process id; 0 while a replacement is due", heading="PID")]
    state: Annotated[str, Field("booting, ready, draining, hung, or degraded (a replacement is due)", heading="STATE")]
    generation: Annotated[int, Field("configuration the worker has confirmed; 0 = no worker", heading="GEN")]
    uptime_s: Annotated[float, Field("since the worker was forked", "s", heading="UP")]
    heartbeat_age_s: Annotated[float, Field("since the last heartbeat of the worker's event loop", "s")]
    restarts: Annotated[int, Field("how often a worker of this slot has died", heading="DIED")]
    in_per_s: Annotated[float, Field("rate of messages_in over 5 s", "per second", heading="IN/s")]
    out_per_s: Annotated[float, Field("rate of messages_out over 5 s", "per second", heading="OUT/s")]
    version: Annotated[str, Field("of the code that the worker runs")]
    rss_bytes: Annotated[int, Field("resident memory", "bytes", heading="RSS")]
    cpu_percent: Annotated[float, Field("share of one CPU since the last status", "%", heading="CPU%")]
    store_trouble: Annotated[str, Field("why the worker cannot use the store; empty if it can")] = ""
    bus_trouble: Annotated[str, Field("why the worker cannot use the message bus; empty if it can")] = ""


class UpgradeStatus(msgspec.Struct, kw_only=True):
    """installed: version of the files that an upgrade or a start would use; "" = not known. phase: upgrade.Phase.
    failure: why the last upgrade failed; "" = it did not. old_workers: those that still run the code from before an
    upgrade."""

    installed: str
    phase: str
    failure: str
    old_workers: int


class ListenerStatus(msgspec.Struct):
    """waiting: connections no worker has accepted yet; -1 = the kernel does not tell."""

    protocol: str
    address: str
    backlog: int
    waiting: int


class RestartProgress(msgspec.Struct):
    """Of a rolling restart that is under way."""

    replaced: int
    workers: int


class CertificateStatus(msgspec.Struct, kw_only=True):
    """listener: its address. file: of the certificate. expires_at: seconds since the epoch. error: why the file as it
    is now cannot be used, so that an earlier version is in use; "" = it is in use."""

    listener: str
    file: str
    names: list[str]
    expires_at: int
    expiry: str
    error: str


class Durations(msgspec.Struct, kw_only=True):
    """How long something took, each time since the server started, by all processes. counts: how often it took up to
    each of bounds_us, those of the smaller bounds included; the last is of all. p99 of a while follows from two of
    these."""

    bounds_us: list[int]
    counts: list[int]


class Status(msgspec.Struct, kw_only=True):
    """The whole answer. state: one of master.health.State. reasons: what is wrong, the worst first; the server is
    degraded if something is. Figures of the store and the bus are the worst of any ready worker. totals: the numbers in
    scoreboard.TOTALS, of all processes since the server started. durations: by the names of tallies.HISTOGRAMS."""

    v: int
    version: str
    state: str
    reasons: list[Reason] = []
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
    certificates: list[CertificateStatus] = []
    workers: list[WorkerStatus]
    log_dropped: int
    restart: RestartProgress | None = None
    totals: dict[str, int] = {}
    upgrade: UpgradeStatus | None = None
    disks: list[DiskStatus] = []
    durations: dict[str, Durations] = {}


class StatusReply(ControlReply, kw_only=True):
    """To requests.StatusRequest."""

    status: Status
