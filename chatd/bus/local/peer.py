"""What the local bus knows about one other worker.

Owns: the Peer record and the times and sizes that decide about it. Read and written by bus.local.bus alone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from chatd.bus.local.link import Inbound, Link


@dataclass(frozen=True, slots=True)
class Limits:
    """answer_s: a peer that does not answer for so long is not waited for. silent_s: it hangs."""

    answer_s: float = 1.0
    ping_s: float = 1.0
    silent_s: float = 3.0
    queue_bytes: int = 8 * 1024 * 1024


@dataclass(slots=True, eq=False)
class Peer:
    """`name` is the peer's socket, never used again by a later worker. `bit`: in the routes.

    link: what we send on, while it is up. inbound: what the peer sends on.
    confirmed: our last batch in force there; abandoned: the last one no longer waited for; -1: none.
    owed: the peer's batch that we have in force and have not confirmed, or -1; late: say so with it.
    subscribed: it has told us topics. synced: it has told us all of them.
    lossy: it must hear of a gap when the link is up again. silent: it sent nothing for Limits.silent_s, so it hangs.
    connect_failed: the last attempt to connect failed for a reason on this side, such as too many open files.
    """

    name: str
    bit: int
    heard_at: float
    link: Link | None = None
    inbound: Inbound | None = None
    connecting: asyncio.Task[None] | None = None
    tried_at: float = float("-inf")
    confirmed: int = -1
    abandoned: int = -1
    owed: int = -1
    late: bool = False
    subscribed: bool = False
    synced: bool = False
    lossy: bool = False
    silent: bool = False
    connect_failed: bool = False

    @property
    def settled(self) -> int:
        """Our last batch that nobody waits for on this peer's account."""
        return max(self.confirmed, self.abandoned)

    @property
    def is_reachable(self) -> bool:
        """The bus to this worker works. A worker that hangs is no fault of the bus, even without a link: its queue may
        have overflowed, and its backlog may be full."""
        return self.link is not None or (self.silent and not self.connect_failed)
