"""The states of a client, and which of them may follow each other.

Owns: the enum, the transition table, and telling of each change.
Elsewhere: what causes a change (session).
Fails: AssertionError for a transition that is not in the table: a bug.
"""

from __future__ import annotations

import enum
from collections.abc import Callable


class State(enum.Enum):
    CONNECTING = "connecting"
    """A connection is being made, or the login is under way."""
    LIVE = "live"
    """Logged in."""
    WAITING = "waiting"
    """Between two attempts to connect."""
    CLOSED = "closed"
    """Over: closed by the program, refused, or ended by the server."""


TRANSITIONS = {
    State.CONNECTING: {State.LIVE, State.WAITING, State.CLOSED},
    State.LIVE: {State.WAITING, State.CLOSED},
    State.WAITING: {State.CONNECTING, State.CLOSED},
    State.CLOSED: set[State](),
}


class StateMachine:
    def __init__(self, changed: Callable[[State, str], None]) -> None:
        """changed: told of the new state and its reason."""
        self.state = State.CONNECTING
        self._changed = changed

    def enter(self, state: State, why: str = "") -> None:
        """Entering the present state again is nothing; so is everything after CLOSED."""
        if state is self.state or self.state is State.CLOSED:
            return
        assert state in TRANSITIONS[self.state], f"{self.state} -> {state}"
        self.state = state
        self._changed(state, why)
