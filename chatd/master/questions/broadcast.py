"""Telling all connected users something, as an operator asks.

Owns: which texts are told, how often, the order to one worker, and the reply.
Elsewhere: asking a worker (master.questions.asking), telling the sessions of all workers (core.sessions.broadcast).
Fails: with one line. If the worker that was asked dies meanwhile, some sessions were told and others not.
"""

from __future__ import annotations

import time
from collections import deque

from chatd import wall_clock
from chatd.errors import Exit, Refused
from chatd.master.questions.asking import WorkerQuestions
from chatd.master.replies import CUT_OFF, UNKNOWN_USER, BroadcastReply, ControlReply, Respond, failed
from chatd.master.requests import BROADCAST_S, BroadcastRequest
from chatd.orders import BroadcastDone, BroadcastOrder, OrderFailed
from chatd.texts import fields

TEXT_CHARS = 500
"""Longest text. It fits into a WebSocket or TCP frame whole; where a wire's packets are shorter, its end is cut."""
WINDOW_S = 60.0
MOST = 6
"""Maximum texts within WINDOW_S, so that a script gone wrong does not flood every client."""


class BroadcastRequests:
    """Takes the requests of `chatctl broadcast`: at most MOST within WINDOW_S."""

    def __init__(self, questions: WorkerQuestions) -> None:
        self._questions = questions
        self._begun: deque[float] = deque(maxlen=MOST)
        """When the last ones were given, by the monotonic clock."""

    def begin(self, request: BroadcastRequest, respond: Respond) -> None:
        """Reply with a BroadcastReply, or with a failure."""
        try:
            text = fields.paragraphs("the text", request.text, TEXT_CHARS)
        except Refused as refused:
            respond(failed(Exit.USAGE, refused.text))
            return
        now = time.monotonic()
        if not text.strip():
            respond(failed(Exit.USAGE, "the text is empty"))
        elif len(self._begun) == MOST and now - self._begun[0] < WINDOW_S:
            wait_s = WINDOW_S - (now - self._begun[0])
            respond(failed(Exit.TRY_AGAIN, f"{MOST} texts within {WINDOW_S:g} s are the limit: wait {wait_s:.0f} s"))
        else:
            self._begun.append(now)
            at_ms = wall_clock.now_ms()

            def order(ref: int) -> BroadcastOrder:
                return BroadcastOrder(
                    ref=ref, text=text, at_ms=at_ms, wire=request.wire, user=request.user, group_id=request.group_id
                )

            self._questions.ask(order, _reply, respond, BROADCAST_S)


def _reply(answer: BroadcastDone | OrderFailed) -> ControlReply:
    if isinstance(answer, OrderFailed):
        return failed(UNKNOWN_USER if answer.unknown else Exit.UNAVAILABLE, answer.why)
    reply = BroadcastReply(told=answer.told, skipped=answer.skipped, unanswered=list(answer.unanswered))
    if answer.unanswered or answer.cut_off:
        what = f"no answer from {', '.join(answer.unanswered)}" if answer.unanswered else ""
        why = " and ".join(filter(None, (what, CUT_OFF if answer.cut_off else "")))
        reply.ok, reply.exit, reply.error = False, Exit.TRY_AGAIN, f"{why}; {answer.told} sessions were told"
    return reply
