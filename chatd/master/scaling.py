"""How many workers there are to be, as signals and operators say.

Owns: the limits, and the replies.
Elsewhere: starting and ending workers (master.workers).
Fails: with one line; then the number is as it was.
"""

from __future__ import annotations

import os

from chatd import log
from chatd.errors import Exit
from chatd.master.replies import Respond, ScaleReply, failed
from chatd.master.requests import ScaleRequest
from chatd.master.workers import WorkerPool
from chatd.scoreboard import MAX_WORKERS

WORKERS_PER_CORE = 8
"""Maximum workers per core, except with `chatctl scale --force` or by server.workers."""


class Scaling:
    """Changes the number of wanted workers, by signals (which the limit cuts) or by request (which it refuses)."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    def by_signals(self, step: int) -> None:
        """step: how many more, or (negative) fewer."""
        wanted, limit = self._pool.wanted + step, self._limit()
        if wanted > limit:
            log.get().warning("no more workers are started by signals", wanted=wanted, limit=limit)
        self._scale(min(wanted, limit))

    def by_request(self, request: ScaleRequest, respond: Respond) -> None:
        """Reply with a ScaleReply, or with a failure. The workers are not ready yet then."""
        wanted, limit = request.workers or max(1, self._pool.wanted + request.step), self._limit()
        if self._pool.stopping:
            respond(failed(Exit.TRY_AGAIN, "the server is stopping"))
        elif self._pool.suspended:
            respond(failed(Exit.TRY_AGAIN, "the host is drained; run: chatctl undrain"))
        elif bool(request.workers) is bool(request.step):
            respond(failed(Exit.USAGE, "scale needs a number of workers, or how many more or fewer"))
        elif wanted > MAX_WORKERS:
            respond(failed(Exit.USAGE, f"that would be {wanted} workers, the limit is {MAX_WORKERS}"))
        elif wanted > limit and not request.force:
            why = f"the limit is {limit} ({WORKERS_PER_CORE} per core) without --force"
            respond(failed(Exit.USAGE, f"that would be {wanted} workers, {why}"))
        else:
            self._scale(wanted)
            respond(ScaleReply(workers=self._pool.wanted))

    def _limit(self) -> int:
        """Maximum workers without force; server.workers itself is always allowed."""
        cores = len(os.sched_getaffinity(0))
        return min(MAX_WORKERS, max(WORKERS_PER_CORE * cores, self._pool.wanted))

    def _scale(self, wanted: int) -> None:
        if not self._pool.stopping:
            self._pool.scale(wanted)
            log.get().info("number of workers changed", workers=self._pool.wanted)
