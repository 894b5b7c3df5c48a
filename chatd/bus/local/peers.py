"""The other workers of this host: connecting to them, the links in both directions, and the effect of control frames.

Owns: the table of peers, connecting to them, finding out which of them hang or are dead, their subscriptions (routes),
and when they cause a gap here.
Elsewhere: frames and sockets (bus.local.frames, bus.local.link); waiting for confirmations (bus.local.confirmations);
publishing and delivering (bus.local.bus).
Fails: never. A peer that cannot be reached is tried again at every tick; one whose socket refuses is dead, and
forgotten.

Two links connect two workers, one in each direction, each made by its sender: nothing has to be negotiated when both
connect at the same moment. A new worker connects to every socket in the directory, and each of those workers connects
back. The first frames on a link are HELLO, the sender's whole set of subscriptions, and SYNCED.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Set
from pathlib import Path

from chatd import log, security_log
from chatd.background import BackgroundTasks
from chatd.bus.contract import Topic
from chatd.bus.lifecycle import Lifecycle
from chatd.bus.local.confirmations import Confirmations
from chatd.bus.local.frames import VERSION, FrameKind, frame, pack_topics, unpack_topics
from chatd.bus.local.link import IncomingLink, OutgoingLink, is_ours
from chatd.bus.local.peer import LocalLimits, LocalPeer
from chatd.bus.local.routes import Routes
from chatd.security_log import SecurityEvent

logger = log.get()

_PING = frame(FrameKind.PING, 0)


class LocalPeers:
    """The LinkListener of all incoming links."""

    def __init__(
        self,
        own_socket: Path,
        limits: LocalLimits,
        own_topics: Set[Topic],
        lifecycle: Lifecycle,
        report_gap: Callable[[], None],
    ) -> None:
        """own_socket: this worker's, in the directory of all of them. own_topics: a live view of this worker's
        subscriptions. report_gap: publishes of a peer may have been missed here."""
        self._loop = asyncio.get_running_loop()
        self._own_socket = own_socket
        self._limits = limits
        self._own_topics = own_topics
        self._lifecycle = lifecycle
        self._report_gap = report_gap
        self._peers: dict[str, LocalPeer] = {}
        self._incoming: dict[IncomingLink, LocalPeer | None] = {}
        """Every incoming link, and its peer once HELLO has come; also links whose peer is forgotten."""
        self._connecting = BackgroundTasks(self._loop)
        """Tasks that make links: at most one for each peer (LocalPeer.connecting)."""
        self._all_synced: asyncio.Future[None] | None = None
        """Done when every peer has told us its subscriptions; None unless meet() waits for it."""
        self._ticker: asyncio.TimerHandle | None = None
        self._ticked_at = self._loop.time()
        """Loop time of the last tick: a late tick means that this worker itself was stopped."""
        self.refused = 0
        """Connections with processes of other users, which were closed at once."""
        self.routes: Routes[LocalPeer] = Routes()
        self.confirmations = Confirmations(self._peers)

    def __iter__(self) -> Iterator[LocalPeer]:
        return iter(self._peers.values())

    # ------------------------------------------------------------ beginning and end

    async def meet(self, names: Iterable[str]) -> None:
        """Connect to these peers. Returns when all have told us their subscriptions, or after answer_s."""
        self._ticked_at = self._loop.time()
        self._ticker = self._loop.call_later(self._limits.ping_s, self._tick)
        for name in names:
            self._add(name)
        if not self._is_synced():
            self._all_synced = self._loop.create_future()
            await asyncio.wait([self._all_synced], timeout=self._limits.answer_s)

    async def close(self) -> None:
        """Everything queued is sent to every peer that reads within answer_s. Call once the lifecycle is closed."""
        if self._ticker is not None:
            self._ticker.cancel()
        await self._connecting.cancel()
        links = [peer.outgoing for peer in self if peer.outgoing is not None]
        if links:
            bye = frame(FrameKind.BYE, 0)
            await asyncio.wait([link.finish(bye) for link in links], timeout=self._limits.answer_s)
        for link in links:
            link.abort()
        for incoming in list(self._incoming):
            incoming.close()
        self._peers.clear()
        self.routes.clear_all()
        self.confirmations.release()

    def _is_synced(self) -> bool:
        return all(peer.synced and peer.outgoing is not None for peer in self)

    def _check_synced(self) -> None:
        if self._all_synced is not None and not self._all_synced.done() and self._is_synced():
            self._all_synced.set_result(None)

    # ------------------------------------------------------------ our links to them

    def send_to_all(self, control: bytes) -> None:
        """Peers without a link are told everything when they get one."""
        for peer in self:
            if peer.outgoing is not None:
                peer.outgoing.send_control(control)

    def _add(self, name: str) -> LocalPeer:
        peer = LocalPeer(name=name, heard_at=self._loop.time())
        peer.bit = self.routes.join(peer)
        self._peers[name] = peer
        self._connect(peer)
        return peer

    def _connect(self, peer: LocalPeer) -> None:
        peer.tried_at = self._loop.time()
        peer.connecting = self._connecting.start(self._make_link(peer))

    async def _make_link(self, peer: LocalPeer) -> None:
        path = self._own_socket.parent / peer.name
        try:
            transport, link = await self._loop.create_unix_connection(
                lambda: OutgoingLink(self._limits.queue_bytes, lambda lost: self._link_lost(peer, lost)), str(path)
            )
        except (ConnectionRefusedError, FileNotFoundError):
            # A socket has its final name only while somebody listens on it (bus.local.bus): this worker is dead.
            if peer.incoming is None:
                self._report_gap()
            self._forget(peer)
            with contextlib.suppress(OSError):
                path.unlink()
        except ConnectionResetError:
            logger.debug("bus: a worker died while connecting to it", peer=peer.name)  # the next tick finds out
        except OSError as error:
            peer.connect_failed = not isinstance(error, BlockingIOError)  # its backlog is full: it does not accept
            logger.warning("bus: cannot connect to a worker", peer=peer.name, why=str(error))
        else:
            if is_ours(transport):
                self._linked(peer, link)
            else:
                link.abort()
                self.link_refused(f"the socket {peer.name}")
                self._forget(peer)
        finally:
            peer.connecting = None

    def _linked(self, peer: LocalPeer, link: OutgoingLink) -> None:
        if self._lifecycle.is_closed or not self._is_current(peer):
            link.abort()
            return
        peer.outgoing = link
        peer.connect_failed = False
        link.send_control(frame(FrameKind.HELLO, VERSION, self._own_socket.name.encode()))
        link.send_control(pack_topics(FrameKind.SUBSCRIBE, 0, self._own_topics))
        link.send_control(frame(FrameKind.SYNCED, self.confirmations.batch))
        link.gap = peer.owes_gap
        peer.owes_gap = False
        self._confirm(peer)
        self._check_synced()

    def _link_lost(self, peer: LocalPeer, link: OutgoingLink) -> None:
        if peer.outgoing is not link:
            return
        peer.outgoing = None
        peer.owes_gap = True
        # Everything it had confirmed must be confirmed again by the worker at the next link.
        peer.confirmed = peer.abandoned = -1
        # A link that is lost as soon as it is made waits for the next tick.
        if not self._lifecycle.is_closed and self._loop.time() - peer.tried_at > self._limits.ping_s / 10:
            self._connect(peer)

    def _forget(self, peer: LocalPeer) -> None:
        """The peer is dead or has left. What it sent before is still read from its link."""
        if not self._is_current(peer):
            return
        del self._peers[peer.name]
        self.routes.leave(peer.bit)
        link, peer.outgoing = peer.outgoing, None
        if link is not None:
            link.abort()
        self.confirmations.release()
        self._check_synced()

    def _is_current(self, peer: LocalPeer) -> bool:
        return self._peers.get(peer.name) is peer

    def _tick(self) -> None:
        now = self._loop.time()
        # This worker itself was stopped: what the peers sent meanwhile has not been read yet.
        was_stopped = now - self._ticked_at > 2 * self._limits.ping_s
        self._ticked_at = now
        for peer in self:
            if was_stopped:
                peer.heard_at = now
            peer.silent = now - peer.heard_at > self._limits.silent_s
            if peer.outgoing is not None:
                peer.outgoing.send_control(_PING)
            elif peer.connecting is None:
                self._connect(peer)
        self._ticker = self._loop.call_later(self._limits.ping_s, self._tick)

    def _confirm(self, peer: LocalPeer) -> None:
        """Confirm what it has subscribed to. A confirmation is sent only after the batch is in force, so everything
        published later is routed to the peer."""
        if peer.to_confirm >= 0 and peer.outgoing is not None:
            kind = FrameKind.CONFIRM_LATE if peer.confirm_late else FrameKind.CONFIRM
            peer.outgoing.send_control(frame(kind, peer.to_confirm))
            peer.to_confirm, peer.confirm_late = -1, False

    # ------------------------------------------------------------ their links to us (link.LinkListener)

    def link_refused(self, what: str) -> None:
        self.refused += 1
        security_log.record(SecurityEvent.BUS_FORGERY, reason="another user of this host", place=what)

    def link_opened(self, link: IncomingLink) -> None:
        self._incoming[link] = None

    def control_frame(self, link: IncomingLink, kind: int, number: int, body: bytes) -> None:
        if kind == FrameKind.HELLO:
            self._hello(link, number, body.decode())
            return
        peer = self._incoming.get(link)
        if peer is None:
            link.refuse(f"frame {kind} before HELLO")
        elif kind == FrameKind.GAP:
            self._report_gap()
        elif peer.incoming is not link or not self._is_current(peer):
            return  # replaced by a newer link, or dead: its publishes still count, its requests do not
        elif kind in _HANDLERS:
            _HANDLERS[kind](self, peer, number, body)
        elif kind != FrameKind.PING:
            link.refuse(f"unknown frame {kind}")

    def read_done(self, link: IncomingLink) -> None:
        peer = self._incoming.get(link)
        if peer is not None and peer.incoming is link:
            peer.heard_at = self._loop.time()
            peer.silent = False
            self._confirm(peer)

    def link_closed(self, link: IncomingLink) -> None:
        peer = self._incoming.pop(link, None)
        if peer is not None and peer.incoming is link:
            peer.incoming = None
            self._incoming_lost(peer)
            if not self._is_current(peer):
                self._report_gap()

    def _incoming_lost(self, peer: LocalPeer) -> None:
        """The gap is reported once the fate of the peer is known, so that it is reported only once and nothing is lost
        after it. A living peer makes the link again and sends GAP. For a dead one we find that its socket refuses, and
        read what it had sent: the later of the two reports the gap."""
        peer.synced = False
        peer.to_confirm, peer.confirm_late = -1, False
        if peer.subscribed and self._is_current(peer):
            self.routes.clear(peer.bit)
        peer.subscribed = False

    def _hello(self, link: IncomingLink, version: int, name: str) -> None:
        if version != VERSION:
            link.refuse(f"bus version {version} of {name}, here {VERSION}")
            return
        peer = self._peers.get(name) or self._add(name)
        replaced = peer.incoming
        peer.incoming = link
        self._incoming[link] = peer
        if replaced is not None:
            replaced.close()
            self._incoming_lost(peer)

    def _on_subscribe(self, peer: LocalPeer, batch: int, body: bytes) -> None:
        peer.subscribed = True
        self.routes.add(peer.bit, unpack_topics(body))
        peer.to_confirm = max(peer.to_confirm, batch)

    def _on_unsubscribe(self, peer: LocalPeer, number: int, body: bytes) -> None:
        self.routes.remove(peer.bit, unpack_topics(body))

    def _on_synced(self, peer: LocalPeer, batch: int, body: bytes) -> None:
        peer.synced = True
        peer.to_confirm = max(peer.to_confirm, batch)
        peer.confirm_late = peer.confirm_late or (self._lifecycle.is_open and peer.subscribed)
        self._check_synced()

    def _on_confirm(self, peer: LocalPeer, batch: int, body: bytes) -> None:
        if peer.confirmed < peer.abandoned:
            self._report_gap()
        peer.confirmed = batch
        self.confirmations.release()

    def _on_confirm_late(self, peer: LocalPeer, batch: int, body: bytes) -> None:
        self._report_gap()
        self._on_confirm(peer, batch, body)

    def _on_bye(self, peer: LocalPeer, number: int, body: bytes) -> None:
        peer.incoming = None
        if peer.confirmed < peer.abandoned:
            self._report_gap()
        self._forget(peer)


_HANDLERS: dict[int, Callable[[LocalPeers, LocalPeer, int, bytes], None]] = {
    FrameKind.SUBSCRIBE: LocalPeers._on_subscribe,
    FrameKind.UNSUBSCRIBE: LocalPeers._on_unsubscribe,
    FrameKind.SYNCED: LocalPeers._on_synced,
    FrameKind.CONFIRM: LocalPeers._on_confirm,
    FrameKind.CONFIRM_LATE: LocalPeers._on_confirm_late,
    FrameKind.BYE: LocalPeers._on_bye,
}
