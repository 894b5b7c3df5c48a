"""Whom to let in: connections per source network, and connections that have not logged in.

Owns: Admission: how many connections each source has, which of them wait for a login, in the order they came, and
which one is ended when too many wait.
Elsewhere: what a source is (sources), accepting and refusing (net.acceptor, net.proxy_reader, net.udp), how a
connection is told and ended (Entrant.dismiss).
Fails: never.

Whom a full server ends (docs/decisions/0023-strangers-make-room.md): the connection that has waited longest, of the
source that has most connections waiting. So one source that opens connections and holds them ends its own, and keeps
nobody else out. Every operation takes constant time, whatever the number of connections and sources: it is done for
each accept, during an attack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from typing import Protocol as Contract

from chatd import security_log, wall_clock
from chatd.address_bans import AddressBans
from chatd.config.schema import Config
from chatd.ranking import Ranking
from chatd.security_log import SecurityEvent
from chatd.sources import networks, source_of

_UNLIMITED = 1 << 60
BANNED = "banned"
"""Reason of a refusal."""


class Refusal(NamedTuple):
    """Why a connection is refused. peer: the client's address, as in logs. reason: for the security log."""

    peer: str
    reason: str


class Entrant(Contract):
    """A connection as Admission sees it."""

    remote: str
    """The client's address, as in logs."""
    source: Source | None
    """Set by Admission alone. None: not counted."""

    def dismiss(self) -> None:
        """End the connection now, telling the client that the server is busy."""
        ...


class Source:
    """One source network with at least one connection. connections: all of them. waiting: those that wait for a login,
    the oldest first."""

    __slots__ = ("connections", "name", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.connections = 0
        self.waiting: dict[Entrant, None] = {}


class Admission:
    """Of one worker, for one kind of transport. No client on a Unix socket and none in penalties.allow is counted.

    _ranking: the sources by how many connections of theirs wait. _waiting: waiting connections of all sources.
    """

    def __init__(self, config: Callable[[], Config], bans: AddressBans | None = None) -> None:
        """bans: None = nobody is banned."""
        self._config = config
        self._bans = bans if bans is not None else AddressBans()
        self._sources: dict[str, Source] = {}
        self._ranking: Ranking[Source] = Ranking()
        self._waiting = 0

    # ---------------------------------------------------------------- coming and leaving

    def refusal(self, remote: str) -> Refusal | None:
        """Why a connection from this address must be refused; None = it may come."""
        if self.is_banned(remote):
            return Refusal(remote, BANNED)
        source = self._sources.get(source_of(remote))
        limit = self._config().limits.connections_per_source or _UNLIMITED
        if source is None or source.connections < limit or self._is_allowed(source.name):
            return None
        return Refusal(remote, "connections_per_source")

    def is_banned(self, remote: str) -> bool:
        """Whether an operator keeps this address out. Not even penalties.allow lets it in."""
        return self._bans.find(remote, wall_clock.now_ms()) is not None

    def enter(self, entrant: Entrant) -> None:
        """Count a connection that has come and may stay, and let it wait for its login."""
        self.adopt(entrant)
        self.waits(entrant)

    def adopt(self, entrant: Entrant) -> None:
        """Count a connection with a session that comes from another worker. It may exceed the limit of its source: it
        was within that of the other worker."""
        name = source_of(entrant.remote)
        if self._is_allowed(name):
            return
        source = self._sources.get(name)
        if source is None:
            source = self._sources[name] = Source(name)
        source.connections += 1
        entrant.source = source

    def leave(self, entrant: Entrant) -> None:
        """Its socket is closed, or its session has ended. Idempotent."""
        source = entrant.source
        if source is None:
            return
        self.stops_waiting(entrant)
        entrant.source = None
        source.connections -= 1
        if not source.connections:
            del self._sources[source.name]

    def _is_allowed(self, name: str) -> bool:
        return name in networks(self._config().penalties.allow)

    # ---------------------------------------------------------------- waiting for a login

    def waits(self, entrant: Entrant) -> None:
        """It has no session, and none of its commands is being served: from now on it may be dismissed. If too many
        wait now, one of them is."""
        source = entrant.source
        if source is not None and entrant not in source.waiting:
            source.waiting[entrant] = None
            self._waiting += 1
            self._ranking.move(source, len(source.waiting) - 1, len(source.waiting))
            if self._waiting > self._config().limits.unauthenticated:
                self._dismiss_one()

    def stops_waiting(self, entrant: Entrant) -> None:
        """Its login is being served, or it is over."""
        source = entrant.source
        if source is not None and entrant in source.waiting:
            del source.waiting[entrant]
            self._waiting -= 1
            self._ranking.move(source, len(source.waiting) + 1, len(source.waiting))

    def waiting_of(self, remote: str) -> int:
        """Connections from the source of this address that wait for a login."""
        source = self._sources.get(source_of(remote))
        return len(source.waiting) if source is not None else 0

    def make_room(self, newcomer: int) -> bool:
        """The worker has no room for a connection from a source with `newcomer` connections waiting: dismiss one of a
        source that has more. False: there is no such source."""
        if self._ranking.most <= newcomer:
            return False
        self._dismiss_one()
        return True

    def _dismiss_one(self) -> None:
        source = self._ranking.first()
        oldest = next(iter(source.waiting))
        self.stops_waiting(oldest)
        security_log.record(SecurityEvent.CONNECTION_REFUSED, peer=oldest.remote, reason="unauthenticated")
        oldest.dismiss()
