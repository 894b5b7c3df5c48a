"""Which subscribe() calls wait for which peers.

Owns: the numbers of batches (one for each subscribe() with new topics), and releasing a call when every peer has
confirmed its batch or is not waited for any more.
Elsewhere: sending batches and receiving confirmations (bus.local.peers), which note them in the LocalPeer.
Fails: never. A peer that does not answer in time is abandoned; it causes a gap when it answers after all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

from chatd.bus.local.peer import LocalPeer


class Confirmations:
    """peers: a live view of all peers, by name."""

    def __init__(self, peers: Mapping[str, LocalPeer]) -> None:
        self._peers = peers
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        """The batch of each waiting call, in rising order, and what ends its wait."""
        self.batch = 0
        """The latest batch; 0 before the first."""

    def begin_batch(self) -> int:
        self.batch += 1
        return self.batch

    @property
    def is_settled(self) -> bool:
        """No peer holds up a call."""
        return self._lowest_settled() >= self.batch

    def _lowest_settled(self) -> int:
        return min((peer.settled for peer in self._peers.values()), default=self.batch)

    async def wait(self, limit_s: float) -> None:
        """Return when the latest batch is settled, at the latest after limit_s: then the peers that have not answered
        are abandoned."""
        if self.is_settled:
            return
        loop = asyncio.get_running_loop()
        settled = loop.create_future()
        self._waiting.append((self.batch, settled))
        timer = loop.call_later(limit_s, self._abandon, self.batch)
        try:
            await settled
        finally:
            timer.cancel()

    def _abandon(self, batch: int) -> None:
        for peer in self._peers.values():
            if peer.settled < batch:
                peer.abandoned = batch
        self.release()

    def release(self) -> None:
        """Release every call that no peer holds up any more. To be called when a peer has confirmed, or is gone."""
        lowest = self._lowest_settled()
        while self._waiting and self._waiting[0][0] <= lowest:
            settled = self._waiting.popleft()[1]
            if not settled.done():
                settled.set_result(None)
