"""Ending a user's sessions on every worker, as an operator asks.

Owns: the order to the workers, their answers, and the sum of them.
Not here: what ends a session (worker, core.sessions.login).
Fails: with one line; what the workers that did answer have ended is ended.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from chatd import log
from chatd.errors import Exit
from chatd.master.control import Answer
from chatd.master.workers import Slot, WorkerPool

ANSWER_S = 5.0
REASON_CHARS = 200
UNKNOWN_USER = 1


class _Wish(msgspec.Struct, frozen=True):
    """user: a name, or a number in words; or else user_id, also of an account that has been deleted."""

    user: Annotated[str, Meta(max_length=200)] = ""
    user_id: Annotated[int, Meta(ge=0, lt=1 << 62)] = 0
    reason: Annotated[str, Meta(max_length=REASON_CHARS)] = ""


@dataclass(slots=True)
class _Pending:
    """waiting: pids that have not answered. sessions: ended so far. why: of a worker that could not. unanswered,
    cut_off, kept_s: as core.sessions.kick says."""

    who: str
    deadline: float
    answer: Answer
    waiting: set[int] = field(default_factory=set)
    sessions: int = 0
    known: bool = False
    why: str = ""
    unanswered: set[str] = field(default_factory=set)
    cut_off: bool = False
    kept_s: int = 0


class Kicks:
    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._pending: dict[int, _Pending] = {}
        self._refs = itertools.count(1)

    def begin(self, request: dict[str, Any], answer: Answer) -> None:
        """request: as _Wish. answer gets {"ok", "exit", "sessions", "unanswered", "repeated_s"} or {"error"}
        within ANSWER_S."""
        try:
            wish = msgspec.convert(request, _Wish)
        except msgspec.ValidationError as error:
            answer({"ok": False, "exit": Exit.USAGE, "error": f"kick: {error}"})
            return
        if not (wish.user or wish.user_id):
            answer({"ok": False, "exit": Exit.USAGE, "error": "kick needs a user"})
            return
        ref = next(self._refs)
        pending = _Pending(wish.user or str(wish.user_id), time.monotonic() + ANSWER_S, answer)
        order = {"order": "kick", "ref": ref, **msgspec.to_builtins(wish)}
        for slot in self._pool.present():
            if slot.worker is not None and slot.worker.ready_at:
                if self._pool.order(slot, order):
                    pending.waiting.add(slot.worker.child.pid)
                else:
                    pending.why = f"worker {slot.index} takes no orders"
        self._pending[ref] = pending
        self.look()

    def on_answer(self, slot: Slot, message: dict[str, Any]) -> None:
        pending = self._pending.get(message.get("kicked", 0))
        if pending is None or slot.worker is None:
            return
        pending.waiting.discard(slot.worker.child.pid)
        pending.sessions += int(message.get("sessions", 0))
        pending.known = pending.known or bool(message.get("known"))
        pending.why = pending.why or str(message.get("why", ""))
        pending.unanswered.update(map(str, message.get("unanswered", ())))
        pending.cut_off = pending.cut_off or bool(message.get("cut_off"))
        pending.kept_s = max(pending.kept_s, int(message.get("kept_s", 0)))
        self.look()

    def look(self) -> None:
        """At every turn of the loop: has everybody answered who still lives?"""
        alive = {slot.worker.child.pid: slot for slot in self._pool.present() if slot.worker}
        for ref, pending in list(self._pending.items()):
            pending.waiting &= alive.keys()
            if pending.waiting and time.monotonic() <= pending.deadline:
                continue
            if pending.waiting:
                silent = sorted(alive[pid].index for pid in pending.waiting)
                pending.why = f"no answer within {ANSWER_S:g} s from worker {', '.join(map(str, silent))}"
            del self._pending[ref]
            pending.answer(_result(pending))


def _result(pending: _Pending) -> dict[str, Any]:
    unanswered = sorted(pending.unanswered)
    why = "; ".join(filter(None, (pending.why, _missing(unanswered, pending.cut_off, pending.kept_s))))
    log.get().info("kicked", user=pending.who, sessions=pending.sessions, unanswered=unanswered, why=why)
    told = {"sessions": pending.sessions, "unanswered": unanswered, "repeated_s": pending.kept_s}
    if why:
        error = f"{why}; {pending.sessions} sessions ended"
        return {"ok": False, "exit": Exit.TRY_AGAIN, "error": error, **told}
    if not pending.known:
        return {"ok": False, "exit": UNKNOWN_USER, "error": f"{pending.who}: no such user"}
    return {"ok": True, "exit": Exit.OK, **told}


def _missing(unanswered: list[str], cut_off: bool, kept_s: int) -> str:
    """Who may still have sessions, and what is done about it."""
    if not (unanswered or cut_off):
        return ""
    why = f"no answer from {', '.join(unanswered)}" if unanswered else ""
    if cut_off:
        why = f"{why}, and " if why else ""
        why += "the bus is not whole, so there may be hosts that nobody here knows"
    return f"{why} (they are asked again for {kept_s / 60:g} min)" if kept_s else why
