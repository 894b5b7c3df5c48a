"""The replies of the master to `chatctl`.

Owns: one struct per reply. On the control socket each is one JSON object with "v": 1. Fields are added within version
1, never renamed.
Elsewhere: the requests (master.requests), the reply with the status (master.status).
Fails: never.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from chatd.client_list import ShownClient, ShownSession
from chatd.config.schema import Config
from chatd.errors import Exit

UNKNOWN_USER = 1
"""Exit code of chatctl if there is no such user."""
CUT_OFF = "the message bus is disrupted, so there may be other hosts that are not known here"


class ControlReply(msgspec.Struct, kw_only=True):
    """ok: it was done. exit: the exit code of `chatctl`. error: one line, where it was not done."""

    ok: bool = True
    exit: int = Exit.OK
    error: str | UnsetType = UNSET


class SlotLevel(msgspec.Struct, frozen=True):
    """The minimum level that the worker of a slot logs."""

    slot: int
    level: str


class LogLevelReply(ControlReply, kw_only=True):
    """The minimum level that is logged, by the master and by each worker."""

    master: str
    workers: list[SlotLevel]


class ReloadReply(ControlReply, kw_only=True):
    """generation: in force now. The rest are keys of options: changed at once, in workers started from now on, and
    at the next restart."""

    generation: int
    applied: list[str]
    next_worker: list[str]
    needs_restart: list[str]


class UpgradeReply(ControlReply, kw_only=True):
    """before, version: of the code that ran, and of that which runs now. workers: how many were replaced. took_s:
    from the request on, the preflight included."""

    before: str
    version: str
    workers: int
    took_s: float


class ConfigReply(ControlReply, kw_only=True):
    """The configuration in force, secrets masked."""

    config: Config


class PendingChange(msgspec.Struct):
    """An option whose value in the file is not in force everywhere. Secrets are masked. waits_for: reload, new workers
    or restart. command: what an operator runs to apply it."""

    key: str
    running: Any
    file: Any
    waits_for: str
    command: str = ""


class ConfigDiffReply(ControlReply, kw_only=True):
    file: str
    generation: int
    pending: list[PendingChange]


class ScaleReply(ControlReply, kw_only=True):
    """workers: wanted now."""

    workers: int


class ReplacedWorker(msgspec.Struct, kw_only=True):
    """slot, pid: of the worker that has left; new_slot, new_pid: of the one that took its place. took_s: in all."""

    slot: int
    pid: int
    new_slot: int
    new_pid: int
    took_s: float


class NotReplaced(msgspec.Struct, kw_only=True):
    """A worker that serves on."""

    slot: int
    pid: int


class RestartReply(ControlReply, kw_only=True):
    """In the order in which it was done. not_replaced: the first of them is the one that failed, if any did."""

    replaced: list[ReplacedWorker]
    not_replaced: list[NotReplaced]


class KickReply(ControlReply, kw_only=True):
    """sessions: ended. unanswered: hosts and workers that may still have sessions; they are asked again for repeated_s
    seconds."""

    sessions: int
    unanswered: list[str]
    repeated_s: int


class BroadcastReply(ControlReply, kw_only=True):
    """told: sessions that the text was written to. skipped: those that read too slowly to take it. unanswered: hosts
    and workers that have not answered, or not to the end."""

    told: int
    skipped: int
    unanswered: list[str]


class ApplyBansReply(ControlReply, kw_only=True):
    """ended: connections. unanswered: hosts and workers that have not answered: they find the change by themselves.
    cut_off: the bus is not whole, so there may be more of these."""

    ended: int
    unanswered: list[str]
    cut_off: bool


class PenaltyRow(msgspec.Struct, kw_only=True):
    """One record. kind: penalty_table.Kind in lower case. offences: those not forgiven. remaining_s: of the penalty; 0
    = there is none. since_ms: epoch; when the penalty or, before there was one, the first offence was."""

    kind: str
    subject: str
    offences: float
    remaining_s: float
    since_ms: int


class PenaltiesReply(ControlReply, kw_only=True):
    """The worst first. left_out: further records."""

    penalties: list[PenaltyRow]
    left_out: int


class ClearPenaltiesReply(ControlReply, kw_only=True):
    """records: how many there were on this host."""

    records: int


class SessionsReply(ControlReply, kw_only=True):
    """complete: there are no more sessions."""

    sessions: tuple[ShownSession, ...]
    complete: bool


class ClientsReply(ControlReply, kw_only=True):
    """clients: one page. matching, sessions: as in client_list.ClientPage. unanswered: workers, or hosts, whose
    sessions are missing."""

    clients: tuple[ShownClient, ...]
    matching: int
    sessions: int
    unanswered: tuple[str, ...] = ()


class TracedUser(msgspec.Struct, frozen=True, kw_only=True):
    user_id: int
    name: str
    remaining_s: float


class TraceReply(ControlReply, kw_only=True):
    """Everybody who is traced now."""

    traced: list[TracedUser]


Respond = Callable[[ControlReply], None]
"""To be called once per request."""


def failed(exit_code: int, error: str) -> ControlReply:
    """Nothing was done."""
    return ControlReply(ok=False, exit=exit_code, error=error)
