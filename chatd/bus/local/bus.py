"""The bus of one host, over Unix stream sockets between its workers. It needs no other server.

Owns: this worker's socket, its subscriptions, publishing and delivering, and when on_gap is called.
Elsewhere: the other workers and the links to them (bus.local.peers), topic -> workers (bus.local.routes), waiting for
confirmations (bus.local.confirmations), locks (bus.local.locks).
Fails: as bus.contract says. A worker that dies, a link that breaks, a queue that overflows or a late confirmation
causes a gap on the side that may have missed something.

Every worker listens on its own socket in one directory and connects to all others there. The guarantees rest on three
rules:

* A socket gets its final name only once it listens, so a refused connect always means a dead worker, whose socket may
  be removed.
* A peer confirms a subscription after it is in force there, so what it publishes later is routed here.
* open() returns when the subscriptions of every peer have arrived, so what this worker publishes reaches all of them. A
  peer that was too slow for this is told CONFIRM_LATE, and reports a gap on its side.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Collection, Iterable
from pathlib import Path

from chatd import log
from chatd.bus.contract import LockShare, OnGap, OnLockLost, OnMessage, Topic
from chatd.bus.lifecycle import BusState, Lifecycle
from chatd.bus.local.frames import HEADER, FrameKind, pack_topics
from chatd.bus.local.link import IncomingLink, listen
from chatd.bus.local.locks import FILES, LocalLocks
from chatd.bus.local.peer import LocalLimits, LocalPeer
from chatd.bus.local.peers import LocalPeers
from chatd.bus.local.routes import Routes
from chatd.errors import Unavailable

logger = log.get()

_PUBLISH = int(FrameKind.PUBLISH)


class LocalBus:
    """`directory` has one socket for each worker, `lock_directory` the files of bus.local.locks; all workers of the
    host share both. slot: this worker's; it is part of the socket's name, for diagnosis."""

    # Set by open():
    _loop: asyncio.AbstractEventLoop
    _on_message: OnMessage
    _on_gap: OnGap

    def __init__(self, directory: Path, lock_directory: Path, slot: int, limits: LocalLimits | None = None) -> None:
        self._socket_path = directory / f"{slot}-{os.getpid()}-{secrets.token_hex(4)}.sock"
        self._hidden_path = self._socket_path.with_suffix(".sock.new")
        """Where the socket is bound before it listens: no other worker looks for this name."""
        self._lock_directory = lock_directory
        self._limits = limits or LocalLimits()
        self._lifecycle = Lifecycle()
        self._own_topics: set[Topic] = set()
        """This worker's subscriptions."""
        self._routes: Routes[LocalPeer] = Routes()
        """The peers' subscriptions. Valid once open."""
        self._peers: LocalPeers | None = None
        self._locks: LocalLocks | None = None
        self._server: asyncio.AbstractServer | None = None
        self._gap_scheduled = False
        """A call of on_gap is scheduled, for this turn of the loop or the next."""

    # ------------------------------------------------------------ joining and leaving

    async def open(
        self, on_message: OnMessage, on_gap: OnGap, on_lock_lost: OnLockLost, *, patient: bool = False
    ) -> None:
        """See Bus.open. on_lock_lost is never called: the kernel holds the locks, and frees them only with this
        process. patient changes nothing: what keeps a worker from binding its socket does not pass by itself. Raises
        Unavailable also then."""
        self._lifecycle.become(BusState.JOINING)
        self._loop = asyncio.get_running_loop()
        self._on_message, self._on_gap = on_message, on_gap
        self._locks = LocalLocks(self._lock_directory)
        self._peers = LocalPeers(self._socket_path, self._limits, self._own_topics, self._lifecycle, self._report_gap)
        self._routes = self._peers.routes
        try:
            found = await self._listen(self._peers)
        except OSError as error:
            await self.close()
            raise Unavailable(f"cannot join the bus in {self._socket_path.parent}: {error}") from error
        await self._peers.meet(found)
        self._lifecycle.become(BusState.OPEN)

    async def _listen(self, peers: LocalPeers) -> list[str]:
        """Bind our socket. Returns the names of all other workers."""
        directory = self._socket_path.parent
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._server = await self._loop.create_unix_server(
            lambda: IncomingLink(peers, self._deliver), sock=listen(self._hidden_path), backlog=1024
        )
        self._hidden_path.rename(self._socket_path)
        return [name for name in os.listdir(directory) if name.endswith(".sock") and name != self._socket_path.name]

    async def close(self) -> None:
        self._lifecycle.become(BusState.CLOSED)
        self._own_topics.clear()
        if self._server is not None:
            self._server.close()
        for path in (self._socket_path, self._hidden_path):
            with contextlib.suppress(OSError):  # never bound, or we may not remove it: other workers then find it dead
                path.unlink()
        if self._peers is not None:
            await self._peers.close()
        if self._locks is not None:
            self._locks.close()

    @property
    def healthy(self) -> bool:
        return not self.trouble

    @property
    def trouble(self) -> str:
        if not self._lifecycle.is_open:
            return "this worker has not joined it, or has left it"
        lost = [peer.name.partition("-")[0] for peer in self.peers if not peer.is_reachable]
        return f"no connection to worker {', '.join(sorted(lost, key=int))}" if lost else ""

    @property
    def name(self) -> str:
        return self._socket_path.name

    def other_workers(self) -> dict[str, str]:
        """Exactly the living workers: the socket of a dead worker refuses connections."""
        return {peer.name: f"worker {peer.name.partition('-')[0]}" for peer in self.peers}

    @property
    def refused(self) -> int:
        return self.peers.refused

    @property
    def round_trip_us(self) -> int:
        return 0

    @property
    def peers(self) -> LocalPeers:
        """For tests, which break links on purpose. Valid only after open()."""
        assert self._peers is not None
        return self._peers

    # ------------------------------------------------------------ publishing

    def publish(self, topic: Topic, data: bytes) -> None:
        peers = self._routes.to(topic)
        if not peers:
            return
        framed = HEADER.pack(len(data), _PUBLISH, topic) + data
        for peer in peers:
            if peer.outgoing is not None:
                peer.outgoing.publish(framed)
            else:
                peer.owes_gap = True

    def has_subscribers(self, topic: Topic) -> bool:
        return topic in self._routes

    async def subscribed_elsewhere(self, topics: Collection[Topic]) -> set[Topic]:
        return {topic for topic in topics if topic in self._routes}

    # ------------------------------------------------------------ subscribing

    async def subscribe(self, topics: Iterable[Topic]) -> None:
        if self._lifecycle.is_closed:
            return
        confirmations = self.peers.confirmations
        new = dict.fromkeys(topic for topic in topics if topic not in self._own_topics)
        if new:
            batch = confirmations.begin_batch()
            self._own_topics.update(new)
            self.peers.send_to_all(pack_topics(FrameKind.SUBSCRIBE, batch, new))
            for peer in self.peers:
                if peer.silent:
                    peer.abandoned = batch
        # Even without new topics: another caller may be waiting for the same ones.
        await confirmations.wait(self._limits.answer_s)

    def unsubscribe(self, topics: Iterable[Topic]) -> None:
        gone = {topic for topic in topics if topic in self._own_topics}
        if gone:
            self._own_topics -= gone
            self.peers.send_to_all(pack_topics(FrameKind.UNSUBSCRIBE, 0, gone))

    # ------------------------------------------------------------ locks

    async def lock(self, key: int) -> bool:
        if self._locks is None:
            raise Unavailable("the bus is not open")
        return self._locks.take(key)

    def unlock(self, key: int) -> None:
        if self._locks is not None:
            self._locks.drop(key)

    def lock_share(self) -> LockShare:
        """The files of this worker's locks: a lock that somebody takes by them is this worker's."""
        return LockShare(b"", self._locks.descriptors if self._locks is not None else ())

    async def give_lock(self, key: int, to: LockShare) -> bool:
        if self._locks is None or len(to.descriptors) != FILES:
            self.unlock(key)
            raise Unavailable("the locks of the other worker are not known")
        return self._locks.give(key, to.descriptors)

    async def take_lock_back(self, key: int, given: LockShare) -> bool:
        if self._locks is None or len(given.descriptors) != FILES:
            raise Unavailable("the locks of the other worker are not known")
        return self._locks.take_back(key, given.descriptors)

    def keep_lock(self, key: int) -> None:
        if self._locks is not None:
            self._locks.keep(key)

    # ------------------------------------------------------------ callbacks

    def _deliver(self, topic: Topic, data: bytes) -> None:
        if topic not in self._own_topics:
            return
        try:
            self._on_message(topic, data)
        except Exception:
            logger.exception("bus: handling a message failed", topic=topic, size=len(data))

    def _report_gap(self) -> None:
        """Call on_gap once for all causes of one turn of the loop; not without subscriptions, because then nothing was
        missed."""
        if self._own_topics and not self._gap_scheduled:
            self._gap_scheduled = True
            self._loop.call_soon(self._call_on_gap)

    def _call_on_gap(self) -> None:
        self._gap_scheduled = False
        if self._lifecycle.is_closed:
            return
        try:
            self._on_gap()
        except Exception:
            logger.exception("bus: catching up after a gap failed")
