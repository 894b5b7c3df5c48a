"""Every metric: its name, kind, labels and meaning, and the number of the scoreboard that it shows.

Owns: the one table, from which docs/metrics.md is made. A number of the scoreboard that is not named here is exported
under its own name, so that none is forgotten.
Elsewhere: the values (master.metrics.samples), their form (master.metrics.exposition), the numbers (chatd.counters,
chatd.tallies).
Fails: never.

A name is never changed and never given another meaning: dashboards and alerts use it. Counters are sums over all
processes since the server was started; they go on when a worker is replaced and over an upgrade. What is true of one
worker at the moment has the label `worker`, its slot.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from chatd.counters import Field
from chatd.scoreboard import FIELDS
from chatd.tallies import (
    COMMIT,
    CONNECTIONS,
    DELIVERY_DELAY,
    HISTOGRAMS,
    HTTP_REQUESTS,
    REFUSALS,
    SESSIONS,
    TALLIES,
    Histogram,
    Tally,
)

PREFIX = "chatd_"


class Kind(enum.StrEnum):
    """As Prometheus knows them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


class Metric(NamedTuple):
    """name: with its unit, without what the kind adds (see `shown`). labels: of each of its series."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The name by which queries find it; of a histogram, what its series begin with."""
        return f"{self.name}{_ENDINGS.get(self.kind, '')}"


_ENDINGS = {Kind.COUNTER: "_total", Kind.INFO: "_info"}


class Scope(enum.Enum):
    """Whose value a number that is no sum shows. WORKER: each worker's own. HOST: the largest, because one worker
    measures it for all."""

    WORKER = enum.auto()
    HOST = enum.auto()


class Exported(NamedTuple):
    """A number of the scoreboard as a metric. name: without PREFIX; several numbers may share one, told apart by
    `label`, a pair of a name and a value. meaning: "" = that of the number."""

    name: str
    label: tuple[str, str] | None = None
    meaning: str = ""
    scope: Scope = Scope.WORKER


class LeftOut(NamedTuple):
    """A number that is no metric, and why."""

    why: str


_LOGINS, _REGISTRATIONS, _PASSWORDS = "logins by their result", "registrations by their result", "changes of a password"
_IN_HISTOGRAM = f"{PREFIX}commit_seconds has them all"
_BY_STATUS = f"{PREFIX}http_requests_total has them by their status"

EXPORTS: dict[str, Exported | LeftOut] = {
    "connections": LeftOut(f"{PREFIX}connections has them by wire"),
    "sessions": LeftOut(f"{PREFIX}sessions has them by wire"),
    "messages_in": Exported("messages_accepted"),
    "messages_out": Exported("messages_delivered", meaning="messages written to clients, each once for every session"),
    "queue_messages": Exported("messages_waiting"),
    "queue_bytes": Exported("write_queue_bytes"),
    "loop_lag_us": Exported("loop_lag_seconds"),
    "commit_p99_us": LeftOut(_IN_HISTOGRAM),
    "errors": Exported("errors_logged"),
    "log_dropped": Exported("log_records_dropped"),
    "log_held_back": Exported("log_records_held_back"),
    "log_generation": LeftOut("rotations of log files concern nobody else"),
    "refused": Exported("connections_refused"),
    "refused_full": Exported(
        "connections_refused_full",
        meaning="connections refused because a worker had no room or no descriptors for any client",
    ),
    "connections_refused": Exported("connections_refused_by_source"),
    "store_ok": Exported("store_up", meaning="whether the last commit of the worker succeeded"),
    "bus_ok": Exported("bus_up"),
    "bus_forged": LeftOut(f"{PREFIX}bus_messages_refused_total has them all"),
    "bus_forgeries": Exported("bus_messages_refused"),
    "bus_round_trip_us": Exported("bus_round_trip_seconds"),
    "udp_peers": Exported("udp_peers", meaning="peers over UDP; chatd_connections includes them"),
    "udp_dropped": Exported("datagrams_dropped"),
    "hooks_open": Exported("plugin_functions_suspended"),
    "hook_users_held": Exported("plugin_users_held"),
    "hook_failures": Exported("plugin_failures"),
    "hook_dropped": Exported("plugin_events_dropped"),
    "hooks_suspended": Exported("plugin_suspensions"),
    "store_bytes": Exported("store_bytes", meaning="size of the store", scope=Scope.HOST),
    "store_free_bytes": Exported("store_free_bytes", meaning="of it, bytes that hold nothing", scope=Scope.HOST),
    "store_reclaims": Exported("store_reclaims", scope=Scope.HOST),
    "oldest_message_ms": Exported("oldest_message_timestamp_seconds", scope=Scope.HOST),
    "retention_at_ms": Exported("retention_completed_timestamp_seconds", scope=Scope.HOST),
    "retention_failed": Exported("retention_failed", scope=Scope.HOST),
    "retention_held": Exported("retention_held", scope=Scope.HOST),
    "erasures_pending": Exported("erasures_pending", scope=Scope.HOST),
    "files_stored": Exported("files", meaning="files that people have uploaded", scope=Scope.HOST),
    "file_bytes_stored": Exported("file_bytes", meaning="bytes of their content", scope=Scope.HOST),
    "address_bans": Exported("address_bans", meaning="networks that an operator keeps out", scope=Scope.HOST),
    "logins": Exported("logins", ("result", "ok"), _LOGINS),
    "logins_failed": Exported("logins", ("result", "failed"), _LOGINS),
    "logins_refused": Exported("logins", ("result", "refused"), _LOGINS),
    "registrations": Exported("registrations", ("result", "ok"), _REGISTRATIONS),
    "registrations_refused": Exported("registrations", ("result", "refused"), _REGISTRATIONS),
    "passwords_changed": Exported("password_changes", ("result", "ok"), _PASSWORDS),
    "password_changes_failed": Exported("password_changes", ("result", "refused"), _PASSWORDS),
    "identities_refused": Exported("claimed_identities_refused"),
    "rate_refused": Exported("commands_refused_by_rate"),
    "mailbox_refused": Exported("messages_refused_by_mailbox"),
    "penalties_replaced": Exported("penalties_given_up"),
    "retention_deleted": Exported("retention_deleted_messages"),
    "http_requests": LeftOut(_BY_STATUS),
    "http_client_errors": LeftOut(_BY_STATUS),
    "http_server_errors": LeftOut(_BY_STATUS),
    "pid": LeftOut("every restart would be another series"),
    "generation": Exported("worker_config_generation"),
    "state": LeftOut(f"{PREFIX}workers counts them by state"),
    "started_ms": Exported("worker_started_timestamp_seconds"),
    "heartbeat_ns": LeftOut(f"{PREFIX}worker_heartbeat_age_seconds is made of it"),
}
"""Numbers that have another name as a metric, or are none."""

TALLY_NAMES: dict[Tally, str] = {
    CONNECTIONS: "connections",
    SESSIONS: "sessions",
    REFUSALS: "refusals",
    HTTP_REQUESTS: "http_requests",
}
HISTOGRAM_NAMES: dict[Histogram, str] = {COMMIT: "commit_seconds", DELIVERY_DELAY: "delivery_delay_seconds"}
"""Names that differ from those of the scoreboard."""

_GROUPED = {name for one in TALLIES for name in (one.cell(value) for value in one.values)} | {
    name for one in HISTOGRAMS for name in (*one.buckets, one.sum)
}
_UNITS: dict[str, tuple[str, str, float]] = {
    "s": ("_s", "_seconds", 1.0),
    "ms": ("_ms", "_seconds", 1e3),
    "us": ("_us", "_seconds", 1e6),
    "ns": ("_ns", "_seconds", 1e9),
    "bytes": ("_bytes", "_bytes", 1.0),
}
"""By the unit of a number: how its name ends, how that of the metric ends, and by what the number is divided."""


def exported(name: str) -> Exported | LeftOut:
    """How a number of the scoreboard is exported; one that is not in EXPORTS under its own name."""
    if name in EXPORTS:
        return EXPORTS[name]
    ending, seconds, _ = _UNITS.get(FIELDS[name].unit, ("", "", 1.0))
    return Exported(f"{name.removesuffix(ending)}{seconds}")


def scale(name: str) -> float:
    """What a number of the scoreboard is divided by."""
    return _UNITS.get(FIELDS[name].unit, ("", "", 1.0))[2]


def is_sum(field: Field) -> bool:
    """Whether it is a sum over all processes, which only grows."""
    return field.total or field.counts


def single_fields() -> list[str]:
    """The numbers that belong to no group."""
    return [name for name in FIELDS if name not in _GROUPED]


def tally_name(one: Tally) -> str:
    return f"{PREFIX}{TALLY_NAMES.get(one, one.name)}"


def histogram_name(one: Histogram) -> str:
    return f"{PREFIX}{HISTOGRAM_NAMES.get(one, f'{one.name}_seconds')}"


REASON, STATE = f"{PREFIX}problem", f"{PREFIX}state"
WORKERS, WANTED = f"{PREFIX}workers", f"{PREFIX}workers_wanted"
HEARTBEAT = f"{PREFIX}worker_heartbeat_age_seconds"
MEMORY, CPU = f"{PREFIX}process_resident_memory_bytes", f"{PREFIX}process_cpu_seconds"
OF_MASTER: tuple[Metric, ...] = (
    Metric(f"{PREFIX}build", Kind.INFO, "the version that runs", ("version", "python")),
    Metric(f"{PREFIX}start_timestamp_seconds", Kind.GAUGE, "when the server was started"),
    Metric(STATE, Kind.GAUGE, "1 for the state that the server is in, 0 for the others", ("state",)),
    Metric(
        REASON,
        Kind.GAUGE,
        "1 for a reason of `chatctl check` that holds now, 0 for the others (docs/runbook.md)",
        ("code",),
    ),
    Metric(f"{PREFIX}ready", Kind.GAUGE, "1 if /readyz answers 200"),
    Metric(f"{PREFIX}config_generation", Kind.GAUGE, "the configuration in force"),
    Metric(f"{PREFIX}reloads", Kind.COUNTER, "reloads, by their result", ("result",)),
    Metric(WANTED, Kind.GAUGE, "workers that there should be"),
    Metric(WORKERS, Kind.GAUGE, "workers by their state, as `chatctl workers` shows it", ("state",)),
    Metric(f"{PREFIX}worker_deaths", Kind.COUNTER, "workers that ended without being told to"),
    Metric(HEARTBEAT, Kind.GAUGE, "since the event loop turned last", ("worker",)),
    Metric(MEMORY, Kind.GAUGE, "resident memory, what it shares with others included", ("process",)),
    Metric(CPU, Kind.COUNTER, "CPU time of a process that runs", ("process",)),
    Metric(f"{PREFIX}listener_waiting", Kind.GAUGE, "connections that no worker has accepted yet", ("listener",)),
    Metric(
        f"{PREFIX}certificate_expiry_timestamp_seconds", Kind.GAUGE, "when a certificate expires", ("listener", "file")
    ),
    Metric(f"{PREFIX}disk_free_bytes", Kind.GAUGE, "free on a file system that the server writes to", ("path",)),
    Metric(f"{PREFIX}disk_size_bytes", Kind.GAUGE, "size of that file system", ("path",)),
)
"""Metrics that are no number of the scoreboard."""


def metrics() -> list[Metric]:
    """All of them, by name."""
    found = {one.name: one for one in (*OF_MASTER, *map(_of_tally, TALLIES), *map(_of_histogram, HISTOGRAMS))}
    for name in single_fields():
        how = exported(name)
        if isinstance(how, Exported):
            metric = _of_field(how, FIELDS[name])
            found.setdefault(metric.name, metric)
    return sorted(found.values(), key=lambda one: one.name)


def _of_field(how: Exported, field: Field) -> Metric:
    meaning = how.meaning or field.meaning.partition(", since the worker started")[0]
    own = () if how.label is None else (how.label[0],)
    if is_sum(field):
        return Metric(f"{PREFIX}{how.name}", Kind.COUNTER, meaning, own)
    labels = ("worker", *own) if how.scope is Scope.WORKER else own
    return Metric(f"{PREFIX}{how.name}", Kind.GAUGE, meaning, labels)


def _of_tally(one: Tally) -> Metric:
    if one.counts:
        return Metric(tally_name(one), Kind.COUNTER, one.meaning, (one.label,))
    return Metric(tally_name(one), Kind.GAUGE, one.meaning, ("worker", one.label))


def _of_histogram(one: Histogram) -> Metric:
    return Metric(histogram_name(one), Kind.HISTOGRAM, one.meaning)
