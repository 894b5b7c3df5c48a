"""Penalties of a cluster: telling other hosts what this one has counted.

Owns: which records have changed here, publishing them in bounded messages, and publishing all penalties again when the
bus was cut off.
Elsewhere: counting and merging (core.penalties), the bytes (core.bus_messages).
Fails: never. What is lost on its way is made good by the next offence, or when the bus is back. A host that is cut off
counts for itself.
"""

from __future__ import annotations

from chatd.bus.contract import EVERYBODY
from chatd.core import bus_messages
from chatd.core.bus_messages import PenaltiesCleared, PenaltiesCounted, PenaltyRecord
from chatd.core.penalties import Penalties
from chatd.core.services import Services
from chatd.penalty_table import NEVER, Key

RECORDS_PER_MESSAGE = 100
"""Published in one tick, so at most 2,000 a second and worker."""
MAX_PENDING = 20_000
"""Maximum records that wait to be published. Those beyond are published with their next offence."""
MAX_AGAIN = 2000
"""Maximum penalties published again after a gap: those that last longest."""


class PenaltyExchange:
    """Of one worker. pending: keys of changed records, the first changed first."""

    def __init__(self, services: Services, penalties: Penalties) -> None:
        self._bus = services.bus
        self._penalties = penalties
        self._pending: dict[Key, None] = {}
        penalties.changed = self.changed

    def changed(self, key: Key) -> None:
        """This worker has changed this record."""
        if len(self._pending) < MAX_PENDING:
            self._pending[key] = None

    def cleared(self, subjects: list[str]) -> None:
        """An operator has cleared records here, and means every host."""
        self._pending.clear()
        self._bus.publish(EVERYBODY, bus_messages.encode(PenaltiesCleared(tuple(subjects))))

    def gap(self) -> None:
        """Others may have missed something."""
        at_ms = self._penalties.now_ms()
        active = [one for one in self._penalties.table.all() if one.record.until_ms > at_ms]
        active.sort(key=lambda one: -one.record.until_ms)
        for one in active[:MAX_AGAIN]:
            self.changed(Key(one.kind, one.subject))

    def tick(self) -> None:
        """About twenty times a second: publish some of what has changed."""
        if not self._pending:
            return
        keys = list(self._pending)[:RECORDS_PER_MESSAGE]
        for key in keys:
            del self._pending[key]
        records = tuple(self._record(key) for key in keys if self._penalties.table.read(key) != NEVER)
        if records:
            self._bus.publish(EVERYBODY, bus_messages.encode(PenaltiesCounted(records)))

    def _record(self, key: Key) -> PenaltyRecord:
        record, at_ms = self._penalties.table.read(key), self._penalties.now_ms()
        # Forgiving begins when a penalty is over: the other host need not know when that was.
        idle_since_ms = max(record.offended_ms, record.until_ms if record.until_ms <= at_ms else 0)
        return PenaltyRecord(
            kind=int(key.kind),
            subject=key.subject,
            offences_milli=int(record.offences * 1000),
            offended_ago_ms=max(0, at_ms - idle_since_ms),
            remaining_ms=max(0, record.until_ms - at_ms),
        )
