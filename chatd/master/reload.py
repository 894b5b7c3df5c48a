"""Applying a changed configuration to a running server (OPS-10).

Owns: parse -> validate -> snapshot with a generation number -> every worker confirms; and the way back.
Not here: which options may change live (config_change), what a worker does with them (worker).
Fails: with one line, and everything is as before: workers that had confirmed are given the old snapshot again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from chatd import log
from chatd.config import load as config_load
from chatd.config.diff import Change, applicable, changes
from chatd.config.load import Loaded
from chatd.config.render import mask
from chatd.config.schema import Config
from chatd.errors import ConfigError, Exit
from chatd.master.workers import Slot, WorkerPool

ANSWER_S = 5.0

Answer = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class _Pending:
    config: Config
    on_file: Config
    generation: int
    deadline: float
    answers: list[Answer]
    waiting: set[int] = field(default_factory=set)  # pids


class Reload:
    """count and failed: attempts since the start. last_error: of the last attempt, "" if it went well."""

    def __init__(self, loaded: Loaded, pool: WorkerPool, after: Callable[[], None]) -> None:
        self._file = loaded.file
        self.name = loaded.name
        self._pool = pool
        self._after = after
        self._pending: _Pending | None = None
        self._queued: list[Answer] | None = None
        self._generation = 1
        self.on_file = loaded.config
        self.count = 0
        self.failed = 0
        self.last_error = ""

    def begin(self, answer: Answer) -> None:
        """Start one. answer gets {"ok", "exit", "error"} or what was applied, within ANSWER_S."""
        if self._pending is not None:
            self._queued = [*(self._queued or []), answer]
            return
        self._begin([answer])

    def _begin(self, answers: list[Answer]) -> None:
        self.count += 1
        try:
            loaded = config_load.load(self._file) if self._file else _built_in()
            config_load.check_host(loaded.config, loaded.name)
        except ConfigError as error:
            self._refuse(str(error), answers)
            return
        self._generation += 1
        pending = _Pending(
            config=applicable(self._pool.config, loaded.config),
            on_file=loaded.config,
            generation=self._generation,
            deadline=time.monotonic() + ANSWER_S,
            answers=answers,
        )
        self._pending = pending
        for slot in self._pool.ready():
            if slot.worker is None:
                continue
            pending.waiting.add(slot.worker.child.pid)
            if not self._send(slot, pending.generation, pending.config):
                self._undo(f"{self.name}: -: worker {slot.index} takes no orders")
                return
        self.look()

    def on_answer(self, slot: Slot, message: dict[str, Any]) -> None:
        pending, worker = self._pending, slot.worker
        if worker is None or pending is None:
            return
        if message.get("failed") == pending.generation:
            why = str(message.get("why", "no reason given"))
            self._undo(why if why.startswith(self.name) else f"{self.name}: -: worker {slot.index}: {why}")
        elif message.get("done") == pending.generation:
            worker.generation = pending.generation
            pending.waiting.discard(worker.child.pid)
            self.look()

    def look(self) -> None:
        """At every turn of the loop: has everybody answered who still lives?"""
        pending = self._pending
        if pending is None:
            return
        alive = {slot.worker.child.pid: slot for slot in self._pool.ready() if slot.worker}
        pending.waiting &= alive.keys()
        if not pending.waiting:
            self._apply(pending)
        elif time.monotonic() > pending.deadline:
            silent = sorted(alive[pid].index for pid in pending.waiting)
            self._undo(f"{self.name}: -: no answer within {ANSWER_S:g} s from worker {', '.join(map(str, silent))}")

    def _apply(self, pending: _Pending) -> None:
        pool = self._pool
        told = changes(pool.config, pending.config)
        restart = changes(pending.config, pending.on_file)
        self._pending = None
        pool.config, pool.generation, self.on_file = pending.config, pending.generation, pending.on_file
        self.last_error = ""
        for slot in pool.present():  # those that were starting meanwhile
            if slot.worker is not None and slot.worker.generation != pending.generation:
                self._send(slot, pending.generation, pending.config)
        log.set_level(pending.config.log.level)
        if any(change.key == "server.workers" for change in told):
            pool.scale(config_load.workers_of(pending.config))
        result = {
            "generation": pending.generation,
            "applied": [change.key for change in told if change.effect == "live"],
            "next_worker": [change.key for change in told if change.effect == "worker"],
            "needs_restart": [change.key for change in restart],
        }
        log.get().info("configuration applied", **result)
        self._tell(pending.answers, {"ok": True, "exit": Exit.OK, **result})

    def _undo(self, why: str) -> None:
        pending, self._pending = self._pending, None
        for slot in self._pool.present():
            self._send(slot, self._pool.generation, self._pool.config)
            if slot.worker is not None:
                slot.worker.generation = self._pool.generation
        self._refuse(why, pending.answers if pending else [])

    def _refuse(self, why: str, answers: list[Answer]) -> None:
        self.failed += 1
        self.last_error = why
        log.get().error("configuration refused, the old one stays", why=why)
        self._tell(answers, {"ok": False, "exit": Exit.CONFIG, "error": why})

    def _tell(self, answers: list[Answer], result: dict[str, Any]) -> None:
        self._after()
        for answer in answers:
            answer(result)
        queued, self._queued = self._queued, None
        if queued is not None:
            self._begin(queued)

    def _send(self, slot: Slot, generation: int, config: Config) -> bool:
        order = {"order": "reload", "generation": generation, "config": msgspec.to_builtins(config)}
        return self._pool.order(slot, order)

    # ------------------------------------------------------------ what chatctl config shows

    def difference(self) -> dict[str, Any]:
        """What the file says now and the server does not do yet, and what it waits for. Raises ConfigError."""
        loaded = config_load.load(self._file) if self._file else _built_in()
        pool = self._pool
        waits = {"live": "reload", "worker": "reload", "restart": "restart"}
        rows = [_row(change, waits[change.effect]) for change in changes(pool.config, loaded.config)]
        seen: set[str] = set()
        for slot in pool.present():
            for change in changes(slot.worker.born, pool.config) if slot.worker else ():
                if change.effect == "worker" and change.key not in seen:
                    seen.add(change.key)
                    rows.append(_row(change, "new workers"))
        return {"file": self.name, "generation": pool.generation, "pending": rows}


def _row(change: Change, waits_for: str) -> dict[str, Any]:
    return {"key": change.key, "running": mask(change.old), "file": mask(change.new), "waits_for": waits_for}


def _built_in() -> Loaded:
    """What `chatd` without a file was started with; the default file, should it exist by now."""
    return config_load.load(None)


def ignore(_result: dict[str, Any]) -> None:
    """The answer of a signal goes to the log alone."""
