"""Ending a user's sessions on every worker, as an operator asks.

Owns: the order to the workers, their answers, and the sum of them.
Not here: what ends a session (worker, core.login).
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
from chatd.master.crew import Crew, Slot

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
    """waiting: pids that have not answered. sessions: ended so far. why: of a worker that could not."""

    who: str
    deadline: float
    answer: Answer
    waiting: set[int] = field(default_factory=set)
    sessions: int = 0
    known: bool = False
    why: str = ""


class Kicks:
    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._pending: dict[int, _Pending] = {}
        self._refs = itertools.count(1)

    def begin(self, request: dict[str, Any], answer: Answer) -> None:
        """request: as _Wish. answer gets {"ok", "exit", "sessions"} or {"error"} within ANSWER_S."""
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
        for slot in self._crew.present():
            if slot.worker is not None and slot.worker.ready_at:
                pending.waiting.add(slot.worker.child.pid)
                if not self._crew.order(slot, order):
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
        self.look()

    def look(self) -> None:
        """At every turn of the loop: has everybody answered who still lives?"""
        alive = {slot.worker.child.pid: slot for slot in self._crew.present() if slot.worker}
        for ref, pending in list(self._pending.items()):
            pending.waiting &= alive.keys()
            if pending.waiting and not pending.why and time.monotonic() <= pending.deadline:
                continue
            if pending.waiting and not pending.why:
                silent = sorted(alive[pid].index for pid in pending.waiting)
                pending.why = f"no answer within {ANSWER_S:g} s from worker {', '.join(map(str, silent))}"
            del self._pending[ref]
            pending.answer(_result(pending))


def _result(pending: _Pending) -> dict[str, Any]:
    log.get().info("kicked", user=pending.who, sessions=pending.sessions, why=pending.why)
    if pending.why:
        error = f"{pending.why}; {pending.sessions} sessions ended"
        return {"ok": False, "exit": Exit.TRY_AGAIN, "error": error, "sessions": pending.sessions}
    if not pending.known:
        return {"ok": False, "exit": UNKNOWN_USER, "error": f"{pending.who}: no such user"}
    return {"ok": True, "exit": Exit.OK, "sessions": pending.sessions}
