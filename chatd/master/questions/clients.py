"""Listing clients, as an operator asks.

Owns: one page of the sessions of this host's workers, or of every host.
Elsewhere: a worker's own page (core.sessions.listing), fetching page after page (chatctl.show.clients).
Fails: with one line, if no worker can be asked. Workers that do not answer are named in the reply.
"""

from __future__ import annotations

from chatd.address_bans import network_named
from chatd.client_list import PAGE_ROWS, ClientPage, ClientQuery, merged
from chatd.errors import Exit
from chatd.master.questions.asking import Answers, WorkerQuestions
from chatd.master.replies import ClientsReply, Respond, failed
from chatd.master.requests import ClientsRequest
from chatd.master.workers import WorkerPool
from chatd.orders import ClientsDone, ClientsOrder

HOST_S = 3.0
"""How long to wait for the workers of this host: one that serves clients answers within milliseconds."""


class ClientLists:
    """Takes the requests of `chatctl clients`, one page each. It keeps nothing between two pages."""

    def __init__(self, pool: WorkerPool, questions: WorkerQuestions) -> None:
        self._pool = pool
        self._questions = questions

    def begin(self, request: ClientsRequest, respond: Respond) -> None:
        """Reply with a ClientsReply, or with a failure."""
        query = request.query
        try:
            network_named(query.network or "::")
        except ValueError:
            respond(failed(Exit.USAGE, f"{query.network}: neither an address nor a network"))
            return
        if not 0 < query.limit <= PAGE_ROWS:
            respond(failed(Exit.USAGE, f"a page has 1 to {PAGE_ROWS} rows"))
        elif not self._pool.ready():
            respond(failed(Exit.TRY_AGAIN, "no worker is ready"))
        elif request.everywhere:
            self._questions.ask(lambda ref: ClientsOrder(ref=ref, query=query, everywhere=True), _of_all, respond)
        else:
            self._questions.ask_every(
                lambda ref: ClientsOrder(ref=ref, query=query), lambda found: respond(_of_host(found, query)), HOST_S
            )


def _of_all(answer: ClientsDone) -> ClientsReply:
    missing = () if answer.complete else ("some workers or hosts",)
    return _reply(answer.page, missing)


def _of_host(found: Answers, query: ClientQuery) -> ClientsReply:
    page = merged([answer.page for answer in found.answers], query)
    return _reply(page, tuple(f"worker {slot}" for slot in found.silent))


def _reply(page: ClientPage, unanswered: tuple[str, ...]) -> ClientsReply:
    return ClientsReply(clients=page.rows, matching=page.matching, sessions=page.sessions, unanswered=unanswered)
