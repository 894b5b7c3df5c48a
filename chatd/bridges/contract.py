"""What the parts of a bridge share.

Owns: BridgeParts, Figures, Doing, Direction.
Elsewhere: the parts (bridges.bridge, bridges.incoming, bridges.outgoing).
Fails: never.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable

import msgspec

from chatd.bridges.link import LinkFailed
from chatd.bridges.people import People
from chatd.config.bridge_options import BridgeOptions
from chatd.config.schema import Config
from chatd.core.calls import Calls
from chatd.feeds.feed import Feed
from chatd.feeds.lease import LeaseParts
from chatd.model import Message


class Direction(enum.StrEnum):
    INCOMING = "in"
    OUTGOING = "out"


class Doing(enum.Enum):
    """What a bridge does at present."""

    STANDING_BY = "standing by"
    """Another worker has the lease."""
    WORKING = "working"
    FAILING = "failing"
    """At least one direction does not work; it is tried again."""


class Figures(msgspec.Struct, kw_only=True):
    """received, sent: messages since the worker started. returned, dead: packets that went back to
    the other server, or to the dead letters. failures:
    attempts that failed. waiting: messages for the other side that RabbitMQ does not have yet; oldest_ms: when the
    first of them was stored, since the epoch; 0 = none waits."""

    doing: Doing = Doing.STANDING_BY
    received: int = 0
    sent: int = 0
    returned: int = 0
    dead: int = 0
    failures: int = 0
    waiting: int = 0
    oldest_ms: int = 0


Report = Callable[[Direction, LinkFailed | None], Awaitable[None]]
"""Told whenever a direction fails, and when it works again (None)."""


class BridgeParts(msgspec.Struct, frozen=True, kw_only=True):
    """feed, lease, people, calls: of the worker. links_of: finds the addresses of a message's files. config: the
    configuration in force."""

    options: BridgeOptions
    feed: Feed
    lease: LeaseParts
    people: People
    calls: Calls
    links_of: Callable[[Message], tuple[str, ...]]
    config: Callable[[], Config]


RETRY_S = 30.0
"""Longest wait between two attempts to reach RabbitMQ."""
HEADER = "x-chatd-"
"""Begins the headers of a dead letter: reason, text, queue."""
