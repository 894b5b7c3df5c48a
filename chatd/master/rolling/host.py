"""Draining this host: its workers leave and new clients are refused, until it is told to serve again.

Owns: the states of a drain, and the requests that wait for them.
Elsewhere: the workers (master.workers), refusing new clients (master.rolling.listening), how a worker drains (worker).
Fails: drain() and undrain() with one line while the server starts or stops; undrain() if an address cannot be listened
on again: the others serve.

In a cluster the clients of this host log in at another one. Nothing else changes there: a host without workers has no
sessions, no leases and no subscriptions.
"""

from __future__ import annotations

import contextlib
import enum
import time

from chatd import log
from chatd.errors import Exit
from chatd.master.replies import ControlReply, Respond, failed
from chatd.master.rolling.listening import Listening
from chatd.master.workers import WorkerPool

AGAIN_S = 1.0
READY_S = 60.0
"""How long undrain() waits until every worker is ready."""
GENERATIONS = 2
"""Workers of at most this many drains may be leaving at once."""


class HostState(enum.Enum):
    """Where this host is between serving and not serving. Changes as _NEXT allows."""

    SERVING = enum.auto()
    DRAINING = enum.auto()
    """Workers are leaving, and new clients are refused."""
    DRAINED = enum.auto()
    """No worker is left; the master keeps the addresses. Until undrain()."""
    WAITING = enum.auto()
    """It is to serve again, but the workers of earlier drains have not left."""


_NEXT = {
    HostState.SERVING: {HostState.DRAINING},
    HostState.DRAINING: {HostState.DRAINED, HostState.WAITING},
    HostState.DRAINED: {HostState.SERVING},
    HostState.WAITING: {HostState.SERVING, HostState.DRAINING},
}


class HostDrain:
    """check() is called by the master's loop."""

    def __init__(self, pool: WorkerPool, listening: Listening) -> None:
        self._pool = pool
        self._listening = listening
        self.state = HostState.SERVING
        self._drains: list[Respond] = []
        """Requests to reply to when the last worker has left."""
        self._undrains: list[Respond] = []
        """Requests to reply to when every worker is ready."""
        self._ready_by = 0.0
        self._again_at = 0.0
        """When addresses that could not be listened on are tried again."""

    def drain(self, respond: Respond) -> None:
        """All workers drain, and new clients are refused. Replies when the last worker has left."""
        if not self._may(respond):
            return
        self._drains.append(respond)
        if self.state in (HostState.SERVING, HostState.WAITING):
            log.get().info("this host drains", workers=len(self._pool.present()))
            self._fail(self._undrains, "the host is drained again")
            self._become(HostState.DRAINING)
            self._listening.shut_streams()
            self._pool.suspend()
        self.check()

    def undrain(self, respond: Respond) -> None:
        """The host serves again. Replies when every worker is ready."""
        if not self._may(respond):
            return
        self._undrains.append(respond)
        self._ready_by = time.monotonic() + READY_S
        self._fail(self._drains, "the host is to serve again")
        if self.state is HostState.DRAINING:
            self._become(HostState.WAITING)
        elif self.state is HostState.DRAINED:
            self._serve()
        self.check()

    def check(self) -> None:
        """Once per turn of the loop: what has been reached?"""
        pool = self._pool
        if pool.stopping:
            self._fail(self._drains + self._undrains, "the server is stopping")
            self._drains, self._undrains = [], []
        elif self.state is HostState.DRAINING and not pool.present():
            self._become(HostState.DRAINED)
            self._listening.shut_datagrams()
            log.get().info("this host is drained")
            self._reply(self._drains)
        elif self.state is HostState.DRAINED:
            self._reply(self._drains)
        elif self.state is HostState.WAITING and pool.leaving_generations() < GENERATIONS:
            self._serve()
        elif self.state is HostState.SERVING:
            self._try_again()
            self._check_ready()

    def _try_again(self) -> None:
        if time.monotonic() > self._again_at:
            self._again_at = time.monotonic() + AGAIN_S
            with contextlib.suppress(OSError):  # logged
                self._listening.try_again()

    def _check_ready(self) -> None:
        pool = self._pool
        if not self._undrains:
            return
        if len(pool.ready()) >= pool.wanted:
            self._reply(self._undrains)
        elif time.monotonic() > self._ready_by:
            self._fail(self._undrains, f"{len(pool.ready())} of {pool.wanted} workers are ready after {READY_S:g} s")

    def _serve(self) -> None:
        self._become(HostState.SERVING)
        log.get().info("this host serves again", workers=self._pool.wanted)
        try:
            self._listening.open()
        except OSError as error:
            self._fail(self._undrains, f"cannot listen on {error.filename}: {error.strerror}")
        self._pool.resume()

    def _may(self, respond: Respond) -> bool:
        pool = self._pool
        if pool.stopping or not pool.started:
            respond(failed(Exit.TRY_AGAIN, f"the server is {'stopping' if pool.stopping else 'starting'}"))
            return False
        return True

    def _become(self, state: HostState) -> None:
        assert state in _NEXT[self.state], (self.state, state)
        self.state = state

    def _reply(self, waiting: list[Respond]) -> None:
        for respond in waiting:
            respond(ControlReply())
        waiting.clear()

    def _fail(self, waiting: list[Respond], why: str) -> None:
        for respond in waiting:
            respond(failed(Exit.TRY_AGAIN, why))
        waiting.clear()
