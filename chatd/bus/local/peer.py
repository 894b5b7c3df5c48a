"""One other worker as the local bus knows it, and the limits of waiting for it.

Owns: LocalPeer, which only bus.local.peers and bus.local.confirmations read and write; LocalLimits.
Elsewhere: connecting to peers and finding out whether they live (bus.local.peers), subscriptions (bus.local.routes).
Fails: never.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from chatd.bus.local.link import IncomingLink, OutgoingLink


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalLimits:
    answer_s: float = 1.0
    """The longest wait for the answer of a peer."""
    ping_s: float = 1.0
    """Interval at which each peer is pinged and lost links are made again."""
    silent_s: float = 3.0
    """A peer from which nothing was read for this long hangs: subscribe() does not wait for it."""
    queue_bytes: int = 8 * 1024 * 1024
    """Maximum bytes that wait for one peer before publishes to it are dropped."""


@dataclass(slots=True, eq=False, kw_only=True)
class LocalPeer:
    """One other worker. Batches are numbers of subscribe() calls, see bus.local.frames; -1 stands for none."""

    name: str
    """The name of its socket; no later worker has it."""
    heard_at: float
    """Loop time at which something was last read from it."""
    bit: int = 0
    """Its bit in bus.local.routes."""

    # Our link to it.
    outgoing: OutgoingLink | None = None
    """None while there is no link."""
    connecting: asyncio.Task[None] | None = None
    """The attempt to make a link, while one runs."""
    tried_at: float = float("-inf")
    """Loop time of the last such attempt."""
    connect_failed: bool = False
    """The last attempt failed for a reason on this side, such as too many open files."""
    owes_gap: bool = False
    """It must be told of a gap as soon as there is a link: publishes were lost in between."""

    # Its link to us, and what it told us on it.
    incoming: IncomingLink | None = None
    silent: bool = False
    """Nothing was read from it for LocalLimits.silent_s: it hangs."""
    subscribed: bool = False
    """It has told us topics."""
    synced: bool = False
    """It has told us all of its topics."""
    to_confirm: int = -1
    """Its last batch that is in force here and that we have not confirmed."""
    confirm_late: bool = False
    """We may have published before the batch to_confirm was in force; the confirmation will say so."""

    # Our subscriptions there.
    confirmed: int = -1
    """Our last batch that it has confirmed."""
    abandoned: int = -1
    """Our last batch for whose confirmation we no longer wait. When it comes, there was a gap."""

    @property
    def settled(self) -> int:
        """Our last batch that does not wait for this peer."""
        return max(self.confirmed, self.abandoned)

    @property
    def is_reachable(self) -> bool:
        """The bus to this worker works. A worker that hangs is not a fault of the bus, even without a link: its queue
        may have overflowed, and its backlog may be full."""
        return self.outgoing is not None or (self.silent and not self.connect_failed)
