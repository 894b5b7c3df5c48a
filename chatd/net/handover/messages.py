"""What a worker and its successor say to each other while sessions move.

Owns: one struct per message, its bytes, and the version of all of them.
Elsewhere: the socket (net.handover.channel), when each is sent (net.handover.predecessor, net.handover.successor), the
parts that core knows (core.sessions.moving).
Fails: MalformedHandover for bytes that are none of these.

The successor says Hello first. If the predecessor speaks another version, nothing is handed over, and its sessions
drain. A field may be added with a default without a new version; anything else needs one.
"""

from __future__ import annotations

import msgspec

from chatd.core.sessions.moving import MovedSession, OfferedSession
from chatd.errors import ChatdError
from chatd.net.receipts import ReceiptsState
from chatd.net.websocket.frames import FrameReaderState
from chatd.wire.codec_state import CodecState

VERSION = 1

Ref = int
"""The number of an offered session, made by the predecessor. It is not used twice."""


class MalformedHandover(ChatdError):
    """Not a message of a handover. Whoever receives it ends the handover."""


# ---------------------------------------------------------------- from the successor


class Hello(msgspec.Struct, tag="hello", frozen=True, kw_only=True):
    """The first message, with the descriptors of the LockShare. lock_name: its name."""

    version: int
    lock_name: bytes


class Prepared(msgspec.Struct, tag="prepared", frozen=True, kw_only=True):
    """The successor is ready for these offered sessions, and not for any other of the same Offers."""

    offers: int
    refs: tuple[Ref, ...]


class Arrived(msgspec.Struct, tag="arrived", frozen=True, kw_only=True):
    """The session is served by the successor, or has ended there."""

    ref: Ref


# ---------------------------------------------------------------- from the predecessor


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """listener: the configured address where the client connected. socket: over UDP, the number of the socket
    (net.udp.listener), because an address can have several."""

    ref: Ref
    listener: str = ""
    socket: int = 0
    session: OfferedSession


class Offers(msgspec.Struct, tag="offers", frozen=True, kw_only=True):
    """Answered by Prepared with the same number."""

    number: int
    offers: tuple[Offer, ...]


class Withdrawn(msgspec.Struct, tag="withdrawn", frozen=True, kw_only=True):
    """These sessions stay, or have ended. They may be offered again under other numbers."""

    refs: tuple[Ref, ...]


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """See net.connection.Connection. out, paced: not yet given to the kernel. next_in_s: until the next paced frame.
    silent_s: since the client was heard. websocket: None on a plain stream."""

    codec: CodecState
    written: int
    out: tuple[bytes, ...] = ()
    paced: tuple[bytes, ...] = ()
    next_in_s: float = 0.0
    silent_s: float = 0.0
    receipts: ReceiptsState | None = None
    websocket: FrameReaderState | None = None


class MovedStream(msgspec.Struct, tag="stream", frozen=True, kw_only=True):
    """The session is the successor's; with the descriptor of its socket."""

    ref: Ref
    session: MovedSession
    stream: StreamState


class DatagramState(msgspec.Struct, frozen=True, kw_only=True):
    """See net.udp.peer.UdpPeer. address: as the socket module has it. waiting: datagrams not yet sent."""

    codec: CodecState
    address: tuple[str | int, ...]
    reply_from: tuple[tuple[int, int, bytes], ...] = ()
    token: bytes = b""
    silent_s: float = 0.0
    offset: int = 0
    waiting: tuple[bytes, ...] = ()


class MovedPeer(msgspec.Struct, tag="peer", frozen=True, kw_only=True):
    """The session is the successor's; its socket is one that both have."""

    ref: Ref
    session: MovedSession
    peer: DatagramState


class DatagramsLeft(msgspec.Struct, tag="datagrams-left", frozen=True):
    """The predecessor reads its UDP sockets no more."""


FromSuccessor = Hello | Prepared | Arrived
FromPredecessor = Offers | Withdrawn | MovedStream | MovedPeer | DatagramsLeft
HandoverMessage = FromSuccessor | FromPredecessor

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[HandoverMessage] = msgspec.msgpack.Decoder(HandoverMessage)


def encode(message: HandoverMessage) -> bytes:
    return _encoder.encode(message)


def decode(data: bytes | bytearray) -> HandoverMessage:
    """Raises MalformedHandover, with the reason."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedHandover(str(error)) from None
