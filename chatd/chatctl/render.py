"""How chatctl's output looks on a terminal.

Owns: text made of the master's replies, and `verdict`, which decides what is degraded or critical.
Elsewhere: asking (chatctl.control_client); what each number means (scoreboard, master.status).
Fails: never.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import get_type_hints

from chatd.config.options import toml
from chatd.master.requests import (
    ConfigDiffReply,
    PenaltiesReply,
    ReloadReply,
    RestartReply,
    SessionsReply,
    UpgradeReply,
)
from chatd.master.status import Status, WorkerStatus
from chatd.model import User
from chatd.scoreboard import FIELDS, Field
from chatd.store.account_contract import AccountDetails, Invite


def status(server: Status) -> str:
    symbol = {"running": "●", "degraded": "▲"}.get(server.state, "○")
    ready = f"{server.workers_ready} of {server.workers_wanted} workers ready"
    lines = [
        f"{symbol} chatd {server.version}: {server.state}, {ready}",
        *_upgrade(server),
        f"    process: {server.pid}, up {duration(server.uptime_s)}",
        f"     config: {server.config_file}, generation {server.generation}, "
        f"{server.reloads} reloads ({server.reloads_failed} failed)",
    ]
    if server.restart is not None:
        lines.append(f"    restart: {server.restart.replaced} of {server.restart.workers} workers are replaced")
    lines += [f"{'    problem:' if at == 0 else ' ' * 12} {one.text}" for at, one in enumerate(server.reasons)]
    if server.last_reload_error:
        lines += [f"             last reload: {line}" for line in server.last_reload_error.splitlines()]
    lines += [
        f"      store: {server.store_url}, {good(server.store_ok)}, commit p99 {server.commit_p99_us / 1000:.1f} ms",
        f"        bus: {server.bus_url}, {good(server.bus_ok)}{_round_trip(server)}",
    ]
    lines += _data(server)
    if server.log_dropped:
        lines.append(f"        log: {server.log_dropped} records of the master dropped")
    refused = sum(one.refused for one in server.workers)
    for index, one in enumerate(server.listeners):
        label = "  listening:" if index == 0 else " " * 12
        waiting = "" if one.waiting < 0 else f", {one.waiting} of {one.backlog} waiting"
        lines.append(f"{label} {one.protocol} {one.address}{waiting}")
    lines += _certificates(server)
    lines.append(f"    refused: {refused} connections")
    lines += _totals(server)
    lines += _plugins(server)
    return "\n".join(lines) + "\n\n" + workers(server)


def _upgrade(server: Status) -> list[str]:
    """What is installed, if it is not what runs, and how the last upgrade went."""
    about = server.upgrade
    if about is None:
        return []
    lines = []
    if about.installed and about.installed != server.version:
        lines.append(f"    upgrade: pending, {about.installed} is installed; run: chatctl upgrade")
    if about.phase != "idle":
        lines.append(f"    upgrade: under way ({about.phase})")
    elif about.old_workers:
        lines.append(f"    upgrade: incomplete, {about.old_workers} workers run the earlier version")
    if about.failure:
        lines += [f"             last upgrade: {line}" for line in about.failure.splitlines()]
    return lines


def upgraded(reply: UpgradeReply) -> str:
    """The result of `chatctl upgrade`."""
    what = f"{reply.before} -> {reply.version}" if reply.before != reply.version else f"{reply.version} again"
    return f"upgraded: {what}, {reply.workers} workers replaced in {duration(reply.took_s)}"


def _round_trip(server: Status) -> str:
    known = server.bus_ok and server.bus_round_trip_us
    return f", round trip {server.bus_round_trip_us / 1000:.1f} ms" if known else ""


def _data(server: Status) -> list[str]:
    """Size of the store, and what retention did; measured by the worker of slot 0 alone."""
    measured = next((one for one in server.workers if one.store_bytes), None)
    if measured is None:
        return []
    unused = f"{size(measured.store_free_bytes)} unused, "
    unused += "given back as old messages go" if measured.store_reclaims else "kept for new messages"
    oldest = f", oldest message {at(measured.oldest_message_ms)}" if measured.oldest_message_ms else ", no messages"
    lines = [f"       data: {size(measured.store_bytes)}, {unused}{oldest}"]
    if measured.retention_at_ms:
        deleted = server.totals.get(_DELETED, 0)
        lines.append(f"  retention: {deleted} messages deleted, last run {at(measured.retention_at_ms)}")
    if measured.erasures_pending:
        lines.append(f"    erasing: messages of {measured.erasures_pending} erased accounts")
    return lines


def _certificates(server: Status) -> list[str]:
    lines = []
    for index, one in enumerate(server.certificates):
        label = "        TLS:" if index == 0 else " " * 12
        until = time.strftime("%Y-%m-%d", time.gmtime(one.expires_at))
        ends = "EXPIRED on" if one.expiry == "expired" else "expires soon, on" if one.expiry == "expiring" else "until"
        lines.append(f"{label} {one.listener} {', '.join(one.names) or one.file}, {ends} {until}")
        if one.error:
            lines.append(f"{' ' * 12} the changed file is not in use: {one.error}")
    return lines


def _plugins(server: Status) -> list[str]:
    """Only where a call failed or an event was dropped. A function is counted once for each worker."""
    shut, held, failed, dropped = (
        sum(getattr(one, name) for one in server.workers)
        for name in ("hooks_open", "hook_users_held", "hook_failures", "hook_dropped")
    )
    if not failed and not dropped:
        return []
    return [
        f"   plug-ins: {shut} functions suspended, {held} users held back, {failed} calls failed, "
        f"{dropped} events dropped"
    ]


def _totals(server: Status) -> list[str]:
    """Logins always; of the other totals those that are not 0."""
    known = dict.fromkeys((*_LOGINS, *server.totals))
    counted = {name: server.totals.get(name, 0) for name in known}
    words = {name: f"{number} {_short(name)}" for name, number in counted.items()}
    lines = [f"     logins: {', '.join(words[name] for name in _LOGINS)}"]
    rest = [words[name] for name, number in counted.items() if number and name not in (*_LOGINS, _DELETED)]
    return [*lines, *(f"   security: {one}" if at == 0 else f"{'':12} {one}" for at, one in enumerate(rest))]


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

_FIELDS: dict[str, Field] = {
    name: kind.__metadata__[0] for name, kind in get_type_hints(WorkerStatus, include_extras=True).items()
}


def workers(server: Status) -> str:
    rows = [[_cell(one, name) for name in WORKER_COLUMNS] for one in server.workers]
    return table([_FIELDS[name].heading for name in WORKER_COLUMNS], rows)


def _cell(one: WorkerStatus, name: str) -> str:
    """Formatted by the field's unit. A value that only a running process has is "-" while no worker runs."""
    value = getattr(one, name)
    if not one.pid and name in ("pid", "generation", "uptime_s"):
        return "-"
    match _FIELDS[name].unit:
        case "us":
            return f"{value / 1000:.1f}"
        case "s":
            return duration(value)
        case "bytes":
            return size(value)
        case "%":
            return f"{value:.0f}"
        case "per second":
            return f"{value:g}"
    return str(value)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    )


def verdict(server: Status) -> tuple[int, str]:
    """For `check`: (0 good, 1 degraded, 2 critical) and one line. The server itself judges (master.health)."""
    counted = f"{server.workers_ready} of {server.workers_wanted} workers ready"
    parts = [server.state, *([] if any(one.code == "workers" for one in server.reasons) else [counted])]
    text = ", ".join([*parts, *(one.text for one in server.reasons)])
    if server.state in ("draining", "drained"):
        return 1, f"DEGRADED: {text}; chatctl undrain lets it serve again"
    if server.workers_ready == 0 or server.state == "stopping" or any(one.critical for one in server.reasons):
        return 2, f"CRITICAL: {text}"
    if server.state != "running":
        return 1, f"DEGRADED: {text}"
    return 0, f"OK: {counted}"


def reloaded(reply: ReloadReply) -> str:
    lines = [f"generation {reply.generation} is in effect"]
    for keys, text in (
        (reply.applied, "applied"),
        (reply.next_worker, "in workers started from now on"),
        (reply.needs_restart, "pending until a restart"),
    ):
        if keys:
            lines.append(f"{text}: {', '.join(keys)}")
    return "\n".join(lines)


def restarted(reply: RestartReply) -> str:
    """One line for each worker."""
    lines = [
        f"worker {one.slot} (pid {one.pid}) replaced by worker {one.new_slot} (pid {one.new_pid}), "
        f"{duration(one.took_s)}"
        for one in reply.replaced
    ]
    return "\n".join([*lines, *(f"worker {one.slot} (pid {one.pid}) not replaced" for one in reply.not_replaced)])


def pending(reply: ConfigDiffReply) -> str:
    if not reply.pending:
        return f"{reply.file}: no change is pending"
    rows = [[change.key, toml(change.running), toml(change.file), change.waits_for] for change in reply.pending]
    return table(["OPTION", "RUNNING", "FILE", "WAITS FOR"], rows)


def penalties(reply: PenaltiesReply) -> str:
    """Names come from strangers: what is not printable is shown as an escape."""
    if not reply.penalties:
        return "no failures and no penalties"
    rows = [
        [
            one.kind,
            one.subject if one.subject.isprintable() else repr(one.subject),
            f"{one.offences:g}",
            duration(one.remaining_s) if one.remaining_s else "-",
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.since_ms / 1000)),
        ]
        for one in reply.penalties
    ]
    more = f"\n{reply.left_out} further records" if reply.left_out else ""
    return table(["KIND", "SOURCE OR ACCOUNT", "FAILURES", "REFUSED FOR", "SINCE"], rows) + more


def users(found: Iterable[tuple[int, str, int]]) -> str:
    rows = [[str(number), name, at(created_at_ms)] for number, name, created_at_ms in found]
    return table(["ID", "NAME", "CREATED"], rows)


def at(at_ms: int) -> str:
    """A moment as people read it, in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))


def account(user: User, details: AccountDetails, sessions: SessionsReply | None) -> str:
    """sessions None: not known."""
    locked = f"since {at(details.locked_at_ms)}" if details.locked_at_ms else "no"
    rows = [
        ["id", str(user.id)],
        ["name", user.name],
        ["created", at(details.created_at_ms)],
        ["last seen", at(details.seen_at_ms) if details.seen_at_ms else "never"],
        ["locked", f"{locked}{': ' if details.lock_reason else ''}{details.lock_reason}"],
        ["sessions", "not known" if sessions is None else str(len(sessions.sessions))],
        ["friends", str(details.friends)],
        ["groups", str(details.groups)],
    ]
    return "\n".join(f"{name + ':':<11}{value}" for name, value in rows)


def sessions(found: SessionsReply) -> str:
    rows = [
        [one.wire, at(one.since_ms), one.peer, one.host or "-", str(one.worker) if one.worker >= 0 else "-"]
        for one in found.sessions
    ]
    return table(["WIRE", "SINCE", "PEER", "HOST", "WORKER"], rows)


def invites(found: Iterable[Invite], now_ms: int) -> str:
    rows = [
        [str(one.id), f"{one.used}/{one.uses}", at(one.expires_at_ms), _state_of(one, now_ms), one.note]
        for one in found
    ]
    return table(["ID", "USED", "EXPIRES", "STATE", "NOTE"], rows)


def _state_of(invite: Invite, now_ms: int) -> str:
    if invite.revoked_at_ms:
        return "revoked"
    if invite.used >= invite.uses:
        return "used up"
    return "valid" if invite.valid(now_ms) else "expired"


def good(ok: bool) -> str:
    return "good" if ok else "DOWN"


def duration(seconds: float) -> str:
    """3d 4h, 4h 5min, 5min 6s, 6.7s."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}min {rest}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h {minutes}min"
    return f"{hours // 24}d {hours % 24}h"


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g}{unit}" if unit != "B" else f"{count:.0f}B"
        count /= 1000
    return f"{count:.1f}GB"
