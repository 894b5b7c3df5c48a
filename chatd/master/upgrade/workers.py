"""The running workers, as one program of the master hands them to the next.

Owns: the struct with all that the master knows of a slot and its worker, and adopting it.
Elsewhere: supervising workers (master.workers), replacing the adopted ones (master.upgrade.upgrade).
Fails: OSError when a descriptor is not there. The caller ends then, and the workers drain.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import msgspec

from chatd.config.schema import Config
from chatd.master.spawn import Child
from chatd.master.worker_slot import Slot, WorkerProcess
from chatd.master.workers import WorkerPool


class WorkerState(msgspec.Struct, frozen=True, kw_only=True):
    """pid, pidfd, orders, stacks: as spawn.Child. The rest as WorkerProcess; times are monotonic seconds, which go on
    in the next program. A worker that replaces another, or is replaced, is not handed over: the upgrade waits."""

    pid: int
    pidfd: int
    orders: int
    stacks: int
    generation: int
    started: float
    ready_at: float
    kill_at: float
    leaving: bool
    hung: bool
    why: str
    version: str
    left_in: int = 0
    log_level: str = ""
    troubles: dict[str, str] = {}


class SlotState(msgspec.Struct, frozen=True, kw_only=True):
    """As workers.Slot."""

    index: int
    failures: int
    fork_at: float
    restarts: int
    worker: WorkerState | None
    why: str = ""


class PoolState(msgspec.Struct, frozen=True, kw_only=True):
    """slots: those that are not empty. generation: of the configuration in force. wanted: number of workers."""

    wanted: int
    generation: int
    slots: tuple[SlotState, ...]

    def descriptors(self) -> Iterator[int]:
        for worker in (slot.worker for slot in self.slots):
            if worker is not None:
                yield from (worker.pidfd, worker.orders, worker.stacks)


def capture(pool: WorkerPool) -> PoolState:
    """The pool as it is now."""
    return PoolState(
        wanted=pool.wanted,
        generation=pool.generation,
        slots=tuple(_slot(one) for one in pool.slots if one.worker is not None or one.fork_at or one.restarts),
    )


def _slot(slot: Slot) -> SlotState:
    return SlotState(
        index=slot.index,
        failures=slot.failures,
        fork_at=slot.fork_at,
        restarts=slot.restarts,
        why=slot.why,
        worker=None if slot.worker is None else _worker(slot.worker),
    )


def _worker(worker: WorkerProcess) -> WorkerState:
    return WorkerState(
        pid=worker.child.pid,
        pidfd=worker.child.pidfd,
        orders=worker.child.orders.fileno(),
        stacks=worker.child.stacks,
        generation=worker.generation,
        started=worker.started,
        ready_at=worker.ready_at,
        kill_at=worker.kill_at,
        leaving=worker.leaving,
        hung=worker.hung,
        why=worker.why,
        version=worker.version,
        left_in=worker.left_in,
        log_level=worker.log_level,
        troubles=worker.troubles,
    )


def resume(pool: WorkerPool, before: PoolState, born: Config) -> None:
    """Adopt the workers of an earlier program. born: the configuration that was in force there."""
    pool.wanted, pool.generation, pool.started = before.wanted, before.generation, True
    for one in before.slots:
        slot = pool.slots[one.index]
        slot.failures, slot.fork_at, slot.restarts, slot.why = one.failures, one.fork_at, one.restarts, one.why
        if one.worker is not None:
            pool.adopt(slot, _adopted(one.worker, born))


def _adopted(worker: WorkerState, born: Config) -> WorkerProcess:
    orders = socket.socket(fileno=worker.orders)
    orders.setblocking(False)
    return WorkerProcess(
        child=Child(pid=worker.pid, pidfd=worker.pidfd, orders=orders, stacks=worker.stacks),
        born=born,
        generation=worker.generation,
        started=worker.started,
        ready_at=worker.ready_at,
        kill_at=worker.kill_at,
        leaving=worker.leaving,
        hung=worker.hung,
        why=worker.why,
        version=worker.version,
        left_in=worker.left_in,
        log_level=worker.log_level,
        troubles=dict(worker.troubles),
        adopted=True,
    )
