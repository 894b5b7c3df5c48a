"""The bus between the workers of one host, over Unix stream sockets. No other server is needed.

Owns: who the peers are, their subscriptions, confirmation of ours, and when a gap is told.
Not here: frames and queues (bus.local.link), topic -> peers (bus.local.routes), marks (bus.local.locks).
Fails: as bus.contract says. A peer that dies, a link that breaks, a queue that overflows or a late confirmation
calls on_gap on the side that may have missed something.

Every worker listens on its own socket in `directory` and connects to every other one there. A link is one-way,
so two workers that find each other at the same moment simply have both of their links, and nothing is to be
settled between them. A new worker connects; whoever is connected to connects back. The first things sent on a
link are the sender's name and its whole set of subscriptions.

Three orders matter:
* A socket gets its final name only when it listens: a refused connect then always means a dead worker, whose
  socket may be removed.
* A peer confirms a subscription after it has put it in force, so what it publishes later is routed here.
* open() returns when every peer's set has arrived, so what this worker publishes reaches all. A peer whose set
  comes later hears CONFIRM_LATE and tells its gap.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections import deque
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from chatd import log
from chatd.bus.contract import OnGap, OnLockLost, OnMessage, Topic
from chatd.bus.local.link import HEADER, VERSION, Inbound, Kind, Link, frame, listen, pack_topics, unpack_topics
from chatd.bus.local.locks import LocalLocks
from chatd.bus.local.peer import Limits, Peer
from chatd.bus.local.routes import Routes
from chatd.errors import Unavailable

logger = log.get()

_PUBLISH = int(Kind.PUBLISH)
_PING = frame(Kind.PING, 0)


class LocalBus:
    """slot: the worker's, for people who look into `directory`."""

    def __init__(self, directory: Path, claims_directory: Path, slot: int, limits: Limits | None = None) -> None:
        self._directory = directory
        self._claims_directory = claims_directory
        self._limits = limits or Limits()
        self._name = f"{slot}-{os.getpid()}-{secrets.token_hex(4)}.sock"
        self._locks: LocalLocks | None = None
        self._own: set[Topic] = set()
        self._routes: Routes[Peer] = Routes()
        self._peers: dict[str, Peer] = {}
        self._inbounds: dict[Inbound, Peer | None] = {}
        self._batch = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._ready: asyncio.Future[None] | None = None
        self._opened = False
        self._closing = False
        self._gap_due = False
        self._server: asyncio.AbstractServer | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._ticked_at = 0.0

    # ------------------------------------------------------------ joining and leaving

    async def open(self, on_message: OnMessage, on_gap: OnGap, on_lock_lost: OnLockLost) -> None:
        """on_lock_lost is never called: a mark is the kernel's, and goes with this process alone."""
        self._loop = asyncio.get_running_loop()
        self._on_message, self._on_gap = on_message, on_gap
        self._locks = LocalLocks(self._claims_directory)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            listener = listen(self._directory / f"{self._name}.new")  # a name that nobody looks for yet
            self._server = await self._loop.create_unix_server(lambda: Inbound(self), sock=listener, backlog=1024)
            (self._directory / f"{self._name}.new").rename(self._directory / self._name)
            others = [name for name in os.listdir(self._directory) if name.endswith(".sock") and name != self._name]
        except OSError as error:
            await self.close()
            raise Unavailable(f"cannot join the bus in {self._directory}: {error}") from error
        self._ticked_at = self._loop.time()
        self._ticker = self._loop.call_later(self._limits.ping_s, self._tick)
        for name in others:
            self._meet(name)
        if not self._all_synced():
            self._ready = self._loop.create_future()
            await asyncio.wait([self._ready], timeout=self._limits.answer_s)
        self._opened = True

    async def close(self) -> None:
        """What was published has been handed to the kernel, for every peer that reads; all marks are free."""
        self._closing = True
        self._own.clear()
        if self._ticker is not None:
            self._ticker.cancel()
        if self._server is not None:
            self._server.close()
        for suffix in ("", ".new"):
            with contextlib.suppress(OSError):  # never made; or not ours to remove: others find it dead
                (self._directory / (self._name + suffix)).unlink()
        peers = list(self._peers.values())
        tasks = [peer.connecting for peer in peers if peer.connecting is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        links = [peer.link for peer in peers if peer.link is not None]
        if links:
            bye = frame(Kind.BYE, 0)
            await asyncio.wait([link.leave(bye) for link in links], timeout=self._limits.answer_s)
        for link in links:
            link.abort()
        for inbound in list(self._inbounds):
            inbound.close()
        self._peers.clear()
        self._routes = Routes()
        self._settle()
        if self._locks is not None:
            self._locks.close()

    @property
    def healthy(self) -> bool:
        return self._opened and not self._closing and all(peer.is_reachable for peer in self._peers.values())

    @property
    def name(self) -> str:
        return self._name

    def other_workers(self) -> dict[str, str]:
        """A worker whose socket refuses is dead, and known to be."""
        return {name: f"worker {name.partition('-')[0]}" for name in self._peers}

    @property
    def round_trip_us(self) -> int:
        return 0

    # ------------------------------------------------------------ publishing

    def publish(self, topic: Topic, data: bytes) -> None:
        peers = self._routes.to(topic)
        if not peers:
            return
        framed = HEADER.pack(len(data), _PUBLISH, topic) + data
        for peer in peers:
            if peer.link is not None:
                peer.link.publish(framed)
            else:
                peer.lossy = True

    def has_subscribers(self, topic: Topic) -> bool:
        return topic in self._routes

    async def subscribed_elsewhere(self, topics: Collection[Topic]) -> set[Topic]:
        return {topic for topic in topics if topic in self._routes}

    # ------------------------------------------------------------ subscribing

    async def subscribe(self, topics: Iterable[Topic]) -> None:
        """Cancelled: the topics may be subscribed; unsubscribe them."""
        fresh = dict.fromkeys(topic for topic in topics if topic not in self._own)
        if fresh and not self._closing:
            self._batch += 1
            request = pack_topics(Kind.SUBSCRIBE, self._batch, fresh)
            self._own.update(fresh)
            for peer in self._peers.values():
                if peer.link is not None:
                    peer.link.control(request)
                if peer.silent:
                    peer.abandoned = self._batch
        if self._lowest_settled() >= self._batch:
            return
        # Nothing fresh: still wait, for the topics may be on their way on behalf of another caller.
        settled = self._loop.create_future()
        self._waiting.append((self._batch, settled))
        timer = self._loop.call_later(self._limits.answer_s, self._abandon, self._batch)
        try:
            await settled
        finally:
            timer.cancel()

    def unsubscribe(self, topics: Iterable[Topic]) -> None:
        gone = {topic for topic in topics if topic in self._own}
        if not gone:
            return
        self._own -= gone
        request = pack_topics(Kind.UNSUBSCRIBE, 0, gone)
        for peer in self._peers.values():
            if peer.link is not None:
                peer.link.control(request)

    def _lowest_settled(self) -> int:
        return min((peer.settled for peer in self._peers.values()), default=self._batch)

    def _settle(self) -> None:
        """Let go every subscribe() that no peer holds up any more."""
        lowest = self._lowest_settled()
        while self._waiting and self._waiting[0][0] <= lowest:
            settled = self._waiting.popleft()[1]
            if not settled.done():
                settled.set_result(None)

    def _abandon(self, batch: int) -> None:
        for peer in self._peers.values():
            if peer.settled < batch:
                peer.abandoned = batch
        self._settle()

    # ------------------------------------------------------------ marks

    async def lock(self, key: int) -> bool:
        if self._locks is None:
            raise Unavailable("the bus is not open")
        return self._locks.take(key)

    def unlock(self, key: int) -> None:
        if self._locks is not None:
            self._locks.drop(key)

    # ------------------------------------------------------------ peers and our links to them

    def _meet(self, name: str) -> Peer:
        peer = Peer(name, 0, self._loop.time())
        peer.bit = self._routes.join(peer)
        self._peers[name] = peer
        self._connect(peer)
        return peer

    def _connect(self, peer: Peer) -> None:
        peer.tried_at = self._loop.time()
        peer.connecting = self._loop.create_task(self._make_link(peer))

    async def _make_link(self, peer: Peer) -> None:
        path = self._directory / peer.name
        try:
            _, link = await self._loop.create_unix_connection(
                lambda: Link(self._limits.queue_bytes, lambda lost: self._link_lost(peer, lost)), str(path)
            )
        except (ConnectionRefusedError, FileNotFoundError):
            if peer.inbound is None:
                self._tell_gap()
            self._forget(peer)
            with contextlib.suppress(OSError):
                path.unlink()
        except ConnectionResetError:
            logger.debug("bus: a worker died while we connected", peer=peer.name)  # the next tick finds out
        except OSError as error:
            peer.connect_failed = not isinstance(error, BlockingIOError)  # its backlog is full: it does not accept
            logger.warning("bus: cannot connect to a worker", peer=peer.name, why=str(error))
        else:
            self._linked(peer, link)
        finally:
            peer.connecting = None

    def _linked(self, peer: Peer, link: Link) -> None:
        if self._closing or self._peers.get(peer.name) is not peer:
            link.abort()
            return
        peer.link = link
        peer.connect_failed = False
        link.control(frame(Kind.HELLO, VERSION, self._name.encode()))
        link.control(pack_topics(Kind.SUBSCRIBE, 0, self._own))
        link.control(frame(Kind.SYNCED, self._batch))
        link.gap = peer.lossy
        peer.lossy = False
        self._confirm(peer)
        self._check_ready()

    def _link_lost(self, peer: Peer, link: Link) -> None:
        if peer.link is not link:
            return
        peer.link = None
        peer.lossy = True
        # Whatever it had confirmed must be confirmed again by whoever answers there next.
        peer.confirmed = peer.abandoned = -1
        if not self._closing and self._loop.time() - peer.tried_at > self._limits.ping_s / 10:
            self._connect(peer)

    def _forget(self, peer: Peer) -> None:
        """The peer is dead or has left. What it sent before is still read from its link."""
        if self._peers.get(peer.name) is not peer:
            return
        del self._peers[peer.name]
        self._routes.leave(peer.bit)
        link, peer.link = peer.link, None
        if link is not None:
            link.abort()
        self._settle()
        self._check_ready()

    def _tick(self) -> None:
        now = self._loop.time()
        # This worker was stopped itself: what the peers sent meanwhile has not been read yet.
        stopped = now - self._ticked_at > 2 * self._limits.ping_s
        self._ticked_at = now
        for peer in self._peers.values():
            if stopped:
                peer.heard_at = now
            peer.silent = now - peer.heard_at > self._limits.silent_s
            if peer.link is not None:
                peer.link.control(_PING)
            elif peer.connecting is None:
                self._connect(peer)
        self._ticker = self._loop.call_later(self._limits.ping_s, self._tick)

    def _all_synced(self) -> bool:
        return all(peer.synced and peer.link is not None for peer in self._peers.values())

    def _check_ready(self) -> None:
        if self._ready is not None and not self._ready.done() and self._all_synced():
            self._ready.set_result(None)

    # ------------------------------------------------------------ what peers send (link.Reader)

    def deliver(self, topic: Topic, data: bytes) -> None:
        if topic not in self._own:
            return
        try:
            self._on_message(topic, data)
        except Exception:
            logger.exception("bus: a message failed", topic=topic, size=len(data))

    def heard(self, inbound: Inbound, kind: int, number: int, body: bytes) -> None:
        if kind == Kind.HELLO:
            self._hello(inbound, number, body.decode())
            return
        peer = self._inbounds.get(inbound)
        if peer is None:
            inbound.refuse(f"frame {kind} before HELLO")
        elif kind == Kind.GAP:
            self._tell_gap()
        elif peer.inbound is not inbound or self._peers.get(peer.name) is not peer:
            return  # replaced by a newer link, or dead: its publishes still count, its requests do not
        elif kind in _HANDLERS:
            _HANDLERS[kind](self, peer, number, body)
        elif kind != Kind.PING:
            inbound.refuse(f"unknown frame {kind}")

    def _hello(self, inbound: Inbound, version: int, name: str) -> None:
        if version != VERSION:
            inbound.refuse(f"bus version {version} of {name}, here {VERSION}")
            return
        peer = self._peers.get(name) or self._meet(name)
        replaced = peer.inbound
        peer.inbound = inbound
        self._inbounds[inbound] = peer
        if replaced is not None:
            replaced.close()
            self._inbound_gone(peer)

    def _on_subscribe(self, peer: Peer, batch: int, body: bytes) -> None:
        peer.subscribed = True
        self._routes.add(peer.bit, unpack_topics(body))
        peer.owed = max(peer.owed, batch)

    def _on_unsubscribe(self, peer: Peer, number: int, body: bytes) -> None:
        self._routes.remove(peer.bit, unpack_topics(body))

    def _on_synced(self, peer: Peer, batch: int, body: bytes) -> None:
        peer.synced = True
        peer.owed = max(peer.owed, batch)
        peer.late = peer.late or (self._opened and peer.subscribed)
        self._check_ready()

    def _on_confirm(self, peer: Peer, batch: int, body: bytes) -> None:
        if peer.confirmed < peer.abandoned:
            self._tell_gap()
        peer.confirmed = batch
        self._settle()

    def _on_confirm_late(self, peer: Peer, batch: int, body: bytes) -> None:
        self._tell_gap()
        self._on_confirm(peer, batch, body)

    def _on_bye(self, peer: Peer, number: int, body: bytes) -> None:
        peer.inbound = None
        if peer.confirmed < peer.abandoned:
            self._tell_gap()
        self._forget(peer)

    def caught_up(self, inbound: Inbound) -> None:
        peer = self._inbounds.get(inbound)
        if peer is not None and peer.inbound is inbound:
            peer.heard_at = self._loop.time()
            peer.silent = False
            self._confirm(peer)

    def _confirm(self, peer: Peer) -> None:
        if peer.owed >= 0 and peer.link is not None:
            peer.link.control(frame(Kind.CONFIRM_LATE if peer.late else Kind.CONFIRM, peer.owed))
            peer.owed, peer.late = -1, False

    def began(self, inbound: Inbound) -> None:
        self._inbounds[inbound] = None

    def ended(self, inbound: Inbound) -> None:
        peer = self._inbounds.pop(inbound, None)
        if peer is not None and peer.inbound is inbound:
            peer.inbound = None
            self._inbound_gone(peer)
            if self._peers.get(peer.name) is not peer:
                self._tell_gap()

    def _inbound_gone(self, peer: Peer) -> None:
        """The gap is told when the peer's fate is known, so that it is told once and nothing is lost after it:
        when the link is made anew the peer sends GAP; when it is dead we find its socket refusing, and have read
        what it still sent (whichever is last)."""
        peer.synced = False
        peer.owed, peer.late = -1, False
        if peer.subscribed and self._peers.get(peer.name) is peer:
            self._routes.clear(peer.bit)
        peer.subscribed = False

    def _tell_gap(self) -> None:
        """Once for all the reasons of one loop turn. Who is subscribed to nothing has missed nothing."""
        if self._own and not self._gap_due:
            self._gap_due = True
            self._loop.call_soon(self._call_gap)

    def _call_gap(self) -> None:
        self._gap_due = False
        if self._closing:
            return
        try:
            self._on_gap()
        except Exception:
            logger.exception("bus: catching up after a gap failed")


_HANDLERS: dict[int, Callable[[LocalBus, Peer, int, bytes], None]] = {
    Kind.SUBSCRIBE: LocalBus._on_subscribe,
    Kind.UNSUBSCRIBE: LocalBus._on_unsubscribe,
    Kind.SYNCED: LocalBus._on_synced,
    Kind.CONFIRM: LocalBus._on_confirm,
    Kind.CONFIRM_LATE: LocalBus._on_confirm_late,
    Kind.BYE: LocalBus._on_bye,
}
