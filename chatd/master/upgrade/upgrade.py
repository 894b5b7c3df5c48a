"""The upgrade, from the order to the answer.

Owns: its phases, who waits for the answer, when the program may be changed, what the operator is told.
Elsewhere: asking the installed code (master.upgrade.preflight), changing the program (master.upgrade.execute), taking
over (master.upgrade.resume), replacing workers (master.rolling.restart).
Fails: with an exit code and a text, logged. Until the program has changed, everything is then as before. Afterwards the
workers of the earlier version that could not be replaced serve on, the state is degraded, and the upgrade can be tried
again.
"""

from __future__ import annotations

import enum
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chatd import __version__, log
from chatd.errors import Exit
from chatd.master.replies import ControlReply, Respond, RestartReply, UpgradeReply, failed
from chatd.master.requests import UpgradeRequest
from chatd.master.rolling.replacement import CannotReplace
from chatd.master.rolling.restart import RollingRestart
from chatd.master.upgrade.capture import Parts, capture
from chatd.master.upgrade.execute import block_signals, execute, restore_signals
from chatd.master.upgrade.preflight import Preflight, Refusal
from chatd.master.upgrade.program import Program
from chatd.master.upgrade.state import MasterState, UpgradeOrder
from chatd.master.worker_slot import NONE, Slot, WorkerProcess
from chatd.orders import Answer, NotUnderstood

PREFLIGHT_S = 60.0
"""Time for the installed code to load and look at everything; timeouts.boot_s, if that is longer."""
WAIT_S = 10.0
"""Time for orders that are under way to end before the program changes. Most end sooner. An undrain can take longer
(master.rolling.host.READY_S), and so can a broadcast (master.questions.broadcast.LIMIT_S): then the upgrade is refused,
and names what is under way."""


class Phase(enum.Enum):
    """IDLE: no upgrade is under way. CHECKING: the installed code is asked. WAITING: for orders under way to end.
    CHANGING: one program ends, the next begins. REPLACING: in the new program; old workers are being replaced."""

    IDLE = "idle"
    CHECKING = "checking"
    WAITING = "waiting"
    CHANGING = "changing"
    REPLACING = "replacing"


NEXT: Mapping[Phase, frozenset[Phase]] = {
    Phase.IDLE: frozenset({Phase.CHECKING}),
    Phase.CHECKING: frozenset({Phase.WAITING, Phase.IDLE}),
    Phase.WAITING: frozenset({Phase.CHANGING, Phase.IDLE}),
    Phase.CHANGING: frozenset({Phase.REPLACING, Phase.IDLE}),
    Phase.REPLACING: frozenset({Phase.IDLE}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeTools:
    """What an upgrade uses of the master. settled: called when it has ended, or the program could not be changed."""

    parts: Parts
    restart: RollingRestart
    settled: Callable[[], None]


class Upgrade:
    """check() is called by the master's loop. before: the state of the earlier program, if this is a new one."""

    def __init__(self, tools: UpgradeTools, program: Program, before: MasterState | None = None) -> None:
        self._tools, self._program = tools, program
        self._pool = tools.parts.pool
        self.phase = Phase.IDLE if before is None else Phase.CHANGING
        self._responds: list[Respond] = []
        """Who waits for the answer."""
        self._preflight: Preflight | None = None
        self._deadline = 0.0
        """Of the wait for other orders."""
        self._order = UpgradeOrder(began=time.monotonic(), version=__version__) if before is None else before.order
        self._replaced = 0
        self.failure = ""
        """Why the last upgrade failed; "" = it succeeded, or there was none."""

    # ------------------------------------------------------------ the order

    def begin(self, respond: Respond) -> None:
        """Start one. Replies with an UpgradeReply, perhaps from another program, or with a failure."""
        pool = self._pool
        if pool.stopping or not pool.started:
            respond(failed(Exit.TRY_AGAIN, f"the server is {'stopping' if pool.stopping else 'starting'}"))
        elif pool.suspended:
            respond(failed(Exit.TRY_AGAIN, "the host is drained; run chatctl undrain first, or restart the server"))
        elif self._tools.restart.progress is not None and self.phase is Phase.IDLE:
            respond(failed(Exit.TRY_AGAIN, "the workers are being restarted; try again when that has ended"))
        else:
            self._responds.append(respond)
            if self.phase is Phase.IDLE:
                self._begin()

    def _begin(self) -> None:
        self._order = UpgradeOrder(began=time.monotonic(), version=__version__)
        log.get().info("upgrade begins", version=__version__)
        self._enter(Phase.CHECKING)
        limit_s = max(PREFLIGHT_S, self._pool.config.timeouts.boot_s)
        try:
            state = capture(self._tools.parts, self._program, self._order)
            self._preflight = Preflight(self._program, state, limit_s, self._tools.parts.watcher, self._checked)
        except OSError as error:
            self._fail(Exit.OS, f"cannot start {self._program.executable}: {error.strerror}")

    def _checked(self, refusal: Refusal | None) -> None:
        self._preflight = None
        if refusal is not None:
            self._fail(refusal.code, refusal.text)
        else:
            self._deadline = time.monotonic() + WAIT_S
            self._enter(Phase.WAITING)

    def child_ended(self, pid: int, status: int) -> None:
        """A child that is no worker has ended."""
        if self._preflight is not None:
            self._preflight.ended(pid, status)

    def check(self, now: float) -> None:
        """Once per turn of the loop: go on as far as possible. Does not return if the program changes."""
        match self.phase:
            case Phase.CHECKING | Phase.REPLACING if self._pool.stopping:
                self._stop_waiting()
            case Phase.CHECKING if self._preflight is not None:
                self._preflight.check(now)
            case Phase.WAITING:
                self._change_if_quiet(now)
            case Phase.REPLACING if self._tools.restart.progress is None:
                self._replace()

    def _stop_waiting(self) -> None:
        if self._preflight is not None:
            self._preflight.abandon()
            self._preflight = None
        self._fail(Exit.TRY_AGAIN, "the server is stopping")

    def next_deadline(self) -> float:
        """When check() is due, apart from events; infinity = never."""
        if self._preflight is not None:
            return self._preflight.deadline
        return self._deadline if self.phase is Phase.WAITING else float("inf")

    # ------------------------------------------------------------ changing the program

    def _change_if_quiet(self, now: float) -> None:
        if self._pool.stopping or self._pool.suspended:
            self._fail(Exit.TRY_AGAIN, "the server is stopping, or the host drains")
        elif not (left := self._under_way()):
            self._change()
        elif now >= self._deadline:
            self._fail(Exit.TRY_AGAIN, f"still under way after {WAIT_S:g} s: {', '.join(left)}; try again")

    def _under_way(self) -> list[str]:
        """What must end before the program changes: its result is known to this program only."""
        parts = self._tools.parts
        found = parts.control.under_way(UpgradeRequest)
        if parts.reload.under_way and "reload" not in found:  # by a signal
            found.append("reload")
        if self._is_replacing():
            found.append("a worker is being replaced")
        return found

    def _is_replacing(self) -> bool:
        workers = (slot.worker for slot in self._pool.present())
        return any(one is not None and (one.replaces != NONE or one.successor != NONE) for one in workers)

    def _change(self) -> None:
        """From here on another program is this process, unless the kernel refuses."""
        parts = self._tools.parts
        self._enter(Phase.CHANGING)
        log.get().info("changing the program", version=__version__, arguments=list(self._program.arguments))
        parts.prepared.systemd.reloading()
        blocked = block_signals()
        caught = parts.watcher.signals()
        try:
            state = capture(parts, self._program, self._order, caught)
            execute(self._program, state)
        except OSError as error:
            why = f"cannot change the program to {self._program.executable}: {error.strerror}"
        restore_signals(blocked)
        raise_again(tuple((int(number), times) for number, times in caught))
        self._fail(Exit.OS, why)
        self._tools.settled()

    # ------------------------------------------------------------ in the new program

    def resume(self, responds: list[Respond]) -> None:
        """Go on with the upgrade that has led to this program. responds: who still waits."""
        self._responds = responds
        log.get().info("the program has changed", version=__version__, before=self._order.version)
        self._enter(Phase.REPLACING)

    def _replace(self) -> None:
        """Replace the workers of the earlier program that are ready. Those that are starting are replaced when they
        are ready; those that are leaving need not be."""
        left = self.old_workers()
        if not left:
            self._succeed()
        elif any(one.ready_at for one in left):
            self._tools.restart.begin(self._restarted, lambda worker: worker.adopted)

    def old_workers(self) -> list[WorkerProcess]:
        """Workers with the code of an earlier program that are to stay until they are replaced."""
        workers = (slot.worker for slot in self._pool.present())
        return [one for one in workers if one is not None and one.adopted and not one.leaving]

    def left_old_workers(self) -> bool:
        """An upgrade has failed after the program had changed."""
        return self.phase is Phase.IDLE and bool(self.old_workers())

    def take_answer(self, slot: Slot, answer: Answer) -> None:
        """Of any worker to any order. A worker that does not know an order because its code is older is replaced, or,
        while that is not possible, serves on without having done it."""
        if not isinstance(answer, NotUnderstood) or slot.worker is None or not slot.worker.adopted:
            return
        if self._tools.restart.progress is not None:
            return  # it will be its turn
        log.get().warning("a worker does not know an order, it is replaced", slot=slot.index, why=answer.why)
        try:
            self._pool.replacements.begin(slot)
        except CannotReplace as error:
            log.get().error("a worker that does not know an order cannot be replaced", slot=slot.index, why=str(error))

    def _restarted(self, reply: ControlReply) -> None:
        if self.phase is not Phase.REPLACING:  # the server is stopping
            return
        self._replaced += len(reply.replaced) if isinstance(reply, RestartReply) else 0
        if not reply.ok:
            left = len(self.old_workers())
            self._fail(reply.exit, f"{reply.error}; {left} workers of version {self._order.version} serve on")
            self._tools.settled()

    # ------------------------------------------------------------ the end

    def _succeed(self) -> None:
        self.failure = ""
        took_s = round(time.monotonic() - self._order.began, 3)
        log.get().info("upgraded", version=__version__, before=self._order.version, took_s=took_s)
        self._enter(Phase.IDLE)
        self._answer(
            UpgradeReply(before=self._order.version, version=__version__, workers=self._replaced, took_s=took_s)
        )
        self._tools.settled()

    def _fail(self, code: int, why: str) -> None:
        self.failure = why
        log.get().error("the upgrade failed", why=why, exit=code, phase=self.phase.value)
        self._enter(Phase.IDLE)
        self._answer(failed(code, why))

    def _answer(self, reply: ControlReply) -> None:
        responds, self._responds = self._responds, []
        for respond in responds:
            respond(reply)

    def _enter(self, phase: Phase) -> None:
        assert phase in NEXT[self.phase], f"{self.phase} -> {phase}"
        self.phase = phase
        reached(phase)


def reached(phase: Phase) -> None:
    """Each phase passes here, so that it can be watched."""
    log.get().debug("upgrade", phase=phase.value)


def raise_again(caught: tuple[tuple[int, int], ...]) -> None:
    """Signals that were caught, and not acted on before the program was to change."""
    for number, times in caught:
        for _ in range(times):
            signal.raise_signal(number)
