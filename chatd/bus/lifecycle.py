"""The states of a bus, the same for every implementation: it is opened once and closed for good.

Owns: the states and the transitions between them. Elsewhere: opening and closing (bus.local.bus, bus.redis.bus).
Fails: AssertionError for a transition that is not in the table: a bug in the bus.
"""

from __future__ import annotations

import enum


class BusState(enum.Enum):
    NEW = enum.auto()
    """open() has not been called."""
    JOINING = enum.auto()
    """open() is running: other workers may already reach us."""
    OPEN = enum.auto()
    CLOSED = enum.auto()
    """close() was called, or open() has failed. Publishes are ignored and no callback is called any more."""


_TRANSITIONS = {
    BusState.NEW: {BusState.JOINING, BusState.CLOSED},
    BusState.JOINING: {BusState.OPEN, BusState.CLOSED},
    BusState.OPEN: {BusState.CLOSED},
    BusState.CLOSED: {BusState.CLOSED},
}


class Lifecycle:
    """The state of one bus, shared by its parts. Only the bus itself changes it."""

    def __init__(self) -> None:
        self.state = BusState.NEW
        self.is_open = False
        self.is_closed = False

    def become(self, state: BusState) -> None:
        assert state in _TRANSITIONS[self.state], f"bus: {self.state.name} -> {state.name}"
        self.state = state
        self.is_open = state is BusState.OPEN
        self.is_closed = state is BusState.CLOSED
