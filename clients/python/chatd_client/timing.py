"""How long the client waits: every limit of time, and the pauses between attempts.

Owns: Timing and Backoff.
Elsewhere: reading a clock (the users of these).
Fails: never.
"""

from __future__ import annotations

import random

import msgspec


class Timing(msgspec.Struct, frozen=True):
    """Every wait, in seconds."""

    connect_s: float = 5.0
    """To make a connection."""
    answer_s: float = 15.0
    """For the answer to a login, a message or a request. A connection on which one is not answered is replaced."""
    enter_s: float = 30.0
    """For the first login, with all its attempts."""
    send_s: float = 60.0
    """For the acknowledgement of a message, over all connections that this takes."""
    keep_alive_s: float = 10.0
    """Between two signs of life. A server ends sessions that are silent for about 1.3 to 2 times its own interval
    (listen.keep_alive_s, 15 by default), so this must not be longer than that."""
    backoff_first_s: float = 0.2
    backoff_most_s: float = 15.0
    steady_s: float = 2.0
    """After a connection that lasted this long after its login, pauses begin again with the shortest."""
    settle_s: float = 10.0
    """The longest wait for a next acknowledgement before leaving."""
    linger_s: float = 2.0
    """The longest wait for the server to close after we said that nothing more comes."""
    taken_s: float = 2.0
    """How long a login is repeated while it is refused because the server still counts the last connection."""
    doubt_s: float = 5.0
    """A request that this wire does not acknowledge may be lost if it was sent this shortly before a connection
    broke."""


class Backoff:
    """Pauses of first_s, twice as long each time up to most_s, each shortened by up to half at random, so that
    the clients of a server that was restarted do not all come at once."""

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._next_s = first_s

    def next_s(self) -> float:
        pause_s = self._next_s
        self._next_s = min(self._next_s * 2, self._most_s)
        return pause_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        self._next_s = self._first_s
