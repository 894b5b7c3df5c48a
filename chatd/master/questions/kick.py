"""Ending a user's sessions on every worker and host, as an operator asks.

Owns: the order to the workers, the sum of their answers, and kicks that some worker or host has not answered: for
KEPT_S a worker is told to repeat them, another one when that has ended, also after an upgrade.
Elsewhere: asking the workers (master.questions.asking), ending the sessions and asking other hosts
(core.sessions.kick).
Fails: with one line; the sessions that the answering workers have ended stay ended. A restart of the server forgets
what is kept.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from chatd import log, security_log
from chatd.address_bans import network_named
from chatd.bus.contract import LOST_WORKER_KEPT_S
from chatd.errors import Exit, Refused
from chatd.master.questions.asking import ANSWER_S, Answers, WorkerQuestions, listed
from chatd.master.replies import CUT_OFF, UNKNOWN_USER, ControlReply, KickReply, Respond, failed
from chatd.master.requests import REASON_CHARS, KickRequest
from chatd.master.workers import WorkerPool
from chatd.orders import KickDone, KickOrder, OrderFailed
from chatd.security_log import SecurityEvent
from chatd.texts import fields

KEPT_S = LOST_WORKER_KEPT_S
"""As long as the bus remembers workers that disappeared."""
MAX_KEPT = 1000
"""Maximum kicks kept; those beyond it are not repeated."""
AGAIN_S = 1.0
"""Pause before a kick that a worker could not repeat is given to one again."""


class KickState(msgspec.Struct, frozen=True, kw_only=True):
    """A kick that is kept, for a later program of the master. given_at: monotonic seconds."""

    order: KickOrder
    given_at: float


@dataclass(slots=True, kw_only=True)
class _KeptKick:
    """order: to be sent again with its age. is_repeated: a worker repeats it now. due: when one is told to."""

    order: KickOrder
    given_at: float
    is_repeated: bool = False
    due: float = 0.0
    sessions: int = 0


class Kicks:
    """begin() takes the requests of `chatctl kick`. check() is called by the master's loop."""

    def __init__(self, pool: WorkerPool, questions: WorkerQuestions) -> None:
        self._pool = pool
        self._questions = questions
        self._kept: dict[int, _KeptKick] = {}
        self._numbers = itertools.count()

    def state(self) -> tuple[KickState, ...]:
        """For a later program."""
        return tuple(KickState(order=one.order, given_at=one.given_at) for one in self._kept.values())

    def resume(self, before: Sequence[KickState]) -> None:
        """Go on with what an earlier program has kept."""
        for one in before:
            self._kept[next(self._numbers)] = _KeptKick(order=one.order, given_at=one.given_at)

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
        order = KickOrder(
            ref=0,
            user=request.user,
            user_id=request.user_id,
            reason=reason,
            credentials=request.credentials,
            wire=request.wire,
            network=network,
        )
        given_at = time.monotonic()
        self._questions.ask_every(
            lambda ref: msgspec.structs.replace(order, ref=ref),
            lambda found: respond(self._sum(order, given_at, found)),
        )

    def _sum(self, order: KickOrder, given_at: float, found: Answers) -> ControlReply:
        """The reply. What some host has not answered is kept."""
        if not (found.asked or found.silent):
            return failed(Exit.TRY_AGAIN, "no worker is ready")
        done = [one for one in found.answers if isinstance(one, KickDone)]
        sessions = sum(one.sessions for one in done)
        missing = {name: place for one in done for name, place in one.unanswered.items()}
        unanswered = tuple(sorted(set(missing.values())))
        cut_off = any(one.cut_off for one in done)
        user_id = max((one.user_id for one in done), default=0) or order.user_id
        kept = bool(unanswered or cut_off) and len(self._kept) < MAX_KEPT
        if kept:
            # By its id: the name may be another account's by then.
            known = msgspec.structs.replace(order, user="", user_id=user_id, unanswered=missing)
            self._kept[next(self._numbers)] = _KeptKick(order=known, given_at=given_at)
        reasons = [one.why for one in found.answers if isinstance(one, OrderFailed)][:1]
        if found.silent:
            reasons.append(f"no answer within {ANSWER_S:g} s from {listed(found.silent)}")
        why = "; ".join(filter(None, (*reasons, _missing(unanswered, cut_off=cut_off, kept=kept))))
        whom = order.user or order.network or str(order.user_id)
        security_log.record(SecurityEvent.KICKED, name=whom, sessions=sessions, unanswered=list(unanswered), why=why)
        if not why and not any(one.known for one in done):
            return failed(UNKNOWN_USER, f"{whom}: no such user")
        reply = KickReply(sessions=sessions, unanswered=list(unanswered), repeated_s=int(KEPT_S) if kept else 0)
        if why:
            reply.ok, reply.exit, reply.error = False, Exit.TRY_AGAIN, f"{why}; {sessions} sessions ended"
        return reply

    # ------------------------------------------------------------ what is kept

    def check(self) -> None:
        """Once per turn of the loop: tell a worker to repeat what none repeats, and forget what is over."""
        if not self._kept:
            return
        now = time.monotonic()
        for number, kept in list(self._kept.items()):
            if kept.is_repeated or now < kept.due:
                continue
            if now - kept.given_at >= KEPT_S:
                self._end(number, "kick given up, workers did not answer")
            elif self._pool.ready():
                self._repeat(number, kept, now)

    def _repeat(self, number: int, kept: _KeptKick, now: float) -> None:
        age_s = now - kept.given_at
        kept.is_repeated, kept.due = True, now + AGAIN_S
        self._questions.ask_one(
            lambda ref: msgspec.structs.replace(kept.order, ref=ref, age_s=age_s, repeat_s=KEPT_S - age_s),
            lambda found: self._repeated(number, kept, found),
            KEPT_S - age_s + ANSWER_S,
        )

    def _repeated(self, number: int, kept: _KeptKick, found: Answers) -> None:
        """The worker has asked all others, or has ended."""
        kept.is_repeated = False
        for answer in found.answers:
            if isinstance(answer, KickDone):
                kept.sessions += answer.sessions
                kept.order = msgspec.structs.replace(kept.order, unanswered=answer.unanswered)
                if not (answer.unanswered or answer.cut_off):
                    self._end(number, "kick answered by every worker")

    def _end(self, number: int, event: str) -> None:
        kept = self._kept.pop(number)
        log.get().info(
            event,
            user=kept.order.user_id,
            network=kept.order.network,
            sessions=kept.sessions,
            unanswered=sorted(set(kept.order.unanswered.values())),
        )


def _missing(unanswered: Sequence[str], *, cut_off: bool, kept: bool) -> str:
    """A text: which hosts may still have sessions, and what is done about it."""
    if not (unanswered or cut_off):
        return ""
    parts = [f"no answer from {', '.join(unanswered)}"] if unanswered else []
    if cut_off:
        parts.append(CUT_OFF)
    why = ", and ".join(parts)
    return f"{why} (they are asked again for {KEPT_S / 60:g} min)" if kept else why
