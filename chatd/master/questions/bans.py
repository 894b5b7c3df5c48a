"""Applying address bans, after chatctl has changed them in the store.

Owns: the order to one worker, which tells all others, and the reply.
Elsewhere: asking a worker (master.questions.asking), applying them (core.bans), writing them to the store
(chatctl.bans).
Fails: with one line; then the workers find the change by themselves, within seconds.
"""

from __future__ import annotations

from chatd.errors import Exit
from chatd.master.questions.asking import WorkerQuestions
from chatd.master.replies import ApplyBansReply, ControlReply, Respond, failed
from chatd.master.requests import ApplyBansRequest
from chatd.orders import ApplyBansOrder, BansApplied, OrderFailed


class BanRequests:
    """Takes the request of `chatctl ban` and `unban` to apply what they have written."""

    def __init__(self, questions: WorkerQuestions) -> None:
        self._questions = questions

    def apply(self, _request: ApplyBansRequest, respond: Respond) -> None:
        """Reply with an ApplyBansReply, or with a failure."""
        self._questions.ask(lambda ref: ApplyBansOrder(ref=ref), _reply, respond)


def _reply(answer: BansApplied | OrderFailed) -> ControlReply:
    if isinstance(answer, OrderFailed):
        return failed(Exit.UNAVAILABLE, answer.why)
    return ApplyBansReply(ended=answer.ended, unanswered=list(answer.unanswered), cut_off=answer.cut_off)
