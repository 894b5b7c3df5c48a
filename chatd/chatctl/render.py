"""How chatctl's output looks on a terminal.

Owns: text made of the master's replies, and the forms of tables, times, durations and sizes.
Elsewhere: asking (chatctl.control_client), the state of the server (chatctl.show.server).
Fails: never.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from chatd.config.options import toml
from chatd.master.replies import (
    ConfigDiffReply,
    ControlReply,
    PenaltiesReply,
    ReloadReply,
    RestartReply,
    SessionsReply,
    UpgradeReply,
)

if TYPE_CHECKING:  # not loaded for commands that show no invite
    from chatd.store.account_contract import Invite


def upgraded(reply: UpgradeReply) -> str:
    """The result of `chatctl upgrade`."""
    what = f"{reply.before} -> {reply.version}" if reply.before != reply.version else f"{reply.version} again"
    return f"upgraded: {what}, {plural(reply.workers, 'worker')} replaced in {duration(reply.took_s)}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], gap: str = "  ") -> str:
    """Columns as wide as their widest cell. gap: between them."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return "\n".join(
        gap.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    )


def reloaded(reply: ReloadReply) -> str:
    """What a reload has applied, and what waits for what."""
    lines = [f"generation {reply.generation} is in effect"]
    for keys, text in (
        (reply.applied, "applied"),
        (reply.next_worker, "in new workers (chatctl restart-workers)"),
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
    """A table of the options that differ, with the command that applies each."""
    if not reply.pending:
        return f"{reply.file}: no change is pending"
    rows = [
        [change.key, toml(change.running), toml(change.file), change.command or change.waits_for]
        for change in reply.pending
    ]
    return table(["OPTION", "RUNNING", "FILE", "IS APPLIED BY"], rows)


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


def print_json(content: object) -> None:
    """One line. A reply of the server is printed with "v": 1, as it came."""
    found = msgspec.to_builtins(content)
    if isinstance(content, ControlReply):
        found = {"v": 1, **found}
    print(msgspec.json.encode(found).decode())


def users(found: Iterable[tuple[int, str, int]]) -> str:
    """A table of (id, name, created)."""
    rows = [[str(number), name, at(created_at_ms)] for number, name, created_at_ms in found]
    return table(["ID", "NAME", "CREATED"], rows)


def at(at_ms: int) -> str:
    """A moment as people read it, in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))


def sessions(found: SessionsReply) -> str:
    """A table, one row per session."""
    rows = [
        [one.wire, at(one.since_ms), one.peer, one.host or "-", str(one.worker) if one.worker >= 0 else "-"]
        for one in found.sessions
    ]
    return table(["WIRE", "SINCE", "PEER", "HOST", "WORKER"], rows)


def invites(found: Iterable[Invite], now_ms: int) -> str:
    """A table. The codes are not known."""
    rows = [
        [str(one.id), f"{one.used}/{one.uses}", at(one.expires_at_ms), state_of(one, now_ms), one.note] for one in found
    ]
    return table(["ID", "USED", "EXPIRES", "STATE", "NOTE"], rows)


def state_of(invite: Invite, now_ms: int) -> str:
    """Why an invite can or cannot be used."""
    if invite.revoked_at_ms:
        return "revoked"
    if invite.used >= invite.uses:
        return "used up"
    return "valid" if invite.valid(now_ms) else "expired"


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


def plural(number: int, noun: str) -> str:
    """1 reload, 2 reloads."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g}{unit}" if unit != "B" else f"{count:.0f}B"
        count /= 1000
    return f"{count:.1f}GB"
