"""What people and programs see of a webhook, and where a replay begins.

Owns: WebhookView, made from the row of the store and from what waits; Backlog; Place.
Elsewhere: the rows (store.event_contract), printing them (chatctl.webhooks), the API (http.resources.webhooks).
Fails: never, except with what the store raises.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal, NamedTuple

import msgspec

from chatd.config.schema import Config
from chatd.store.bridge_contract import BRIDGE_READER
from chatd.store.contract import Tables
from chatd.store.event_contract import EventKind, EventTables, Position, ReadLimits, WebhookState
from chatd.store.push_contract import PUSH_READER

State = Literal["delivering", "idle", "failing", "disabled"]
POSITION = r"^[0-9]{1,18}:[0-9]{1,18}$"
"""The form of a position, as a regular expression."""
_KINDS = frozenset(EventKind)
_AT_ONCE = 50
"""Events of one read, of which only the first one is of interest."""


class Backlog(NamedTuple):
    """waiting: events that are not answered, at most (store.event_contract.EventTables.count). oldest_at_ms: when the
    first of them happened; 0 = none waits."""

    waiting: int
    oldest_at_ms: int


class WebhookView(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook. Times in milliseconds since the epoch; 0 = never. waiting: events; None = not known here. lag_ms: for
    how long the oldest of them has waited, 0 = none waits. holder: who delivers, "" = nobody."""

    name: str
    state: State
    configured: bool
    events: tuple[str, ...]
    waiting: int | None
    lag_ms: int | None
    position: str
    delivered: int
    delivered_at_ms: int
    failures: int
    failed_at_ms: int
    error: str
    disabled_at_ms: int
    dropped: int
    holder: str


def all_of(tables: Tables) -> list[WebhookState]:
    """Those of webhooks: bridges and push keep their cursors in the same table."""
    return [one for one in tables.webhooks.all() if is_webhook(one.name)]


def is_webhook(name: str) -> bool:
    """Whether a row of this name can be one of a webhook."""
    return not name.startswith((BRIDGE_READER, PUSH_READER))


def backlog(events: EventTables, state: WebhookState) -> Backlog:
    """Cost: a scan of the events that wait; so it is asked on a connection beside that of the commits."""
    after, marks, kinds = state.position, events.marks(), _kinds(state)
    end = Position(max(after.message, marks.message), max(after.event, marks.event))
    return Backlog(events.count(after, end, kinds), _oldest_ms(events, after, end, kinds))


def _oldest_ms(events: EventTables, after: Position, end: Position, kinds: Collection[EventKind]) -> int:
    while True:
        part = events.read(after, end, kinds, ReadLimits(events=_AT_ONCE))
        if part.events:
            return part.events[0].at_ms
        if not part.more:
            return 0
        after = part.upto  # events that it does not want


def _kinds(state: WebhookState) -> Collection[EventKind]:
    return [EventKind(kind) for kind in state.kinds if kind in _KINDS]


def view(state: WebhookState, waits: Backlog | None, config: Config, now_ms: int) -> WebhookView:
    """waits: None = not known here. now_ms: the present."""
    lag_ms = None
    if waits is not None:
        lag_ms = max(1, now_ms - waits.oldest_at_ms) if waits.oldest_at_ms else 0
    return WebhookView(
        name=state.name,
        state=_word(state),
        configured=any(one.name == state.name for one in config.webhook),
        events=state.kinds,
        waiting=None if waits is None else waits.waiting,
        lag_ms=lag_ms,
        position=f"{state.position.message}:{state.position.event}",
        delivered=state.delivered,
        delivered_at_ms=state.delivered_at_ms,
        failures=state.failures,
        failed_at_ms=state.failed_at_ms,
        error=state.error,
        disabled_at_ms=state.disabled_at_ms,
        dropped=state.dropped,
        holder=state.holder,
    )


def _word(state: WebhookState) -> State:
    if state.disabled_at_ms:
        return "disabled"
    if state.failures:
        return "failing"
    return "delivering" if state.holder else "idle"


class Place(NamedTuple):
    """Where a replay begins: at the first event of this time (epoch, ms) or later; or right after this position; or if
    both are None, at the present end."""

    at_ms: int | None = None
    position: Position | None = None

    def find(self, tables: Tables) -> Position:
        """Cost: see WebhookTables.position_at()."""
        if self.position is not None:
            return self.position
        return tables.events.marks() if self.at_ms is None else tables.webhooks.position_at(self.at_ms)


def read_position(text: str) -> Position:
    """The position in the form MESSAGE:EVENT. Raises: ValueError for another text."""
    if not re.fullmatch(POSITION, text, re.ASCII):
        raise ValueError(f"{text!r} is not a position such as 120:7")
    message, _, event = text.partition(":")
    return Position(int(message), int(event))
