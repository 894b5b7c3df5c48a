"""One place in the worker pool, and the process in it, as the master sees them.

Owns: Slot and WorkerProcess, plain data.
Elsewhere: who changes them and why (master.workers, master.rolling.replacement, master.reload).
Fails: never.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

from chatd import __version__
from chatd.config.schema import Config
from chatd.master import spawn
from chatd.scoreboard import Row, State

NONE = -1
"""Instead of a slot's number: there is no such slot."""


@dataclass(slots=True, kw_only=True)
class WorkerProcess:
    """A running worker, as the master sees it. Only the pool, a replacement and a reload change it."""

    child: spawn.Child
    born: Config
    """The configuration it was forked with."""
    generation: int
    """Generation of the configuration that it has confirmed since."""
    started: float
    ready_at: float = 0.0
    """When the master saw that it is ready; 0 = it is still starting."""
    kill_at: float = 0.0
    """When it is killed if it still runs; 0 = it stays."""
    leaving: bool = False
    """It was ordered to leave, and is not replaced when it ends."""
    left_in: int = 0
    """Number of the last drain of the whole pool when it was ordered to leave."""
    replaces: int = NONE
    """Slot whose worker this one is to replace. Until that worker has been told, the two count as one place."""
    successor: int = NONE
    """Slot in which the worker that is to replace this one starts."""
    hung: bool = False
    why: str = ""
    """Why it cannot start or was aborted, as far as known."""
    version: str = __version__
    """Of the code that it runs."""
    log_level: str = ""
    """The minimum level that it logs, as an operator set it for this worker; "" = that of the configuration."""
    troubles: dict[str, str] = field(default_factory=dict)
    """Why it cannot use the store, or the bus, by the name of the part; "" = it can."""
    adopted: bool = False
    """An earlier program of the master forked it, so it runs the code from before the upgrade."""

    @property
    def has_place(self) -> bool:
        """It is to stay. A successor has no place of its own until the worker before it leaves."""
        return not self.leaving and self.replaces == NONE


@dataclass(slots=True)
class Slot:
    """A row of the scoreboard and the worker that it belongs to. After a death the next worker gets the same slot; a
    successor starts in a slot of its own, because both run for a while."""

    index: int
    row: Row
    worker: WorkerProcess | None = None
    failures: int = 0
    """Deaths in a row, which decide the back-off."""
    fork_at: float = 0.0
    """When a worker is due; 0 = none is."""
    restarts: int = 0
    why: str = ""
    """Why its last worker has died; "" = none has, or one is ready again."""

    @property
    def state(self) -> str:
        """Of its worker, for people: booting, ready, draining, hung or degraded (a replacement is due)."""
        if self.worker is None:
            return "degraded"
        if self.worker.hung:
            return "hung"
        if self.worker.leaving:
            return "draining"
        return State(self.row.state).name.lower()


def describe_end(code: int) -> str:
    """How a process has ended. code: its exit code; negative = ended by that signal."""
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
