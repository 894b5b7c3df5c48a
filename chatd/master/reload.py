"""Applying a changed configuration to a running server.

Owns: reading and checking the file, the snapshot with a generation number that every worker must confirm, going back to
the old snapshot if one does not, and comparing the file with the configuration in force.
Elsewhere: which options may change when (config.diff), what a worker does with them (worker).
Fails: with one line, logged and counted; everything is then as before, for workers that had confirmed as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from chatd import host_check, log
from chatd.config import load as config_load
from chatd.config.diff import OptionChange, applicable, changes
from chatd.config.load import Loaded, Secret
from chatd.config.render import mask_option
from chatd.config.schema import Config
from chatd.errors import ConfigError, Exit
from chatd.master.certificates import CertificateKeeper, CertificatesOf, read_all
from chatd.master.metrics.endpoint import Listening, MetricsEndpoint
from chatd.master.replies import ConfigDiffReply, ControlReply, PendingChange, ReloadReply, Respond, failed
from chatd.master.worker_slot import Slot
from chatd.master.workers import WorkerPool
from chatd.orders import Answer, NotUnderstood, ReloadDone, ReloadOrder, ReloadRefused

ANSWER_S = 5.0
COMMANDS = {
    "reload": "chatctl reload",
    "new workers": "chatctl restart-workers",
    "restart": "a restart (systemctl restart chatd)",
}
"""What an operator runs to apply a change, by what the change waits for."""


@dataclass(slots=True, kw_only=True)
class _PendingReload:
    """A configuration that some workers have not confirmed yet."""

    config: Config
    """The configuration that workers are given: without the changes that need a restart."""
    on_file: Config
    certificates: CertificatesOf
    metrics: Listening
    generation: int
    deadline: float
    responds: list[Respond]
    """The requests to reply to."""
    waiting: set[int] = field(default_factory=set)
    """Process ids of workers that have not confirmed."""


class ReloadState(msgspec.Struct, frozen=True, kw_only=True):
    """Of an earlier program of this process. generation: the last number given to a snapshot. The rest as in
    Reload."""

    generation: int
    count: int
    failed: int
    last_error: str


class Reload:
    """take_answer() and check() are called by the master's loop. after: called when an attempt has ended, successfully
    or not."""

    def __init__(
        self,
        loaded: Loaded,
        pool: WorkerPool,
        certificates: CertificateKeeper,
        metrics: MetricsEndpoint,
        after: Callable[[], None],
    ) -> None:
        self._loaded = loaded
        self._certificates = certificates
        self._metrics = metrics
        self.name = loaded.name
        self._pool = pool
        self._after = after
        self._pending: _PendingReload | None = None
        self._queued: list[Respond] | None = None
        """Requests that came while a reload was under way; another reload follows for them."""
        self._generation = 1
        """The last number given to a snapshot, also to one that was refused."""
        self.count = 0
        """Attempts since the start."""
        self.failed = 0
        """Attempts that failed."""
        self.last_error = ""
        """The error of the last attempt; "" if it succeeded."""

    @property
    def under_way(self) -> bool:
        return self._pending is not None

    @property
    def secrets(self) -> Mapping[str, Secret]:
        """As last read."""
        return self._loaded.secrets

    def state(self) -> ReloadState:
        """For a later program."""
        return ReloadState(
            generation=self._generation, count=self.count, failed=self.failed, last_error=self.last_error
        )

    def resume(self, before: ReloadState) -> None:
        """Count on from where an earlier program was."""
        self._generation, self.count = before.generation, before.count
        self.failed, self.last_error = before.failed, before.last_error

    def begin(self, respond: Respond) -> None:
        """Start one. Replies with a ReloadReply, or with a failure, within ANSWER_S; after the one under way, if
        any."""
        if self._pending is not None:
            self._queued = [*(self._queued or []), respond]
            return
        self._begin([respond])

    def _begin(self, responds: list[Respond]) -> None:
        self.count += 1
        try:
            loaded = self._read()
            host_check.check(loaded.config, loaded.name)
            certificates = read_all(loaded.config, loaded.name)
            metrics = self._metrics.prepare(loaded.config.metrics, loaded.name)
        except ConfigError as error:
            self._refuse(str(error), responds)
            return
        self._generation += 1
        self._pending = pending = _PendingReload(
            config=applicable(self._pool.config, loaded.config),
            on_file=loaded.config,
            certificates=certificates,
            metrics=metrics,
            generation=self._generation,
            deadline=time.monotonic() + ANSWER_S,
            responds=responds,
        )
        for slot in self._pool.ready():
            if slot.worker is None:
                continue
            pending.waiting.add(slot.worker.child.pid)
            if not self._pool.order(slot, ReloadOrder(pending.generation, pending.config)):
                self._undo(pending, f"{self.name}: -: worker {slot.index} takes no orders")
                return
        self.check()

    def _read(self) -> Loaded:
        """Load the same file as at the start; without one, the default file, if it exists by now."""
        loaded = config_load.load(self._loaded.file, self._loaded.secrets)
        for key in loaded.kept_secrets:
            log.get().warning("a secret cannot be read again; the value read at the start stays", key=key)
        for line in loaded.deprecated:
            log.get().warning("deprecated option", file=loaded.name, what=line)
        return loaded

    def tell_adopted(self) -> None:
        """After an upgrade in place: workers of the earlier program apply what has changed in the file, too, in case
        they cannot be replaced soon."""
        for slot in self._pool.present():
            if slot.worker is not None and slot.worker.generation != self._pool.generation:
                self._pool.order(slot, ReloadOrder(self._pool.generation, self._pool.config))

    def take_answer(self, slot: Slot, answer: Answer) -> None:
        """Take an answer of any worker to any order; those that are not to a reload are ignored."""
        pending, worker = self._pending, slot.worker
        if worker is None or pending is None:
            return
        match answer:
            case ReloadRefused(generation=pending.generation):
                known = answer.why.startswith(self.name)
                self._undo(pending, answer.why if known else f"{self.name}: -: worker {slot.index}: {answer.why}")
            case NotUnderstood():  # it has older code, and is replaced by a worker with this configuration
                pending.waiting.discard(worker.child.pid)
                self.check()
            case ReloadDone(generation=pending.generation):
                worker.generation, worker.log_level = pending.generation, ""
                pending.waiting.discard(worker.child.pid)
                self.check()

    def check(self) -> None:
        """Once per turn of the loop: has every living worker confirmed, or is the time over?"""
        pending = self._pending
        if pending is None:
            return
        alive = {slot.worker.child.pid: slot for slot in self._pool.ready() if slot.worker}
        pending.waiting &= alive.keys()
        if not pending.waiting:
            self._apply(pending)
        elif time.monotonic() > pending.deadline:
            silent = ", ".join(map(str, sorted(alive[pid].index for pid in pending.waiting)))
            self._undo(pending, f"{self.name}: -: no answer within {ANSWER_S:g} s from worker {silent}")

    def _apply(self, pending: _PendingReload) -> None:
        pool = self._pool
        changed = changes(pool.config, pending.config)
        restart = changes(pending.config, pending.on_file)
        self._pending = None
        pool.config, pool.generation = pending.config, pending.generation
        self._certificates.install(pending.config, pending.certificates)
        self._certificates.tell(pool)
        self._metrics.install(pending.metrics)
        self.last_error = ""
        for slot in pool.present():  # workers that were starting meanwhile
            if slot.worker is not None and slot.worker.generation != pending.generation:
                pool.order(slot, ReloadOrder(pending.generation, pending.config))
        log.set_level(pending.config.log.level)
        if any(change.key == "server.workers" for change in changed):
            pool.scale(config_load.workers_of(pending.config))
        reply = ReloadReply(
            generation=pending.generation,
            applied=[change.key for change in changed if change.effect == "live"],
            next_worker=[change.key for change in changed if change.effect == "worker"],
            needs_restart=[change.key for change in restart],
        )
        log.get().info(
            "configuration applied",
            generation=reply.generation,
            applied=reply.applied,
            next_worker=reply.next_worker,
            needs_restart=reply.needs_restart,
        )
        self._finish(pending.responds, reply)

    def _undo(self, pending: _PendingReload, why: str) -> None:
        """Give every worker the old snapshot again."""
        self._pending = None
        self._metrics.abandon(pending.metrics)
        for slot in self._pool.present():
            self._pool.order(slot, ReloadOrder(self._pool.generation, self._pool.config))
            if slot.worker is not None:
                slot.worker.generation, slot.worker.log_level = self._pool.generation, ""
        self._refuse(why, pending.responds)

    def _refuse(self, why: str, responds: list[Respond]) -> None:
        self.failed += 1
        self.last_error = why
        log.get().error("configuration rejected, the previous one stays in force", why=why)
        self._finish(responds, failed(Exit.CONFIG, why))

    def _finish(self, responds: list[Respond], reply: ControlReply) -> None:
        self._after()
        for respond in responds:
            respond(reply)
        queued, self._queued = self._queued, None
        if queued is not None:
            self._begin(queued)

    def difference(self) -> ConfigDiffReply:
        """How the file differs from the configuration in force, and what each difference waits for. Raises
        ConfigError."""
        loaded = config_load.load(self._loaded.file, self._loaded.secrets)
        pool = self._pool
        waits = {"live": "reload", "worker": "reload", "restart": "restart"}
        pending = [_pending_change(change, waits[change.effect]) for change in changes(pool.config, loaded.config)]
        seen: set[str] = set()
        for slot in pool.present():
            for change in changes(slot.worker.born, pool.config) if slot.worker else ():
                if change.effect == "worker" and change.key not in seen:
                    seen.add(change.key)
                    pending.append(_pending_change(change, "new workers"))
        return ConfigDiffReply(file=self.name, generation=pool.generation, pending=pending)


def _pending_change(change: OptionChange, waits_for: str) -> PendingChange:
    old, new = mask_option(change.key, change.old), mask_option(change.key, change.new)
    command = COMMANDS[waits_for]
    if waits_for == "reload" and change.effect == "worker":
        command += f", then {COMMANDS['new workers']}"
    return PendingChange(change.key, old, new, waits_for, command)
