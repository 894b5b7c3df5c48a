"""The state of the server, as `chatctl status`, `workers` and `check` show it.

Owns: the text, at most WIDTH columns wide.
Elsewhere: the figures (master.status), what is wrong (master.health), other output (chatctl.render).
Fails: never.
"""

from __future__ import annotations

import textwrap
import time
from typing import Literal, get_type_hints

from chatd.chatctl.render import at, duration, plural, size, table
from chatd.counters import Field
from chatd.master.health import Code, State
from chatd.master.status import Status, WorkerStatus
from chatd.scoreboard import FIELDS

WIDTH = 100
"""Columns of a terminal that the output fits into."""
_INDENT = 13
"""Column in which values begin; the labels before it are aligned to the right."""
_LARGE = 100_000
"""A count from here on is shown in thousands."""


GOOD, DEGRADED, CRITICAL = range(3)
"""Exit codes of `chatctl check`."""
RESULTS = {GOOD: "OK", DEGRADED: "DEGRADED", CRITICAL: "CRITICAL"}
OF_STATES = {
    State.STARTING: (DEGRADED, "wait, or see the log"),
    State.RUNNING: (GOOD, ""),
    State.DEGRADED: (DEGRADED, ""),
    State.DRAINING: (DEGRADED, "chatctl undrain lets it serve again"),
    State.DRAINED: (DEGRADED, "chatctl undrain lets it serve again"),
    State.STOPPING: (CRITICAL, ""),
}
"""What each state of the server means to a monitor by itself, and what to do about it. Reasons can make it worse: any
makes it degraded, one that is critical makes it critical. docs/runbook.md has the same table."""


def check(server: Status) -> tuple[int, str]:
    """For monitors: the exit code and one line. The server itself judges (master.health)."""
    reasons = server.reasons
    known = server.state in [one.value for one in OF_STATES]
    code, advice = OF_STATES[State(server.state)] if known else (DEGRADED, "")  # of a newer server
    if reasons:
        code = max(code, CRITICAL if any(one.critical for one in reasons) else DEGRADED)
    counted = f"{server.workers_ready} of {server.workers_wanted} workers ready"
    if code == GOOD:
        return code, f"OK: {counted}"
    parts = [server.state, *([] if any(one.code == Code.WORKERS for one in reasons) else [counted])]
    text = ", ".join([*parts, *(one.text for one in reasons)])
    return code, f"{RESULTS[code]}: {text}{f'; {advice}' if advice else ''}"


def status(server: Status) -> str:
    """Everything, with the workers at the end."""
    symbol = "●" if server.state == "running" else "▲" if server.state == "degraded" else "○"
    ready = f"{server.workers_ready} of {server.workers_wanted} workers ready"
    lines = [f"{symbol} chatd {server.version}: {server.state}, {ready}"]
    lines += _labelled("problem", [reason.text for reason in server.reasons])
    if server.upgrade is not None and server.upgrade.phase != "idle":
        lines += _labelled("upgrade", [f"under way ({server.upgrade.phase})"])
    lines += _labelled("process", [f"{server.pid}, up {duration(server.uptime_s)}"])
    reloads = f"{plural(server.reloads, 'reload')} ({server.reloads_failed} failed)"
    failure = [f"last reload: {line}" for line in server.last_reload_error.splitlines()]
    lines += _labelled("config", [f"{server.config_file}, generation {server.generation}, {reloads}", *failure])
    if server.restart is not None:
        lines += _labelled("restart", [f"{server.restart.replaced} of {server.restart.workers} workers are replaced"])
    store = f"{server.store_url}, {_good(server, 'store')}, commit p99 {server.commit_p99_us / 1000:.1f} ms"
    lines += _labelled("store", [store])
    lines += _labelled("bus", [f"{server.bus_url}, {_good(server, 'bus')}{_round_trip(server)}"])
    lines += _data(server)
    lines += _labelled("log", [f"{server.log_dropped} records of the master dropped"] if server.log_dropped else [])
    waiting = ["" if one.waiting < 0 else f", {one.waiting} of {one.backlog} waiting" for one in server.listeners]
    shown = zip(server.listeners, waiting, strict=True)
    lines += _labelled("listening", [f"{one.protocol} {one.address}{waits}" for one, waits in shown])
    lines += _labelled("TLS", _certificates(server))
    lines += _labelled("refused", [f"{sum(one.refused for one in server.workers)} connections"])
    lines += _totals(server)
    lines += _plugins(server)
    return "\n".join(lines) + "\n\n" + workers(server)


def _labelled(label: str, values: list[str]) -> list[str]:
    """Lines `label: value`, the label only on the first, each wrapped to WIDTH."""
    lines = []
    for index, value in enumerate(values):
        head = f"{label + ':' if index == 0 else '':>{_INDENT - 1}} "
        lines += textwrap.wrap(
            value, WIDTH, initial_indent=head, subsequent_indent=" " * (_INDENT + 2), break_on_hyphens=False
        )
    return lines


def _good(server: Status, part: Literal["store", "bus"]) -> str:
    """ "good", or "DOWN" and why: each reason once, with the workers that give it."""
    if server.store_ok if part == "store" else server.bus_ok:
        return "good"
    by_reason: dict[str, list[str]] = {}
    for one in server.workers:
        why = one.store_trouble if part == "store" else one.bus_trouble
        if why and one.state == "ready":
            by_reason.setdefault(" ".join(why.split()), []).append(str(one.slot))
    reasons = "; ".join(f"{why} (worker {', '.join(slots)})" for why, slots in by_reason.items())
    return f"DOWN: {reasons or ('see the logs' if server.workers_ready else 'no worker is ready')}"


def _round_trip(server: Status) -> str:
    known = server.bus_ok and server.bus_round_trip_us
    return f", round trip {server.bus_round_trip_us / 1000:.1f} ms" if known else ""


def _data(server: Status) -> list[str]:
    """Size of the store, and what retention did; measured by one worker for all."""
    measured = next((one for one in server.workers if one.store_bytes), None)
    if measured is None:
        return []
    unused = f"{size(measured.store_free_bytes)} unused, "
    unused += "given back as old messages go" if measured.store_reclaims else "kept for new messages"
    oldest = f", oldest message {at(measured.oldest_message_ms)}" if measured.oldest_message_ms else ", no messages"
    lines = _labelled("data", [f"{size(measured.store_bytes)}, {unused}{oldest}"])
    if measured.retention_at_ms:
        deleted = server.totals.get(_DELETED, 0)
        lines += _labelled("retention", [f"{deleted} messages deleted, last run {at(measured.retention_at_ms)}"])
    if measured.files_stored:
        lines += _labelled("files", [f"{measured.files_stored}, {size(measured.file_bytes_stored)} of content"])
    if measured.erasures_pending:
        lines += _labelled("erasing", [f"messages of {measured.erasures_pending} erased accounts"])
    return lines


def _certificates(server: Status) -> list[str]:
    lines = []
    for one in server.certificates:
        until = time.strftime("%Y-%m-%d", time.gmtime(one.expires_at))
        ends = "EXPIRED on" if one.expiry == "expired" else "expires soon, on" if one.expiry == "expiring" else "until"
        lines.append(f"{one.listener} {', '.join(one.names) or one.file}, {ends} {until}")
        if one.error:
            lines.append(f"the changed file is not in use: {one.error}")
    return lines


def _plugins(server: Status) -> list[str]:
    """Only where a call failed or an event was dropped. A function is counted once for each worker."""
    shut, held, failed, dropped = (
        sum(getattr(one, name) for one in server.workers)
        for name in ("hooks_open", "hook_users_held", "hook_failures", "hook_dropped")
    )
    if not failed and not dropped:
        return []
    text = f"{shut} functions suspended, {held} users held back, {failed} calls failed, {dropped} events dropped"
    return _labelled("plug-ins", [text])


def _totals(server: Status) -> list[str]:
    """Logins always; of the other totals those that are not 0."""
    known = dict.fromkeys((*_LOGINS, *server.totals))
    counted = {name: server.totals.get(name, 0) for name in known}
    words = {name: f"{number} {_short(name)}" for name, number in counted.items()}
    rest = [words[name] for name, number in counted.items() if number and name not in (*_LOGINS, _DELETED)]
    return _labelled("logins", [", ".join(words[name] for name in _LOGINS)]) + _labelled("security", rest)


def _short(name: str) -> str:
    """Also for a total of a newer server."""
    field = FIELDS.get(name)
    return field.heading if field else name


_DELETED = "retention_deleted"
_LOGINS = ("logins", "logins_failed", "logins_refused")

WORKER_COLUMNS = (
    "slot", "pid", "generation", "state", "uptime_s", "connections", "sessions", "loop_lag_us", "commit_p99_us",
    "in_per_s", "out_per_s", "queue_bytes", "rss_bytes", "cpu_percent", "errors", "restarts",
)  # fmt: skip
"""Fields of WorkerStatus; their headings and units stand where they are defined."""

WORKER_FIELDS: dict[str, Field] = {
    name: kind.__metadata__[0] for name, kind in get_type_hints(WorkerStatus, include_extras=True).items()
}


def workers(server: Status) -> str:
    """A table with one row per worker."""
    rows = [[cell(one, name) for name in WORKER_COLUMNS] for one in server.workers]
    head = [WORKER_FIELDS[name].heading for name in WORKER_COLUMNS]
    wide = table(head, rows)
    return wide if max(map(len, wide.splitlines())) <= WIDTH else table(head, rows, gap=" ")


def cell(one: WorkerStatus, name: str) -> str:
    """Formatted by the field's unit. A value that only a running process has is "-" while no worker runs."""
    value = getattr(one, name)
    if not one.pid and name in ("pid", "generation", "uptime_s"):
        return "-"
    match WORKER_FIELDS[name].unit:
        case "us":
            return f"{value / 1000:.1f}"
        case "s":
            return duration(value).partition(" ")[0] if value >= 86_400 else duration(value).replace(" ", "")
        case "bytes":
            return size(value)
        case "%":
            return f"{value:.0f}"
        case "per second":
            return count(value)
    return count(value) if isinstance(value, int) and name != "pid" else str(value)


def count(value: float) -> str:
    """A number of things, or of things per second, in at most six characters."""
    if value >= _LARGE:
        return f"{value / 1000:.0f}k" if value < _LARGE * 100 else f"{value / 1e6:.0f}M"
    return f"{value:.0f}" if value >= 1000 else f"{value:g}"
