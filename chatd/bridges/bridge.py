"""One bridge, on one worker.

Owns: Bridge: both directions for as long as this worker has the lease, their troubles, and figures.
Elsewhere: the lease (feeds.lease), the directions (bridges.incoming, bridges.outgoing), all bridges of the worker
(bridges.bridges).
Fails: never.
"""

from __future__ import annotations

from chatd import log
from chatd.bridges.contract import BridgeParts, Direction, Doing, Figures
from chatd.bridges.incoming import Incoming
from chatd.bridges.link import LinkFailed, WrongQueue
from chatd.bridges.outgoing import Outgoing
from chatd.feeds.lease import Lease, Work
from chatd.store.bridge_contract import BRIDGE_READER


class Bridge:
    """_troubles: why a direction does not work at present."""

    def __init__(self, parts: BridgeParts) -> None:
        self.name = parts.options.name
        self.figures = Figures()
        self._parts = parts
        self._lease = Lease("bridge", BRIDGE_READER + self.name, parts.lease, shown=self.name)
        self._troubles: dict[Direction, str] = {}
        self._log = log.get()

    async def run(self) -> None:
        """Until it is cancelled; then give_back() is to be called."""
        await self._lease.run(self._works, self._ended)

    def _works(self) -> list[Work]:
        self.figures.doing = Doing.WORKING
        outgoing = Outgoing(self._parts, self._lease, self.figures, self._report)
        incoming = Incoming(self._parts, self.figures, self._report)
        return [outgoing.run(), incoming.run()]

    def _ended(self) -> None:
        self.figures.doing = Doing.STANDING_BY
        self.figures.waiting = self.figures.oldest_ms = 0
        self._troubles.clear()

    async def _report(self, direction: Direction, failed: LinkFailed | None) -> None:
        """A direction has failed (again), or works. Raises: LeaseLost, Unavailable."""
        if failed is None:
            await self._works_again(direction)
            return
        why = f"{direction}: {failed}"
        self.figures.failures += 1
        self.figures.doing = Doing.FAILING
        if self._troubles.get(direction) != why:
            self._troubles[direction] = why
            if isinstance(failed, WrongQueue):
                self._log.error("bridge stands still, a queue has other properties", bridge=self.name, why=str(failed))
            else:
                self._log.warning("bridge interrupted", bridge=self.name, direction=str(direction), why=str(failed))
        await self._lease.write(lambda tables, name, fence, ms: tables.webhooks.failed(name, fence, why, ms))

    async def _works_again(self, direction: Direction) -> None:
        trouble = self._troubles.pop(direction, "")
        if trouble:
            self._log.info("bridge works again", bridge=self.name, direction=str(direction))
        if not self._troubles:
            self.figures.doing = Doing.WORKING
            await self._lease.write(lambda tables, name, fence, ms: tables.webhooks.recovered(name, fence, ms))

    async def give_back(self) -> None:
        """After run() was cancelled: let another worker go on at once."""
        await self._lease.give_back()
