"""Whether the server is well and, if not, why, as it is told: states, reasons and their names.

Owns: the shape of the judgement that `chatctl status` and `check` show, and that systemd is told.
Elsewhere: judging (master.observing.health_monitor), showing the reasons (chatctl.render), telling systemd
(master.announcer).
Fails: never.

chatctl loads this at every start: it imports nothing of the running master.
"""

from __future__ import annotations

import enum

import msgspec


class Code(enum.StrEnum):
    """Names of reasons, for programs. A name is never changed and never given another meaning; docs/runbook.md has
    each."""

    WORKERS = "workers"
    HUNG = "hung"
    STORE = "store"
    STORE_SLOW = "store-slow"
    BUS = "bus"
    FORGED = "forged"
    FULL = "full"
    QUEUE_FULL = "queue-full"
    LOG_DROPPED = "log-dropped"
    PENALTIES_FULL = "penalties-full"
    PLUG_INS = "plug-ins"
    RETENTION = "retention"
    RETENTION_CLOCK = "retention-clock"
    WEBHOOK_BEHIND = "webhook-behind"
    WEBHOOK_DISABLED = "webhook-disabled"
    BRIDGE = "bridge"
    BRIDGE_BEHIND = "bridge-behind"
    CERTIFICATE = "certificate"
    CERTIFICATE_EXPIRING = "certificate-expiring"
    CERTIFICATE_EXPIRED = "certificate-expired"
    DISK = "disk"
    RELOAD = "reload"
    UPGRADE = "upgrade"
    UPGRADE_FAILED = "upgrade-failed"
    UPGRADE_PENDING = "upgrade-pending"


class State(enum.Enum):
    """Of the server as a whole."""

    STARTING = "starting"
    RUNNING = "running"
    DEGRADED = "degraded"
    """It serves, and something is wrong."""
    DRAINING = "draining"
    """It was told to let its clients go; some are left."""
    DRAINED = "drained"
    STOPPING = "stopping"


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong. code: one of Code; a newer server has others. text: for people, one line. critical:
    clients cannot be served. advisory: the server serves as it should, but somebody should act."""

    code: str
    text: str
    critical: bool = False
    advisory: bool = False


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """reasons: the worst first; there are some whenever the state is DEGRADED, and there may be some in any other
    state, while it is RUNNING only advisory ones. serving: workers that are ready, whose event loop turns, and who can
    use the store and the bus."""

    state: State
    reasons: tuple[Reason, ...]
    serving: int = 0

    @property
    def is_critical(self) -> bool:
        return any(reason.critical for reason in self.reasons)

    @property
    def is_dead(self) -> bool:
        """What `chatctl check` calls critical, and /healthz answers with 503."""
        return self.is_critical or self.state is State.STOPPING

    @property
    def is_ready(self) -> bool:
        """New clients can be served: what /readyz answers."""
        return self.state in (State.RUNNING, State.DEGRADED) and self.serving > 0
