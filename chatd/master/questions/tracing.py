"""Tracing users, as an operator asks.

Owns: who is traced and until when; telling the workers, also those that start later.
Elsewhere: the records (core.tracing), finding them in the logs (chatctl.show.trace).
Fails: with one line; then nothing has changed.

Workers end a trace by themselves when its time is over. Those of other hosts are told once, by way of the bus: one that
starts later does not know.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import msgspec

from chatd.core.tracing import MAX_USERS
from chatd.errors import Exit
from chatd.master.questions.asking import WorkerQuestions
from chatd.master.replies import UNKNOWN_USER, ControlReply, Respond, TracedUser, TraceReply, failed
from chatd.master.requests import ListTracesRequest, TraceRequest
from chatd.master.workers import WorkerPool
from chatd.orders import FindUserOrder, OrderFailed, TraceOrder, UserFound


class TraceState(msgspec.Struct, frozen=True, kw_only=True):
    """A trace, as one program of the master hands it to the next. ends_at: time.monotonic()."""

    user_id: int
    name: str
    ends_at: float


@dataclass(slots=True, kw_only=True)
class _Trace:
    """ends_at: time.monotonic(). told: process ids of workers that know it. tell_others: the next worker that is told
    tells the other hosts."""

    user_id: int
    name: str
    ends_at: float
    told: set[int] = field(default_factory=set)
    tell_others: bool = True


class Traces:
    """The users that are traced. check() is called by the master's loop: it tells workers that have started since, and
    forgets traces whose time is over."""

    def __init__(self, pool: WorkerPool, questions: WorkerQuestions) -> None:
        self._pool = pool
        self._questions = questions
        self._traces: dict[int, _Trace] = {}
        """By user id."""

    def state(self) -> tuple[TraceState, ...]:
        """To be given to a later program."""
        return tuple(
            TraceState(user_id=one.user_id, name=one.name, ends_at=one.ends_at) for one in self._traces.values()
        )

    def resume(self, before: tuple[TraceState, ...]) -> None:
        """Take over from an earlier program; check() tells the workers."""
        for one in before:
            self._traces[one.user_id] = _Trace(user_id=one.user_id, name=one.name, ends_at=one.ends_at)

    def begin(self, request: TraceRequest, respond: Respond) -> None:
        """Begin, prolong or (for_s 0) end the trace of a user. Replies with a TraceReply, or with a failure."""

        def reply(answer: UserFound | OrderFailed) -> ControlReply:
            if isinstance(answer, OrderFailed):
                return failed(UNKNOWN_USER if answer.unknown else Exit.UNAVAILABLE, answer.why)
            return self._set(answer, request.for_s)

        self._questions.ask(lambda ref: FindUserOrder(ref=ref, user=request.user), reply, respond)

    def _set(self, user: UserFound, for_s: float) -> ControlReply:
        known = self._traces.pop(user.user_id, None)
        if for_s:
            if len(self._traces) >= MAX_USERS:
                return failed(Exit.TRY_AGAIN, f"{MAX_USERS} users are traced already, the limit; end one of them")
            ends_at = time.monotonic() + for_s
            self._traces[user.user_id] = _Trace(user_id=user.user_id, name=user.name, ends_at=ends_at)
            self.check()
        elif known is not None:
            self._tell_end(known)
        return TraceReply(traced=self._listed())

    def show(self, _request: ListTracesRequest, respond: Respond) -> None:
        respond(TraceReply(traced=self._listed()))

    def _listed(self) -> list[TracedUser]:
        now = time.monotonic()
        return [
            TracedUser(user_id=one.user_id, name=one.name, remaining_s=round(one.ends_at - now, 1))
            for one in self._traces.values()
        ]

    def check(self) -> None:
        """Once per turn of the loop: forget what is over, and tell workers that have become ready."""
        if not self._traces:
            return
        now = time.monotonic()
        for user_id in [one.user_id for one in self._traces.values() if now >= one.ends_at]:
            del self._traces[user_id]
        for slot in self._pool.ready():
            for one in self._traces.values():
                if slot.worker is not None and slot.worker.child.pid not in one.told:
                    order = TraceOrder(user_id=one.user_id, for_s=one.ends_at - now, tell_others=one.tell_others)
                    if self._pool.order(slot, order):
                        one.told.add(slot.worker.child.pid)
                        one.tell_others = False

    def _tell_end(self, trace: _Trace) -> None:
        for index, slot in enumerate(self._pool.ready()):
            self._pool.order(slot, TraceOrder(user_id=trace.user_id, for_s=0.0, tell_others=index == 0))
