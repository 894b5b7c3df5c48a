"""The rolling restart: all workers are replaced, one after the other.

Owns: which worker is next, one more attempt after a failure, when the restart is over, its progress and its result.
Elsewhere: one replacement (master.rolling.replacement); asking for it (master.requests, chatctl.rolling).
Fails: the restart ends at the first worker that cannot be replaced, because the others could not either. The workers
that were not replaced serve on; those that were stay.

Each new worker accepts before the old one leaves, and the next is begun when the old one has left: there are never
fewer workers than wanted, and the clients of one worker at most look for another at a time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from chatd import log
from chatd.errors import Exit
from chatd.master.replies import NotReplaced, ReplacedWorker, Respond, RestartReply, failed
from chatd.master.rolling.replacement import CannotReplace
from chatd.master.worker_slot import Slot, WorkerProcess
from chatd.master.workers import WorkerPool

TRIES = 2
"""Successors that may end before they are ready until the restart fails."""
RETRY_S = 1.0


@dataclass(slots=True)
class _Step:
    """The replacement of one worker. successor: its slot, None before it is forked. successor_pid: 0 = none runs."""

    slot: Slot
    pid: int
    successor: Slot | None = None
    successor_pid: int = 0
    accepts: bool = False
    """The successor is ready, and the old worker is leaving."""
    tries: int = 0
    again_at: float = 0.0
    began: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class _Run:
    """One restart under way. waiting: workers that are still to be replaced, as (slot, pid)."""

    total: int
    waiting: deque[tuple[Slot, int]]
    respond: Respond
    step: _Step | None = None
    replaced: list[ReplacedWorker] = field(default_factory=list)


class RollingRestart:
    """check() is called by the master's loop."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._run: _Run | None = None

    @property
    def progress(self) -> tuple[int, int] | None:
        """(workers replaced, workers to replace in all); None = no restart is under way."""
        run = self._run
        return None if run is None else (len(run.replaced), run.total)

    def begin(self, respond: Respond, which: Callable[[WorkerProcess], bool] = lambda worker: True) -> None:
        """Replace every worker that is chosen by `which`, and has its place now. Replies with a RestartReply when the
        last old one has left, or with a failure at once."""
        pool = self._pool
        if pool.stopping or pool.suspended or not pool.started:
            respond(failed(Exit.TRY_AGAIN, f"the server {'drains' if pool.started else 'is starting'}"))
            return
        if self._run is not None:
            done, total = len(self._run.replaced), self._run.total
            respond(failed(Exit.TRY_AGAIN, f"a rolling restart is under way, {done} of {total} workers are replaced"))
            return
        chosen = [(slot, slot.worker.child.pid) for slot in pool.ready() if slot.worker and which(slot.worker)]
        self._run = _Run(len(chosen), deque(chosen), respond)
        log.get().info("rolling restart begins", workers=len(chosen))
        self.check()

    def check(self) -> None:
        """Once per turn of the loop: go on as far as possible."""
        run = self._run
        if run is None:
            return
        if self._pool.stopping or self._pool.suspended:
            self._finish(run, "the server drains")
            return
        while self._run is run:
            if run.step is None:
                if not run.waiting:
                    self._finish(run, "")
                    return
                run.step = _Step(*run.waiting.popleft())
            if not self._advance(run, run.step):
                return

    def _advance(self, run: _Run, step: _Step) -> bool:
        """True: something has changed, and check() goes on."""
        if step.successor is None:
            return self._fork(run, step)
        if step.accepts:
            return self._wait_for_end(run, step, step.successor)
        successor = step.successor.worker
        if successor is not None and successor.child.pid == step.successor_pid:
            if not successor.ready_at:
                return False
            step.accepts = True
            return True
        return self._successor_ended(run, step)

    def _fork(self, run: _Run, step: _Step) -> bool:
        if not _runs(step.slot, step.pid):
            self._next(run)  # it died or left meanwhile; the worker after it was born with the configuration in force
            return True
        if time.monotonic() < step.again_at:
            return False
        try:
            step.successor = self._pool.replacements.begin(step.slot)
        except CannotReplace as error:
            self._finish(run, str(error))
            return True
        assert step.successor.worker is not None
        step.successor_pid = step.successor.worker.child.pid
        return True

    def _wait_for_end(self, run: _Run, step: _Step, successor: Slot) -> bool:
        if _runs(step.slot, step.pid):
            return False
        took_s = round(time.monotonic() - step.began, 3)
        run.replaced.append(
            ReplacedWorker(
                slot=step.slot.index, pid=step.pid, new_slot=successor.index, new_pid=step.successor_pid, took_s=took_s
            )
        )
        self._next(run)
        return True

    def _successor_ended(self, run: _Run, step: _Step) -> bool:
        """Before it was ready."""
        assert step.successor is not None
        if not _runs(step.slot, step.pid) or (step.slot.worker is not None and step.slot.worker.leaving):
            self._next(run)  # it leaves for another reason, and so did its successor
            return True
        why = self._pool.replacements.why_not or "it ended while starting"
        step.tries += 1
        log.get().error("a successor could not start", slot=step.slot.index, worker_pid=step.pid, why=why)
        if step.tries >= TRIES:
            self._finish(run, why)
            return True
        step.successor, step.again_at = None, time.monotonic() + RETRY_S
        return True

    def _next(self, run: _Run) -> None:
        run.step = None

    def _finish(self, run: _Run, why: str) -> None:
        """why: "" = all were replaced."""
        self._run, step = None, run.step
        left = [(step.slot, step.pid)] if step is not None else []
        missing = [NotReplaced(slot=slot.index, pid=pid) for slot, pid in (*left, *run.waiting)]
        reply = RestartReply(replaced=run.replaced, not_replaced=missing)
        if why:
            reply.ok, reply.exit = False, Exit.TRY_AGAIN
            where = f"worker {step.slot.index}: " if step is not None else ""
            reply.error = f"{where}{why}; {len(run.replaced)} of {run.total} workers are replaced"
        log.get().info("rolling restart ended", replaced=len(run.replaced), workers=run.total, why=why)
        run.respond(reply)


def _runs(slot: Slot, pid: int) -> bool:
    return slot.worker is not None and slot.worker.child.pid == pid
