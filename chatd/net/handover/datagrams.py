"""A session over UDP that moves. Its socket is one that a worker and its successor both have.

Owns: DatagramMove, a session on its way out, and resumed(), one on its way in.
Elsewhere: which of the two workers reads the socket (net.udp.listener), when sessions move (net.handover.predecessor,
net.handover.successor).
Fails: a session that cannot leave is released, and ends as when its worker drains.
"""

from __future__ import annotations

from collections import deque
from typing import cast

from chatd.core.sessions.moving import OfferedSession
from chatd.core.sessions.session import Session
from chatd.net.handover.messages import DatagramState, Offer
from chatd.net.handover.notice_recorder import NoticeRecorder
from chatd.net.pktinfo import Address
from chatd.net.udp.listener import UdpListener
from chatd.net.udp.peer import UdpCodec, UdpPeer


class DatagramMove:
    """As net.handover.streams.StreamMove. Nothing is read from its socket any more while it is held."""

    def __init__(self, ref: int, peer: UdpPeer, session: Session, listener: UdpListener) -> None:
        self.ref = ref
        self.session = session
        self.told: list[str] = []
        self._peer = peer
        self._codec = peer.codec
        self._listener = listener
        self.has_left = False

    def listen(self) -> None:
        """From now on, note what the client is told."""
        self._peer.codec = cast(UdpCodec, NoticeRecorder(self._codec, self.told))

    def offer(self, session: OfferedSession) -> Offer:
        return Offer(ref=self.ref, socket=self._listener.number, session=session)

    def hold(self) -> None:
        """The listener does not read any more."""

    @property
    def is_ready(self) -> bool:
        """No command is being served or waits. False for one that has ended."""
        peer = self._peer
        return not (peer.closed or peer.busy or peer.waiting) and peer.session is self.session

    def release(self) -> None:
        """It stays. Idempotent."""
        if not self.has_left:
            self._peer.codec = self._codec

    def state(self) -> DatagramState:
        """For the successor. Raises ValueError: the wire has no sessions."""
        peer, codec = self._peer, self._codec.state()
        if codec is None:
            raise ValueError("a wire without sessions")
        return DatagramState(
            codec=codec,
            address=peer.address,
            reply_from=tuple(peer.reply_from),
            token=peer.token,
            silent_s=self._listener.connections.now() - peer.heard,
            offset=peer.offset,
            waiting=tuple(peer.queue or ()),
        )

    def descriptors(self) -> list[int]:
        """None goes with it."""
        return []

    def leave(self) -> None:
        """It is the successor's: forget it."""
        peer = self._peer
        self.has_left = True
        peer.closed = True
        peer.queue = peer.waiting = None
        peer.out_bytes = 0
        self._listener.forget(peer)


def resumed(listener: UdpListener, state: DatagramState) -> UdpPeer:
    """The session's peer as it was, known to its listener. Raises ValueError: the codec is of another wire."""
    codec = listener.new_codec()
    codec.resume(state.codec)
    peer = UdpPeer(listener, codec, list(state.reply_from), cast(Address, state.address), 0)
    peer.token = state.token
    peer.heard = listener.connections.now() - state.silent_s
    peer.offset = state.offset
    if state.waiting:
        peer.queue = deque(state.waiting)
        peer.out_bytes = sum(map(len, state.waiting))
        listener.connections.loop.call_soon(peer.send_queued)
    listener.adopt(peer)
    return peer
