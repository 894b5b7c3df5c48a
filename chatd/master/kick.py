"""Ending a user's sessions on every worker, as an operator asks.

Owns: the order to the workers, waiting for their answers, and the sum.
Elsewhere: ending the sessions (worker, core.sessions.kick).
Fails: with one line; the sessions that the answering workers have ended stay ended.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field

from chatd import security_log
from chatd.address_bans import network_named
from chatd.errors import Exit, Refused
from chatd.master.replies import CUT_OFF, UNKNOWN_USER, ControlReply, KickReply, Respond, failed
from chatd.master.requests import REASON_CHARS, KickRequest
from chatd.master.worker_slot import Slot
from chatd.master.workers import WorkerPool
from chatd.orders import Answer, KickDone, KickFailed, KickOrder
from chatd.security_log import SecurityEvent
from chatd.texts import fields

ANSWER_S = 5.0


@dataclass(slots=True)
class _PendingKick:
    """One request that some workers have not answered yet."""

    user: str
    """Name or id, as in the request; or the network."""
    deadline: float
    respond: Respond
    waiting: set[int] = field(default_factory=set)
    """Process ids of workers that have not answered."""
    sessions: int = 0
    """Sessions ended so far."""
    known: bool = False
    why: str = ""
    """Why a worker could not look for sessions; "" = all could."""
    unanswered: set[str] = field(default_factory=set)
    cut_off: bool = False
    kept_s: int = 0
    """These three as in orders.KickDone, for all workers together."""


class PendingKicks:
    """All kicks under way. take_answer() and check() are called by the master's loop."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._pending: dict[int, _PendingKick] = {}
        self._refs = itertools.count(1)

    def begin(self, request: KickRequest, respond: Respond) -> None:
        """Reply with a KickReply, or with a failure, within ANSWER_S."""
        if not (request.user or request.user_id or request.network):
            respond(failed(Exit.USAGE, "kick needs a user or an address"))
            return
        try:
            network = str(network_named(request.network)) if request.network else ""
        except ValueError:
            respond(failed(Exit.USAGE, f"{request.network}: neither an address nor a network"))
            return
        try:
            reason = fields.line("the reason", request.reason, REASON_CHARS)
        except Refused as refused:
            respond(failed(Exit.USAGE, refused.text))
            return
        ref = next(self._refs)
        pending = _PendingKick(request.user or network or str(request.user_id), time.monotonic() + ANSWER_S, respond)
        order = KickOrder(
            ref=ref,
            user=request.user,
            user_id=request.user_id,
            reason=reason,
            credentials=request.credentials,
            wire=request.wire,
            network=network,
        )
        for slot in self._pool.present():
            if slot.worker is not None and slot.worker.ready_at:
                if self._pool.order(slot, order):
                    pending.waiting.add(slot.worker.child.pid)
                else:
                    pending.why = f"worker {slot.index} takes no orders"
        self._pending[ref] = pending
        self.check()

    def take_answer(self, slot: Slot, answer: Answer) -> None:
        """Take an answer of any worker to any order; those that are not to a kick are ignored."""
        if not isinstance(answer, KickDone | KickFailed) or slot.worker is None:
            return
        pending = self._pending.get(answer.ref)
        if pending is None:
            return
        pending.waiting.discard(slot.worker.child.pid)
        if isinstance(answer, KickFailed):
            pending.why = pending.why or answer.why
        else:
            pending.sessions += answer.sessions
            pending.known = pending.known or answer.known
            pending.unanswered.update(answer.unanswered)
            pending.cut_off = pending.cut_off or answer.cut_off
            pending.kept_s = max(pending.kept_s, answer.kept_s)
        self.check()

    def check(self) -> None:
        """Once per turn of the loop: reply where every living worker has answered, or the time is over."""
        alive = {slot.worker.child.pid: slot for slot in self._pool.present() if slot.worker}
        for ref, pending in list(self._pending.items()):
            pending.waiting &= alive.keys()
            if pending.waiting and time.monotonic() <= pending.deadline:
                continue
            if pending.waiting:
                silent = sorted(alive[pid].index for pid in pending.waiting)
                pending.why = f"no answer within {ANSWER_S:g} s from worker {', '.join(map(str, silent))}"
            del self._pending[ref]
            pending.respond(_result(pending))


def _result(pending: _PendingKick) -> ControlReply:
    unanswered = sorted(pending.unanswered)
    why = "; ".join(filter(None, (pending.why, _missing(unanswered, pending.cut_off, pending.kept_s))))
    security_log.record(
        SecurityEvent.KICKED, name=pending.user, sessions=pending.sessions, unanswered=unanswered, why=why
    )
    reply = KickReply(sessions=pending.sessions, unanswered=unanswered, repeated_s=pending.kept_s)
    if why:
        reply.ok, reply.exit = False, Exit.TRY_AGAIN
        reply.error = f"{why}; {pending.sessions} sessions ended"
    elif not pending.known:
        return failed(UNKNOWN_USER, f"{pending.user}: no such user")
    return reply


def _missing(unanswered: list[str], cut_off: bool, kept_s: int) -> str:
    """A text: which hosts may still have sessions, and what is done about it."""
    if not (unanswered or cut_off):
        return ""
    why = f"no answer from {', '.join(unanswered)}" if unanswered else ""
    if cut_off:
        why = f"{why}, and " if why else ""
        why += CUT_OFF
    return f"{why} (they are asked again for {kept_s / 60:g} min)" if kept_s else why
