"""What core says of itself in the scoreboard.

Owns: when each of these numbers is written, and the durations of commits until they are counted.
Elsewhere: counting (the parts), the numbers (counters, tallies), showing them (master.status, master.metrics).
Fails: never.

Histograms are kept only while [metrics] has an address.
"""

from __future__ import annotations

from collections.abc import Callable

from chatd.address_bans import AddressBans
from chatd.config.schema import Config
from chatd.core.delivery import Delivery
from chatd.core.messages import Messages
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.services import Services
from chatd.core.sessions.login import Logins
from chatd.store.group_commit import GroupCommit
from chatd.tallies import COMMIT, SESSIONS

P99_ROUNDS = 10
"""Seconds over which Row.commit_p99_us is computed."""


class Figures:
    """round() is called once a second; tick() about twenty times, and when the worker has served its last client."""

    def __init__(
        self, services: Services, bans: AddressBans, logins: Logins, messages: Messages, delivery: Delivery
    ) -> None:
        self._row = services.row
        self._config: Callable[[], Config] = services.config
        self._store: GroupCommit = services.store
        self._tracing = services.tracing
        self._bans = bans
        self._logins = logins
        self._messages = messages
        self._in_flight = delivery.in_flight
        self._commits: list[float] = []
        """Durations of the last commits, in seconds."""
        self._rounds = 0

    def tick(self, plugins: PluginPipeline) -> None:
        row = self._row
        row.sessions = self._logins.count
        row.messages_in = self._messages.stored
        row.messages_out = self._in_flight.given
        plugins.report(row)
        if self._config().metrics.address:
            self._tracing.measure()

    def round(self) -> None:
        row = self._row
        commits = self._store.take_commit_seconds()
        self._commits += commits
        self._rounds += 1
        if self._rounds % P99_ROUNDS == 0:
            row.commit_p99_us = p99_us(self._commits)
            self._commits = []
        for protocol, sessions in self._logins.by_wire.items():
            setattr(row, SESSIONS.cell(protocol.name.lower()), sessions)
        row.address_bans = len(self._bans)
        if self._config().metrics.address:
            row.observe(COMMIT, [seconds * 1e6 for seconds in commits])


def p99_us(seconds: list[float]) -> int:
    """99th percentile in microseconds; 0 = there are none."""
    ordered = sorted(seconds)
    return int(ordered[int(0.99 * (len(ordered) - 1))] * 1e6) if ordered else 0
