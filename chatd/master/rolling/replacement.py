"""Replacing one worker: the new one accepts before the old one leaves.

Owns: forking a successor into a free slot, telling the old worker to hand over to it once it is ready, and what happens
when one of the two ends before that.
Elsewhere: replacing all workers one after the other (master.rolling.restart); noticing that workers are ready or have
died (master.workers); what an old worker hands over, and how (worker).
Fails: begin() with one line; the old worker then serves as if nothing had happened. The same holds when the successor
ends before it is ready. If the old worker ends first, the successor simply takes its place.

A worker and its successor count as one place. They share the place's UDP sockets, so no client address reaches another
worker; the successor reads them only when the old worker has stopped to.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from chatd import log
from chatd.errors import ChatdError
from chatd.master.worker_slot import NONE, Slot, WorkerProcess
from chatd.orders import HandOverOrder

if TYPE_CHECKING:
    from chatd.master.workers import WorkerPool


class CannotReplace(ChatdError):
    """No successor was forked. The text says why."""


class Replacements:
    """All replacements under way. Called by the pool, except begin()."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self.why_not = ""
        """Why the last successor that ended before it was ready could not start, as far as known."""

    def begin(self, slot: Slot) -> Slot:
        """Fork a successor of the slot's worker. Returns its slot. Raises: CannotReplace."""
        worker = slot.worker
        if self._pool.stopping or self._pool.suspended:
            raise CannotReplace("the server drains")
        if worker is None or not worker.ready_at or worker.leaving or worker.successor != NONE:
            raise CannotReplace(f"worker {slot.index} is not ready")
        free = next((one for one in self._pool.slots if one.worker is None and not one.fork_at), None)
        if free is None:
            raise CannotReplace(f"all {len(self._pool.slots)} slots have a worker")
        udp_sockets = self._pool.shared.udp_sockets
        udp_sockets.share(free.index, slot.index)
        try:
            self._pool.fork(free, time.monotonic(), replaces=slot.index)
        except OSError as error:
            udp_sockets.release(free.index)
            raise CannotReplace(f"cannot fork a worker: {error.strerror}") from None
        worker.successor = free.index
        log.get().info("worker is being replaced", slot=slot.index, worker_pid=worker.child.pid, successor=free.index)
        return free

    def ready(self, slot: Slot) -> None:
        """The slot's worker accepts. If it is a successor, the old worker hands over to it and leaves."""
        worker = slot.worker
        if worker is None or worker.replaces == NONE:
            return
        before = self._take_place(slot, worker)
        old = before.worker
        if old is not None:
            old.successor = NONE
            before.restarts = before.failures = 0
            self._tell(before, old, slot.index, worker.child.hand_over)
        _close(worker.child.hand_over)

    def _tell(self, before: Slot, old: WorkerProcess, successor: int, pair: socket.socket | None) -> None:
        pool = self._pool
        order = HandOverOrder(successor=successor, within_s=pool.config.timeouts.drain_s)
        if pair is not None and pool.order(before, order, pair.fileno()):
            pool.expect_end(old)
        else:
            pool.drain(old)

    def ended(self, slot: Slot, worker: WorkerProcess) -> bool:
        """The slot's worker has ended. True: nothing is to be forked in its place, because it was a successor that had
        none, or has one that takes its place now."""
        pool = self._pool
        if worker.replaces != NONE:
            old = pool.slots[worker.replaces].worker
            if old is not None:
                old.successor = NONE
            self.why_not = worker.why
            self._give_up(slot)
            return True
        if worker.successor != NONE:
            successor = pool.slots[worker.successor]
            if successor.worker is not None:
                self._take_place(successor, successor.worker)
                _close(successor.worker.child.hand_over)
            self._give_up(slot)
            return True
        return False

    def cancel(self, slot: Slot) -> None:
        """The slot's worker is about to leave for another reason: its successor leaves as well."""
        worker = slot.worker
        if worker is None or worker.successor == NONE:
            return
        successor = self._pool.slots[worker.successor]
        worker.successor = NONE
        if successor.worker is not None:
            successor.worker.replaces = NONE
            self._pool.drain(successor.worker)

    def _take_place(self, slot: Slot, worker: WorkerProcess) -> Slot:
        """From now on the slot's worker is the place's. Returns the slot of the worker before it."""
        before = self._pool.slots[worker.replaces]
        worker.replaces = NONE
        slot.restarts, slot.failures = before.restarts, before.failures
        return before

    def _give_up(self, slot: Slot) -> None:
        """The slot is free."""
        self._pool.shared.udp_sockets.release(slot.index)
        slot.row.clear()
        slot.restarts = slot.failures = 0


def _close(pair: socket.socket | None) -> None:
    """Whoever has the other end sees that nobody hands over to it, or that the old worker has ended."""
    if pair is not None:
        pair.close()
